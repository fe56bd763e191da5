import pytest

from rehost.demo.cases import Fault
from rehost.demo.hosts import HOSTS, Manner
from rehost.demo.world import BUSY_CALLS

FOREIGN = "http://localhost:8000/"


def host(manner):
    return next(host for host in HOSTS if host.manner is manner)


def case_of(all_cases, manner, fault=None):
    return next(case for case in all_cases if case.host and case.host.manner is manner and case.fault is fault)


def ask(world, case, referer=None):
    return world.answer(case.host.name, case.path, referer)


@pytest.mark.parametrize(
    ("manner", "referer", "is_served"),
    [
        (Manner.OPEN, None, True),
        (Manner.OPEN, FOREIGN, True),
        (Manner.NO_FOREIGN, None, True),
        (Manner.NO_FOREIGN, FOREIGN, False),
        (Manner.NO_FOREIGN, "http://www.nostrangers.example/a", True),
        (Manner.OWN_SITE, None, False),
        (Manner.OWN_SITE, FOREIGN, False),
        (Manner.OWN_SITE, "http://oss.ownsite.example/", True),
        (Manner.OWN_SITE, "http://evilownsite.example/", False),
        (Manner.PAGE_WALL, "http://file.pagewall.example/", False),
        (Manner.PAGE_WALL, "https://www.pagewall.example/", True),
        (Manner.DECOY_WALL, None, False),
        (Manner.DECOY_WALL, "http://mmbiz.noticeboard.example/", True),
        (Manner.REDIRECT, FOREIGN, False),
        (Manner.REDIRECT, "http://www.detour.example/case/1", True),
        (Manner.LAPSED, "http://photo.lapsed.example/", False),
    ],
)
def test_a_host_gives_the_picture_to_whom_it_likes(world, posters, all_cases, manner, referer, is_served):
    case = case_of(all_cases, manner)

    answer = ask(world, case, referer)

    assert (answer.body == posters.path(case).read_bytes()) is is_served


@pytest.mark.parametrize(
    ("manner", "status", "media_type"),
    [
        (Manner.NO_FOREIGN, 403, "text/plain"),
        (Manner.OWN_SITE, 403, "text/plain"),
        (Manner.PAGE_WALL, 200, "text/html; charset=utf-8"),
        (Manner.DECOY_WALL, 200, "image/png"),
        (Manner.REDIRECT, 302, "text/plain"),
        (Manner.LAPSED, 200, "image/png"),
    ],
)
def test_each_host_refuses_in_its_own_way(world, all_cases, manner, status, media_type):
    answer = ask(world, case_of(all_cases, manner), FOREIGN)

    assert (answer.status, answer.media_type) == (status, media_type)


@pytest.mark.parametrize("manner", [Manner.DECOY_WALL, Manner.LAPSED])
def test_a_notice_is_the_same_for_every_link_even_an_impossible_one(world, all_cases, posters, manner):
    bodies = {ask(world, case).body for case in all_cases if case.host == host(manner)}
    bodies.add(world.answer(host(manner).name, "/impossible.png", None).body)

    assert bodies == {posters.notice.read_bytes()}


def test_the_busy_host_is_busy_for_its_first_callers_only(world, all_cases):
    case = case_of(all_cases, Manner.BUSY)

    statuses = [ask(world, case).status for _ in range(BUSY_CALLS + 1)]

    assert statuses == [429] * BUSY_CALLS + [200]
    world.forget()
    assert ask(world, case).headers["Retry-After"] == "1"


def test_the_flaky_host_fails_once_for_some(world, all_cases):
    here = [case for case in all_cases if case.host == host(Manner.FLAKY)]

    first = [ask(world, case).status for case in here]
    second = [ask(world, case).status for case in here]

    assert 503 in first
    assert second == [200] * len(here)


@pytest.mark.parametrize(("fault", "status"), [(Fault.DEAD, 404), (Fault.REMOVED, 410)])
def test_dead_links_are_dead(world, all_cases, fault, status):
    assert ask(world, case_of(all_cases, Manner.OPEN, fault)).status == status


def test_a_path_that_never_was_is_404(world):
    assert world.answer(host(Manner.OPEN).name, "/upload/never.png", None).status == 404


def test_a_host_that_is_not_played_is_misdirected(world):
    assert world.answer("www.example.com", "/", None).status == 421
