from collections import Counter

from rehost.demo.cases import WITHOUT_PICTURE, cases
from rehost.demo.hosts import HOSTS, Manner
from rehost.model import Reason, State


def test_there_are_200_cases_and_they_are_always_the_same():
    assert len(cases()) == 200
    assert cases() == cases()


def test_every_manner_has_a_host_with_cases():
    met = Counter(case.host.manner for case in cases() if case.host is not None)

    assert set(met) == set(Manner)
    assert met == {host.manner: host.cases for host in HOSTS}


def test_what_is_planned_covers_held_refused_deferred_and_empty():
    planned = Counter((case.plan.state, case.plan.reason) if case.plan else None for case in cases())

    assert planned[(State.HELD, None)] > 150
    assert planned[(State.REFUSED, Reason.GONE)] == 6
    assert planned[(State.REFUSED, Reason.DECOY)] == 4
    assert planned[(State.REFUSED, Reason.NOT_A_URL)] == 1
    assert planned[(State.DEFERRED, Reason.TRUNCATED)] == 1
    assert planned[None] == WITHOUT_PICTURE


def test_no_two_cases_share_a_link_or_title_and_brand():
    links = [case.link for case in cases() if case.link]
    names = [(case.brand.name.english, case.title.english) for case in cases()]

    assert len(links) == len(set(links))
    assert len(names) == len(set(names))


def test_some_endings_lie_as_in_the_wild():
    lying = [case for case in cases() if case.host and not case.link.endswith(f".{case.format.value}")]

    assert lying
