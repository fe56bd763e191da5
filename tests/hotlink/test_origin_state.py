"""The states of an origin, and what learning costs it over many workers and runs (the origin counts the requests)."""

import asyncio

import pytest
from tests.fakes import FakeClock, FakeOriginRepository
from tests.hotlink.learning import HOST, urls, worker
from tests.misbehaviours import NOTICE
from tests.pictures import picture

from rehost.hotlink.origin_state import (
    EXTRA_REQUESTS,
    FIRST_REST,
    MOST_WAIT_SECONDS,
    REFUSALS_IN_A_ROW,
    OriginState,
    OriginTrust,
    ProbeBudget,
)
from rehost.hotlink.repository import KnownGoodLink, OriginRepository, Spending
from rehost.model import Format, Reason

ONE, TWO = (KnownGoodLink(f"http://{HOST}/{name}.jpg", None, name * 64) for name in "ab")


@pytest.fixture
def origin():
    return OriginState(f"http://{HOST}", ProbeBudget(f"http://{HOST}", FakeOriginRepository(), FakeClock()))


def refuse(origin, times=REFUSALS_IN_A_ROW):
    for _ in range(times):
        origin.refuse()


def test_origin_is_trusted_after_its_first_image_and_settled_after_two_different_ones(origin):
    assert (origin.trust, origin.is_settled) == (OriginTrust.UNKNOWN, False)

    origin.accept(ONE)
    origin.accept(ONE)
    assert (origin.trust, origin.is_settled) == (OriginTrust.TRUSTED, False)

    origin.accept(TWO)
    assert (origin.trust, origin.is_settled) == (OriginTrust.TRUSTED, True)


def test_refusals_in_a_row_make_an_origin_doubted_until_the_next_image(origin):
    origin.accept(ONE)
    refuse(origin, REFUSALS_IN_A_ROW - 1)
    assert (origin.trust, origin.needs_check()) == (OriginTrust.DOUBTED, False)

    refuse(origin, 1)
    assert origin.needs_check()

    origin.accept(ONE)
    assert (origin.trust, origin.needs_check()) == (OriginTrust.TRUSTED, False)


def test_confirmed_origin_stays_confirmed_and_is_checked_half_as_soon(origin):
    origin.accept(ONE)
    refuse(origin)
    origin.confirm_rule()

    refuse(origin, 2 * REFUSALS_IN_A_ROW - 1)
    assert (origin.trust, origin.needs_check()) == (OriginTrust.CONFIRMED, False)
    refuse(origin, 1)
    assert origin.needs_check()


def test_forgotten_origin_is_learned_from_nothing(origin):
    origin.accept(ONE)
    origin.accept(TWO)
    origin.rule = "none"

    origin.forget()

    assert (origin.trust, origin.rule, origin.is_settled) == (OriginTrust.UNKNOWN, None, False)
    assert origin.good_link() is None


def test_each_rest_in_a_row_is_twice_as_long_until_the_next_image(origin):
    assert [origin.rest(now=0.0), origin.rest(now=0.0)] == [FIRST_REST, 2 * FIRST_REST]
    assert (origin.trust, origin.resting_until) == (OriginTrust.RESTING, 2 * FIRST_REST)

    origin.accept(ONE)
    assert origin.trust is OriginTrust.TRUSTED
    assert origin.rest(now=0.0) == FIRST_REST


def test_rule_of_another_worker_is_trusted_and_its_loss_is_followed(origin):
    origin.take_rule("page")
    assert (origin.trust, origin.rule) == (OriginTrust.TRUSTED, "page")

    origin.take_rule(None)
    assert (origin.trust, origin.rule) == (OriginTrust.UNKNOWN, None)


@pytest.mark.parametrize(
    ("place", "is_decoy"),
    [
        ("/a/", True),
        ("/a/b/", False),
        ("/", False),
        ("/w/", True),
        ("/w/2020/", True),
        ("/ww/", False),
        ("/w/ evil.test", False),
        ("/a/ evil.test", False),
        ("/r/ evil.test", True),
        ("/r/", False),
    ],
)
def test_decoy_belongs_to_its_folder_or_to_all_below_or_to_the_site_that_a_redirect_led_to(origin, place, is_decoy):
    origin.add_decoys({"d": ["/a/", "/w/*", "/r/ evil.test"]})

    assert origin.is_decoy_at(place, "d") is is_decoy
    assert not origin.is_decoy_at(place, "e")


def test_decoy_is_new_once_for_each_folder(origin):
    origin.add_decoys({"d": ["/a/"]})
    assert origin.new_decoys() == {"d"}

    origin.add_decoys({"d": ["/a/"]})
    assert origin.new_decoys() == set()

    origin.add_decoys({"d": ["/b/"]})
    assert origin.new_decoys() == {"d"}


@pytest.fixture
def spools(tmp_path):
    folder = tmp_path / "spools"
    folder.mkdir()
    return folder


def sql(database, name):
    return OriginRepository(database, worker=name, lease_seconds=60.0)


@pytest.mark.parametrize("behaviour", ["demands-any-page", "demands-www-page", "permissive"])
async def test_workers_that_start_at_an_origin_together_learn_it_once(spools, database, behaviour):
    links = urls(behaviour, 24)
    async with worker(spools, origins=sql(database, "one")) as one:
        crew = [one, one.beside(sql(database, "two")), one.beside(sql(database, "three"))]
        got = await asyncio.gather(*(each.outcomes(links[n::3]) for n, each in enumerate(crew)))

        assert [got[n % 3][n // 3] for n in range(24)] == [one.origin.picture(link) for link in links]
        # Each worker may have asked for its first link before it could know that another one was learning.
        assert one.extra(*links) <= EXTRA_REQUESTS + 2
        assert one.left_behind() == []


@pytest.mark.parametrize("behaviour", ["forbidden", "html-page"])
async def test_origin_that_refuses_everything_costs_five_extra_requests_over_all_workers_and_runs(
    spools, database, behaviour
):
    links = urls(behaviour, 30)
    async with worker(spools, origins=sql(database, "one")) as one:
        two = one.beside(sql(database, "two"))
        for start in range(0, 30, 10):
            await asyncio.gather(one.outcomes(links[start : start + 5]), two.outcomes(links[start + 5 : start + 10]))
            one.restart()
            two.restart()

        assert one.extra(*links) <= EXTRA_REQUESTS


async def test_shared_images_cost_five_extra_requests_over_all_runs(spools, database):
    links = [f"http://{HOST}/brand/{brand}/logo.png?size={size}" for brand in range(12) for size in range(3)]
    names = {"/" + link.split("/", 3)[3] for link in links}

    def play(host, path, headers):
        return picture(1000 + int(path.split("/")[2]), Format.PNG) if path in names else "not-found"

    async with worker(spools, play, origins=sql(database, "one")) as one:
        runs = range(0, 36, 6)
        for start in runs:
            got = await one.outcomes(links[start : start + 6])
            assert not [answer for answer in got if isinstance(answer, Reason)]
            one.restart()

        assert one.extra(*links) <= EXTRA_REQUESTS


async def test_workers_that_find_an_origin_changed_together_learn_it_again_once(spools, database):
    behaviour = "permissive"
    links = urls("a", 40)
    async with worker(spools, lambda *_: behaviour, origins=sql(database, "one")) as one:
        two = one.beside(sql(database, "two"))
        await one.outcomes(links[:5])
        await two.outcomes(links[5:10])
        before = one.extra(*links[:10])
        behaviour = "demands-any-page"
        got = await asyncio.gather(one.outcomes(links[10:25]), two.outcomes(links[25:]))

        pictures = [one.origin.picture(link) for link in links[10:]]
        given = got[0] + got[1]
        assert [each for each in given if isinstance(each, bytes)] == [
            picture for each, picture in zip(given, pictures, strict=True) if isinstance(each, bytes)
        ]
        assert sum(isinstance(each, bytes) for each in given) >= 30 - 2 * 3  # refused before the origin was checked
        assert one.pauses == two.pauses == []
        assert (await one.origins.rule(f"http://{HOST}")).referer == "page"
        assert before <= EXTRA_REQUESTS


async def test_links_in_flight_when_an_origin_changed_are_asked_for_again_under_its_new_rule(spools):
    behaviour = "permissive"
    links = urls("a", 40)
    async with worker(spools, lambda *_: behaviour) as at:
        await at.outcomes(links[:10])
        behaviour = "demands-own-site"
        got = await at.outcomes(links[10:])

        pictures = [at.origin.picture(link) for link in links[10:]]
        refused = [each for each in got if isinstance(each, Reason)]
        assert len(refused) <= 2  # refused before the origin was checked
        assert [each for each in got if isinstance(each, bytes)] == [
            picture for each, picture in zip(got, pictures, strict=True) if isinstance(each, bytes)
        ]
        assert at.rule() == "origin"


async def test_decoy_that_one_worker_proved_is_known_to_the_others(spools, database):
    links = urls("a", 12)
    async with worker(spools, lambda *_: NOTICE, origins=sql(database, "one")) as one:
        two = one.beside(sql(database, "two"))
        got = await asyncio.gather(one.outcomes(links[:6]), two.outcomes(links[6:]))

        assert {each for some in got for each in some} == {Reason.DECOY}
        assert one.extra(*links) <= EXTRA_REQUESTS


async def test_links_of_an_origin_that_another_worker_learns_for_too_long_are_left_for_later(spools):
    async def elsewhere(*_):
        return Spending.ELSEWHERE

    links = urls("demands-any-page", 3)
    async with worker(spools) as at:
        at.origins.spend = elsewhere
        async with asyncio.timeout(20):
            got = await at.outcomes(links)

        assert got == [Reason.THROTTLED] * 3
        assert at.extra(*links) == 0
        assert sum(at.clock.slept) == MOST_WAIT_SECONDS
        assert at.left_behind() == []


async def test_finished_wait_for_another_worker_does_not_shorten_the_next_one(spools):
    async with worker(spools) as at:
        spend, wait = at.origins.spend, MOST_WAIT_SECONDS * 0.75

        def learns_until(end):
            async def spend_then(*how):
                return Spending.ELSEWHERE if at.clock.monotonic() < end else await spend(*how)

            return spend_then

        for number, behaviour in enumerate(("demands-own-site", "demands-any-page")):
            (link,) = urls(behaviour, 1, start=number + 1)
            at.origins.spend = learns_until(at.clock.monotonic() + wait)

            assert await at.outcome(link) is not Reason.THROTTLED
        assert sum(at.clock.slept) == 2 * wait
