"""How workers share the requests that hosts take, and their daily budgets, on both databases."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from tests.databases import execute, put_ahead

from rehost.hosts.shares import DailyQuota, HostShares, fair_slots

HOST = "a.example"


def worker(database, name: str, concurrency: int = 10, lease_seconds: float = 60.0) -> HostShares:
    return HostShares(database, worker=name, concurrency=concurrency, lease_seconds=lease_seconds)


@pytest.fixture
def shares(database) -> HostShares:
    return worker(database, "one")


async def test_an_unproven_host_has_one_slot_over_all_workers(database):
    one, two = worker(database, "one"), worker(database, "two")

    first = await one.take({HOST: 10}, {})
    second = await two.take({HOST: 10}, {})

    assert (first[HOST].slots, second[HOST].slots) == (1, 0)
    assert not first[HOST].proven


async def test_proven_host_has_its_allowance_up_to_the_concurrency(database):
    one = worker(database, "one", concurrency=4)
    await one.allow(HOST, 9, proven=True)

    share = (await one.take({HOST: 10}, {}))[HOST]

    assert (share.slots, share.allowance, share.proven) == (4, 9, True)


async def test_host_once_proven_stays_proven(shares):
    await shares.allow(HOST, 9, proven=True)
    await shares.allow(HOST, 2)

    share = (await shares.take({HOST: 10}, {}))[HOST]

    assert (share.slots, share.proven) == (2, True)


async def test_slots_pass_to_another_worker_only_when_requests_have_ended(database):
    one, two = worker(database, "one"), worker(database, "two")
    await one.allow(HOST, 10, proven=True)
    assert (await one.take({HOST: 10}, {HOST: 0}))[HOST].slots == 10
    assert (await two.take({HOST: 10}, {HOST: 0}))[HOST].slots == 0

    assert (await one.take({HOST: 10}, {HOST: 10}))[HOST].slots == 5
    assert (await two.take({HOST: 10}, {HOST: 0}))[HOST].slots == 0
    assert (await one.take({HOST: 10}, {HOST: 7}))[HOST].slots == 5
    assert (await two.take({HOST: 10}, {HOST: 0}))[HOST].slots == 3
    assert (await one.take({HOST: 10}, {HOST: 5}))[HOST].slots == 5
    assert (await two.take({HOST: 10}, {HOST: 3}))[HOST].slots == 5


async def test_the_slots_of_a_dead_worker_come_back(database):
    dead, alive = worker(database, "dead", lease_seconds=-1.0), worker(database, "alive")
    await dead.allow(HOST, 10, proven=True)
    await dead.take({HOST: 10}, {})

    assert (await alive.take({HOST: 10}, {}))[HOST].slots == 10


async def test_dead_worker_holds_no_slots_though_its_clock_was_ahead(database):
    dead, alive = worker(database, "dead"), worker(database, "alive")
    await dead.take({HOST: 10}, {})
    await put_ahead(database, "rehost_workers", "alive_until")

    assert (await alive.take({HOST: 10}, {}))[HOST].slots == 1
    assert (await alive.take({HOST: 10}, {}))[HOST].slots == 1


async def test_pause_set_by_a_clock_that_was_ahead_is_over_and_can_be_replaced(database, shares):
    await shares.allow(HOST, 10, proven=True)
    await shares.pause(HOST, 60.0, "429")
    await put_ahead(database, "rehost_hosts", "paused_until")

    before = (await shares.take({HOST: 3}, {}))[HOST]
    await shares.pause(HOST, 60.0, "503")
    after = (await shares.take({HOST: 3}, {}))[HOST]

    assert (before.slots, before.pause_seconds) == (3, 0)
    assert (after.slots, after.pause_seconds) == (0, pytest.approx(60, abs=30))


async def test_worker_that_wants_no_host_gives_all_slots_back(database):
    one, two = worker(database, "one"), worker(database, "two")
    await one.allow(HOST, 10, proven=True)
    await one.take({HOST: 10}, {})
    await one.take({}, {})

    assert (await two.take({HOST: 10}, {}))[HOST].slots == 10


async def test_a_pause_holds_for_all_and_is_never_shortened(database):
    one, two = worker(database, "one"), worker(database, "two")
    await one.allow(HOST, 10, proven=True)
    await one.pause(HOST, 600.0, "429")
    await two.pause(HOST, 5.0, "503")

    share = (await two.take({HOST: 10}, {}))[HOST]

    assert share.slots == 0
    assert share.pause_seconds == pytest.approx(600, abs=30)


async def test_pause_that_is_over_has_no_effect(shares):
    await shares.allow(HOST, 10, proven=True)
    await shares.pause(HOST, -1.0, "429")

    assert (await shares.take({HOST: 3}, {}))[HOST].slots == 3


async def test_invariant_8_the_slots_never_exceed_the_allowance_whatever_workers_do(database):
    dice = Random(7)
    workers = {name: worker(database, name) for name in ("one", "two", "three", "four")}
    await workers["one"].allow(HOST, 7, proven=True)
    flying = dict.fromkeys(workers, 0)
    slots = dict.fromkeys(workers, 0)

    for _ in range(120):
        name = dice.choice(sorted(workers))
        count = flying[name]
        flying[name] = max(flying[name], dice.randint(0, slots[name]))  # begun between the count and the answer
        share = await workers[name].take({HOST: dice.randint(0, 9)}, {HOST: count})
        slots[name] = share[HOST].slots
        assert sum(max(flying[each], slots[each]) for each in workers) <= 7
        ended = dice.choice(sorted(workers))
        flying[ended] = dice.randint(0, flying[ended])


async def test_workers_that_ask_at_once_get_no_more_than_the_allowance(database):
    workers = [worker(database, str(number)) for number in range(6)]
    await workers[0].allow(HOST, 4, proven=True)

    given = await asyncio.gather(*(each.take({HOST: 10}, {}) for each in workers))

    assert sum(share[HOST].slots for share in given) == 4


@pytest.mark.parametrize(
    ("wishes", "allowance", "expected"),
    [
        ({"a": 10, "b": 10}, 10, [5, 5]),
        ({"a": 2, "b": 10}, 10, [2, 8]),
        ({"a": 10, "b": 10}, 3, [2, 1]),
        ({"a": 10, "b": 10}, 1, [1, 0]),
        ({"a": 0, "b": 10}, 1, [0, 1]),
        ({"a": 1, "b": 1}, 10, [1, 1]),
    ],
)
def test_slots_go_round_to_workers_that_want_more(wishes, allowance, expected):
    assert [fair_slots(name, wishes, allowance) for name in sorted(wishes)] == expected


async def test_worker_with_the_one_slot_of_an_unproven_host_keeps_it(database):
    late, first = worker(database, "a"), worker(database, "b")
    assert (await first.take({HOST: 10}, {HOST: 0}))[HOST].slots == 1

    for _ in range(3):
        assert (await late.take({HOST: 10}, {HOST: 0}))[HOST].slots == 0
        assert (await first.take({HOST: 10}, {HOST: 0}))[HOST].slots == 1
    await first.take({}, {})
    assert (await late.take({HOST: 10}, {HOST: 0}))[HOST].slots == 1


# daily budgets


async def test_workers_that_take_at_once_never_exceed_the_daily_budget(database):
    workers = [DailyQuota(database) for _ in range(5)]

    taken = [await asyncio.gather(*(each.take(HOST, 17) for each in workers)) for _ in range(5)]

    assert sum(each is None for group in taken for each in group) == 17
    assert all(0 < each <= 86400 for group in taken for each in group if each is not None)


@pytest.mark.parametrize("move", ["day - 1", "day + 400"])
async def test_budget_of_another_day_is_fresh(database, move):
    quota = DailyQuota(database)
    assert [await quota.take(HOST, 1) is None for _ in range(2)] == [True, False]
    await execute(database, f"UPDATE rehost_budgets SET day = {move}")  # a wrong clock may have been far ahead

    assert [await quota.take(HOST, 1) is None for _ in range(2)] == [True, False]


async def test_a_day_that_another_worker_has_begun_goes_on(database):
    quota = DailyQuota(database)
    await quota.take(HOST, 2)
    await execute(database, "UPDATE rehost_budgets SET day = day + 1")

    assert [await quota.take(HOST, 2) is None for _ in range(2)] == [True, False]
