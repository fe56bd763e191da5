"""What learning costs an origin, over many workers and runs; the origin counts the requests."""

import asyncio

import pytest
from tests.hotlink.learning import HOST, urls, worker
from tests.misbehaviours import NOTICE
from tests.pictures import picture

from rehost.hotlink.origin_state import EXTRA_REQUESTS, MOST_WAIT_SECONDS
from rehost.hotlink.repository import OriginRepository, Spending
from rehost.model import Format, Reason


@pytest.fixture
def spools(tmp_path):
    folder = tmp_path / "spools"
    folder.mkdir()
    return folder


def sql(database, name):
    return OriginRepository(database, worker=name, lease_seconds=60.0)


@pytest.mark.parametrize("behaviour", ["demands-any-page", "demands-www-page", "permissive"])
async def test_workers_that_meet_an_origin_at_once_learn_it_once(spools, database, behaviour):
    links = urls(behaviour, 24)
    async with worker(spools, origins=sql(database, "one")) as one:
        crew = [one, one.beside(sql(database, "two")), one.beside(sql(database, "three"))]
        got = await asyncio.gather(*(each.outcomes(links[n::3]) for n, each in enumerate(crew)))

        assert [got[n % 3][n // 3] for n in range(24)] == [one.origin.picture(link) for link in links]
        # Each worker's first link may have been asked before it could know that another one was at it.
        assert one.extra(*links) <= EXTRA_REQUESTS + 2
        assert one.left_behind() == []


@pytest.mark.parametrize("behaviour", ["forbidden", "html-page"])
async def test_an_origin_that_refuses_everything_costs_five_extra_requests_over_all_workers_and_runs(
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


async def test_shared_pictures_cost_five_extra_requests_over_all_runs(spools, database):
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


async def test_workers_that_see_an_origin_turn_at_once_learn_it_anew_once(spools, database):
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
        assert sum(isinstance(each, bytes) for each in given) >= 30 - 2 * 3  # who was refused before it was doubted
        assert one.pauses == two.pauses == []
        assert (await one.origins.rule(f"http://{HOST}")).referer == "page"
        assert before <= EXTRA_REQUESTS


async def test_links_that_were_in_flight_when_an_origin_turned_are_asked_again_under_its_new_rule(spools):
    behaviour = "permissive"
    links = urls("a", 40)
    async with worker(spools, lambda *_: behaviour) as at:
        await at.outcomes(links[:10])
        behaviour = "demands-own-site"
        got = await at.outcomes(links[10:])

        pictures = [at.origin.picture(link) for link in links[10:]]
        refused = [each for each in got if isinstance(each, Reason)]
        assert len(refused) <= 2  # who was refused before it was doubted
        assert [each for each in got if isinstance(each, bytes)] == [
            picture for each, picture in zip(got, pictures, strict=True) if isinstance(each, bytes)
        ]
        assert at.rule() == "origin"


async def test_a_decoy_that_one_worker_unmasked_is_known_to_the_others(spools, database):
    links = urls("a", 12)
    async with worker(spools, lambda *_: NOTICE, origins=sql(database, "one")) as one:
        two = one.beside(sql(database, "two"))
        got = await asyncio.gather(one.outcomes(links[:6]), two.outcomes(links[6:]))

        assert {each for some in got for each in some} == {Reason.DECOY}
        assert one.extra(*links) <= EXTRA_REQUESTS


async def test_an_origin_that_another_worker_goes_on_and_on_learning_is_waited_for_once_and_its_links_later(spools):
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


async def test_a_wait_for_another_worker_that_came_to_its_end_does_not_shorten_the_next_one(spools):
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
