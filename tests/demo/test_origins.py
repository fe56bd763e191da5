import http.client

import pytest

from rehost.demo.cases import HOSTS, Behaviour, Fault
from rehost.demo.origins import ADDRESS, Shown, serve_origins

FOREIGN = "http://localhost:8000/"


def host(behaviour):
    return next(host for host in HOSTS if host.behaviour is behaviour)


def case_of(all_cases, behaviour, fault=None):
    return next(case for case in all_cases if case.host and case.host.behaviour is behaviour and case.fault is fault)


def ask(origins, case, referer=None):
    return origins.answer(case.host.name, case.path, referer)


@pytest.mark.parametrize(
    ("behaviour", "referer", "is_served"),
    [
        (Behaviour.OPEN, None, True),
        (Behaviour.OPEN, FOREIGN, True),
        (Behaviour.NO_FOREIGN, None, True),
        (Behaviour.NO_FOREIGN, FOREIGN, False),
        (Behaviour.NO_FOREIGN, "http://www.nostrangers.example/a", True),
        (Behaviour.OWN_SITE, None, False),
        (Behaviour.OWN_SITE, FOREIGN, False),
        (Behaviour.OWN_SITE, "http://oss.ownsite.example/", True),
        (Behaviour.OWN_SITE, "http://evilownsite.example/", False),
        (Behaviour.PAGE_WALL, "http://file.pagewall.example/", False),
        (Behaviour.PAGE_WALL, "https://www.pagewall.example/", True),
        (Behaviour.DECOY_WALL, None, False),
        (Behaviour.DECOY_WALL, "http://mmbiz.noticeboard.example/", True),
        (Behaviour.REDIRECT, FOREIGN, False),
        (Behaviour.REDIRECT, "http://www.detour.example/case/1", True),
        (Behaviour.LAPSED, "http://photo.lapsed.example/", False),
    ],
)
def test_host_sends_the_picture_to_welcome_referers_only(origins, pictures, all_cases, behaviour, referer, is_served):
    case = case_of(all_cases, behaviour)

    answer = ask(origins, case, referer)

    assert (answer.body == pictures.path(case).read_bytes()) is is_served


@pytest.mark.parametrize(
    ("behaviour", "status", "media_type"),
    [
        (Behaviour.NO_FOREIGN, 403, "text/plain"),
        (Behaviour.OWN_SITE, 403, "text/plain"),
        (Behaviour.PAGE_WALL, 200, "text/html; charset=utf-8"),
        (Behaviour.DECOY_WALL, 200, "image/png"),
        (Behaviour.REDIRECT, 302, "text/plain"),
        (Behaviour.LAPSED, 200, "image/png"),
    ],
)
def test_each_host_refuses_in_its_own_way(origins, all_cases, behaviour, status, media_type):
    answer = ask(origins, case_of(all_cases, behaviour), FOREIGN)

    assert (answer.status, answer.media_type) == (status, media_type)


@pytest.mark.parametrize("behaviour", [Behaviour.DECOY_WALL, Behaviour.LAPSED])
def test_placeholder_is_the_same_for_every_link_even_an_impossible_one(origins, all_cases, pictures, behaviour):
    bodies = {ask(origins, case).body for case in all_cases if case.host == host(behaviour)}
    bodies.add(origins.answer(host(behaviour).name, "/impossible.png", None).body)

    assert bodies == {pictures.placeholder.read_bytes()}


def test_busy_host_refuses_its_first_request_only(origins, all_cases):
    case = case_of(all_cases, Behaviour.BUSY)

    statuses = [ask(origins, case).status for _ in range(2)]

    assert statuses == [429, 200]
    origins.reset()
    assert ask(origins, case).headers["Retry-After"] == "1"


def test_flaky_host_fails_once_for_some_pictures(origins, all_cases):
    here = [case for case in all_cases if case.host == host(Behaviour.FLAKY)]

    first = [ask(origins, case).status for case in here]
    second = [ask(origins, case).status for case in here]

    assert 503 in first
    assert second == [200] * len(here)


@pytest.mark.parametrize(("fault", "status"), [(Fault.DEAD, 404), (Fault.REMOVED, 410)])
def test_dead_link_is_404_or_410(origins, all_cases, fault, status):
    assert ask(origins, case_of(all_cases, Behaviour.OPEN, fault)).status == status


def test_unknown_path_is_404(origins):
    assert origins.answer(host(Behaviour.OPEN).name, "/upload/never.png", None).status == 404


def test_unknown_host_is_421_misdirected(origins):
    assert origins.answer("www.example.com", "/", None).status == 421


def test_foreign_page_shows_pictures_of_lenient_hosts_only(origins, all_cases):
    shown = {
        behaviour: {
            origins.shown(case, FOREIGN)
            for case in all_cases
            if case.host and case.host.behaviour is behaviour and not case.fault
        }
        for behaviour in Behaviour
    }

    assert shown[Behaviour.OPEN] == shown[Behaviour.SLOW] == {Shown.PICTURE}
    for behaviour in (Behaviour.NO_FOREIGN, Behaviour.OWN_SITE, Behaviour.PAGE_WALL):
        assert shown[behaviour] == {Shown.BROKEN}
    for behaviour in (Behaviour.DECOY_WALL, Behaviour.REDIRECT, Behaviour.LAPSED):
        assert shown[behaviour] == {Shown.PLACEHOLDER}


def test_counts_do_not_depend_on_the_order(origins, all_cases):
    linked = [case for case in all_cases if case.link]
    counts = []
    for cases in (linked, linked[::-1]):
        shown = [origins.shown(case, FOREIGN) for case in cases]
        counts.append([shown.count(each) for each in Shown])
        origins.reset()

    assert counts[0] == counts[1]
    assert sum(counts[0]) == len(linked)


def test_faulty_link_never_shows(origins, all_cases):
    assert {origins.shown(case, FOREIGN) for case in all_cases if case.fault not in {None, Fault.DAMAGED}} == {
        Shown.BROKEN
    }


@pytest.mark.parametrize("behaviour", [Behaviour.OPEN, Behaviour.SLOW, Behaviour.OWN_SITE])
def test_server_sends_what_the_host_answers(origins, all_cases, behaviour):
    case = case_of(all_cases, behaviour)
    expected = ask(origins, case)

    with serve_origins(origins) as port:
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=10)
        connection.request("GET", case.path, headers={"Host": case.host.name})
        response = connection.getresponse()
        body = response.read()
        connection.close()

    assert (response.status, response.getheader("Content-Type"), body) == (
        expected.status, expected.media_type, expected.body
    )  # fmt: skip
