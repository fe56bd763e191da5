"""The extra requests of an origin over all workers and runs, on both databases."""

from __future__ import annotations

import asyncio
import string
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from tests.databases import add_cases, execute, put_ahead, stored

from rehost.hosts.shares import HostShares
from rehost.hotlink.repository import CONFIRM_SECONDS, Evidence, Forgotten, OriginRepository, Spending
from rehost.model import Rule

ORIGIN = "https://a.example"
FOLDER = "/x/"
GRANTED, USED_UP, ELSEWHERE = Spending.GRANTED, Spending.USED_UP, Spending.ELSEWHERE
CROWDED_OUT = Spending.CROWDED_OUT

LINKS = ["https://a.example/1", "https://a.example/2", "https://a.example/3", "https://b.example/4"]


def worker(database, name: str, lease_seconds: float = 60.0) -> OriginRepository:
    return OriginRepository(database, worker=name, lease_seconds=lease_seconds)


async def spend(origins, times: int = 1) -> list[Spending]:
    return [await origins.spend(ORIGIN, FOLDER, 5, 15, None) for _ in range(times)]


async def test_extra_requests_of_an_origin_are_one_budget_over_all_workers(database):
    one, two = worker(database, "one"), worker(database, "two")

    assert await spend(one, 3) == [GRANTED] * 3
    await one.end_learning(ORIGIN)

    assert await spend(two, 3) == [GRANTED, GRANTED, USED_UP]
    assert await spend(one) == [USED_UP]


async def test_one_worker_at_a_time_learns_an_origin(database):
    crew = [worker(database, str(number)) for number in range(4)]

    got = await asyncio.gather(*(each.spend(ORIGIN, FOLDER, 5, 15, None) for each in crew))

    assert sorted(each.value for each in got) == ["elsewhere"] * 3 + ["granted"]
    first = crew[got.index(GRANTED)]
    others = [each for each in crew if each is not first]
    assert await spend(others[0]) == [ELSEWHERE]
    await others[0].end_learning(ORIGIN)  # the origin is not its own
    assert await spend(others[1]) == [ELSEWHERE]
    await first.end_learning(ORIGIN)
    assert await spend(others[1]) == [GRANTED]


async def test_worker_that_left_or_was_silent_for_a_lease_holds_no_origin(database):
    leaving, silent, alive = worker(database, "a"), worker(database, "b", lease_seconds=-1.0), worker(database, "c")

    assert await spend(leaving) == [GRANTED]
    await HostShares(database, worker="a", concurrency=10, lease_seconds=60.0).leave()
    assert await spend(silent) == [GRANTED]
    assert await spend(alive) == [GRANTED]


async def test_worker_that_died_while_the_clock_was_ahead_holds_no_origin(database):
    assert await spend(worker(database, "dead")) == [GRANTED]
    await put_ahead(database, "rehost_learnings", "busy_until")

    assert await spend(worker(database, "alive")) == [GRANTED]


async def test_budget_used_up_while_the_clock_was_ahead_is_fresh(database):
    one = worker(database, "one")
    assert await spend(one, 6) == [GRANTED] * 5 + [USED_UP]
    await put_ahead(database, "rehost_learnings", "fresh_at")

    assert await spend(one, 6) == [GRANTED] * 5 + [USED_UP]


async def test_used_up_budget_becomes_fresh_by_itself(database):
    one = worker(database, "one")
    assert await spend(one, 6) == [GRANTED] * 5 + [USED_UP]

    moment = "now() - interval '1 second'" if not database.is_sqlite else "unixepoch('now') - 1"
    await execute(database, f"UPDATE rehost_learnings SET fresh_at = {moment}")

    assert await spend(one, 6) == [GRANTED] * 5 + [USED_UP]


async def test_renewed_budget_is_fresh_after_its_delay_and_not_before(database):
    one, two = worker(database, "one"), worker(database, "two")
    await spend(one, 5)
    await one.renew_budget(ORIGIN, 3600.0)
    await two.renew_budget(ORIGIN, 7200.0)

    assert await spend(one) == [USED_UP]

    await two.renew_budget(ORIGIN, 0.0)
    assert await spend(one) == [GRANTED]


async def test_request_that_was_not_granted_is_not_counted(database):
    one = worker(database, "one")

    assert {await one.spend(ORIGIN, FOLDER, 5, 15, "page") for _ in range(6)} == {ELSEWHERE}
    assert await spend(one, 5) == [GRANTED] * 5
    assert {await one.spend(ORIGIN, FOLDER, 4, 15, None) for _ in range(3)} == {USED_UP}
    await one.renew_budget(ORIGIN, 0.0)
    assert await spend(one, 6) == [GRANTED] * 5 + [USED_UP]


async def test_good_links_of_a_host_are_held_ones_with_different_images(peer):
    await add_cases(peer.database, LINKS)
    await peer.note()
    digests = {"1": "e" * 64, "2": "e" * 64, "3": "f" * 64, "4": "e" * 64}
    await peer.record(1, [stored(task, digests[task.link.row_key]) for task in await peer.lease_all()])
    await add_cases(peer.database, ["https://a.example/5"], first=5)
    await peer.note()
    origins = OriginRepository(peer.database, worker="one", lease_seconds=60.0)

    found = await origins.good_links("a.example")

    assert {each.digest for each in found} == {"e" * 64, "f" * 64}
    assert {each.url for each in found} <= set(LINKS[:3])
    assert [each.url for each in await origins.good_links("b.example")] == [LINKS[3]]
    assert await origins.good_links("c.example") == []


async def test_links_that_a_redirect_led_to_another_site_are_no_good_links(peer):
    await add_cases(peer.database, LINKS[:3])
    await peer.note()
    ends = {"1": "https://evil.test/1", "2": "https://cdn.a.example/2", "3": LINKS[2]}
    outcomes = [stored(task, task.link.row_key * 64) for task in await peer.lease_all()]
    await peer.record(1, [replace(each, final_url=ends[each.task.link.row_key]) for each in outcomes])
    origins = OriginRepository(peer.database, worker="one", lease_seconds=60.0)

    assert {link.url for link in await origins.good_links("a.example")} == set(LINKS[1:3])


async def test_decoy_is_open_to_a_second_control_only_after_a_while(database):
    origins = worker(database, "one")
    await origins.add_decoy(ORIGIN, "/a/", "d" * 64, "comes for a path where nothing is")
    assert await origins.evidence(ORIGIN, "/a/", "d" * 64) is Evidence.FIRST

    before = "now() - interval '16 minutes'" if not database.is_sqlite else f"unixepoch('now') - {CONFIRM_SECONDS + 1}"
    await execute(database, f"UPDATE rehost_decoys SET learned_at = {before}")

    assert await origins.evidence(ORIGIN, "/a/", "d" * 64) is Evidence.STANDING


async def test_what_was_learned_of_a_host_is_forgotten_and_learning_begins_anew(database):
    one, two = worker(database, "one"), worker(database, "two")
    theirs, other = "http://a.example:8080", "https://b.a.example"
    for origin in (ORIGIN, other):
        await one.save_rule(Rule(origin, "page", "status 403", datetime.now(UTC)))
    await one.add_decoy(theirs, "/x/", "d" * 64, "comes for anything")
    await one.spend(ORIGIN, FOLDER, 1, 15, "page")
    await one.end_learning(ORIGIN)

    learned = await two.learned("a.example")
    assert set(learned) == {ORIGIN, ORIGIN + FOLDER, theirs}
    assert await two.forget(learned) == Forgotten(rules=1, decoys=1)

    assert await two.rule(ORIGIN) is None
    assert await two.decoys(theirs) == {}
    assert await spend(two) == [GRANTED]
    assert (await two.rule(other)).referer == "page"
    assert await two.forget([]) == Forgotten(0, 0)


async def test_links_of_one_folder_do_not_use_up_the_extra_requests_of_others(database):
    one, two = worker(database, "one"), worker(database, "two")

    async def of(worker, folder, times):
        return [await worker.spend(ORIGIN, folder, 5, 8, None) for _ in range(times)]

    assert await of(one, "/x/", 7) == [GRANTED] * 5 + [USED_UP] * 2
    await one.end_learning(ORIGIN)
    assert await of(two, "/y/", 4) == [GRANTED] * 3 + [CROWDED_OUT]
    assert await of(two, "/z/", 1) == [CROWDED_OUT]
    await two.renew_budget(ORIGIN, 0.0)
    assert await of(two, "/x/", 6) == [GRANTED] * 5 + [USED_UP]


async def test_a_folder_with_a_name_too_long_for_an_index_costs_no_error(database):
    random, one = Random(1), worker(database, "one")
    folder = "/" + "".join(random.choices(string.ascii_letters, k=30_000)) + "/"

    assert await one.spend(ORIGIN, folder, 1, 15, None) == GRANTED
    assert await one.spend(ORIGIN, folder, 1, 15, None) == USED_UP
    await one.add_decoy(ORIGIN, folder, "d" * 64, "comes for anything")
