"""The daily budget of requests to a host, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from tests.databases import execute

from rehost.hosts.daily_quota import Draw, part_of
from rehost.hosts.shares import HostShares

HOST = "a.example"


def worker(database, name: str) -> HostShares:
    return HostShares(database, worker=name, concurrency=10, lease_seconds=60.0)


async def test_workers_that_draw_at_once_never_get_more_than_the_days_budget(database):
    crew = [worker(database, str(number)) for number in range(5)]
    wishes = {HOST: Draw(37, 8), "b.example": Draw(3, 8)}

    got = []
    for _ in range(6):
        got += await asyncio.gather(*(each.draw(wishes) for each in crew))

    assert sum(drawn[HOST].number for drawn in got) == 37
    assert sum(drawn["b.example"].number for drawn in got) == 3
    assert got[-1][HOST].number == 0


async def test_a_new_day_has_a_new_budget_and_yesterdays_part_is_not_given_back_to_it(database):
    one = worker(database, "one")
    today = (await one.draw({HOST: Draw(4, 8)}))[HOST]
    await one.draw({HOST: Draw(4, 8)})
    await execute(database, "UPDATE rehost_budgets SET day = day - 1, taken = 4")

    assert await one.draw({HOST: Draw(4, -2, today.day - 1)}) == {}
    assert (await one.draw({HOST: Draw(4, 8)}))[HOST].number == 2


async def test_a_budget_that_was_lowered_gives_nothing_more(database):
    one = worker(database, "one")
    await one.draw({HOST: Draw(100, 20)})

    assert (await one.draw({HOST: Draw(10, 8)}))[HOST].number == 0


@pytest.mark.parametrize(("left", "wish", "expected"), [(100, 32, 32), (10, 32, 5), (3, 8, 2), (1, 8, 1), (0, 8, 0)])
def test_a_part_leaves_something_for_the_others(left, wish, expected):
    assert part_of(left, wish) == expected
    assert part_of(-left, wish) == 0
