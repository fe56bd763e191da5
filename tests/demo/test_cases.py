from collections import Counter

from rehost.demo.cases import EMPTY_CELLS, HOSTS, Behaviour, make_cases
from rehost.model import Reason, State


def test_there_are_200_cases_and_they_are_always_the_same():
    assert len(make_cases()) == 200
    assert make_cases() == make_cases()


def test_every_behaviour_has_a_host_with_links():
    links = Counter(case.host.behaviour for case in make_cases() if case.host is not None)

    assert set(links) == set(Behaviour)
    assert links == {host.behaviour: host.links for host in HOSTS}


def test_expected_results_cover_held_refused_deferred_and_empty():
    expected = Counter((case.expected.state, case.expected.reason) if case.expected else None for case in make_cases())

    assert expected[(State.HELD, None)] > 150
    assert expected[(State.REFUSED, Reason.GONE)] == 6
    assert expected[(State.REFUSED, Reason.DECOY)] == 4
    assert expected[(State.REFUSED, Reason.NOT_A_URL)] == 1
    assert expected[(State.DEFERRED, Reason.TRUNCATED)] == 1
    assert expected[None] == EMPTY_CELLS


def test_no_two_cases_share_a_link_or_title_and_brand():
    links = [case.link for case in make_cases() if case.link]
    names = [(case.brand.english, case.title.english) for case in make_cases()]

    assert len(links) == len(set(links))
    assert len(names) == len(set(names))


def test_some_extensions_are_wrong_as_on_real_sites():
    wrong = [case for case in make_cases() if case.host and not case.link.endswith(f".{case.format.value}")]

    assert wrong
