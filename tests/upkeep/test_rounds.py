"""Shares of a night: no kind of upkeep starves another, whatever each has to do."""

from __future__ import annotations

import asyncio

import pytest
from tests.fakes import FakeClock

from rehost.errors import StoreError
from rehost.upkeep.rounds import Kind, Turn, do_what_is_due


class Work:
    """A kind of upkeep that does one thing a second, until nothing is left."""

    def __init__(self, name, left, clock, stop_after=None):
        self.name, self.left, self.clock, self.stop_after = name, left, clock, stop_after
        self.shares = []

    async def __call__(self, seconds, stop):
        self.shares.append(seconds)
        done = self.left if seconds is None else min(self.left, int(seconds))
        self.clock.advance(done)
        self.left -= done
        if self.stop_after is not None and len(self.shares) >= self.stop_after:
            stop.set()
        return Turn({"things": done}, {"things": self.left}, is_cut=self.left > 0, runs=[len(self.shares)])


async def perform(works, seconds, clock, stop=None):
    kinds = [Kind(each.name, each) for each in works]
    return await do_what_is_due(kinds, seconds, stop or asyncio.Event(), clock)


async def test_each_kind_gets_a_share_and_the_rest_goes_to_those_that_were_cut_short():
    clock = FakeClock()
    works = [Work("verify", 1000, clock), Work("refresh", 0, clock), Work("rescue", 5, clock), Work("prune", 1, clock)]

    reports = await perform(works, 100.0, clock)

    assert [each.done["things"] for each in reports] == [94, 0, 5, 1]
    assert [each.is_cut for each in reports] == [True, False, False, False]
    assert [each.left for each in reports] == [{"things": number} for number in (906, 0, 0, 0)]
    assert works[0].shares[0] == 25.0
    assert clock.monotonic() - 1000.0 <= 101


async def test_two_kinds_that_never_end_get_equal_shares():
    clock = FakeClock()

    reports = await perform([Work("a", 10**6, clock), Work("b", 10**6, clock)], 100.0, clock)

    assert [each.done["things"] for each in reports] == [50, 50]


async def test_without_a_limit_everything_is_done_in_one_turn_each():
    clock = FakeClock()
    works = [Work("a", 5000, clock), Work("b", 7, clock)]

    reports = await perform(works, None, clock)

    assert [each.done["things"] for each in reports] == [5000, 7]
    assert [each.shares for each in works] == [[None], [None]]


async def test_a_kind_gets_its_turn_however_short_the_time_is():
    clock = FakeClock()
    works = [Work("a", 100, clock), Work("b", 100, clock)]

    await perform(works, 1.0, clock)

    assert [each.shares for each in works] == [[1.0], [1.0]]


async def test_a_stop_ends_the_round():
    clock, stop = FakeClock(), asyncio.Event()
    works = [Work("a", 100, clock, stop_after=1), Work("b", 100, clock)]

    reports = await perform(works, 100.0, clock, stop)

    assert [each.shares for each in works] == [[50.0], []]
    assert reports[1].is_cut


async def test_a_kind_that_does_nothing_gets_no_further_turn():
    turns = []

    async def stuck(_seconds, _stop):
        turns.append(1)
        return Turn({"things": 0}, is_cut=True)

    (report,) = await do_what_is_due([Kind("stuck", stuck)], 100.0, asyncio.Event(), FakeClock())

    assert len(turns) == 1
    assert report.is_cut


async def test_an_error_ends_one_kind_and_not_the_others():
    clock = FakeClock()
    error = StoreError("full")

    async def fail(_seconds, _stop):
        raise error

    work = Work("b", 3, clock)
    failed, other = await do_what_is_due([Kind("a", fail), Kind("b", work)], 100.0, asyncio.Event(), clock)

    assert failed.error is error
    assert other.done == {"things": 3}


async def test_a_bug_is_not_hidden():
    async def fail(_seconds, _stop):
        raise KeyError("x")

    with pytest.raises(KeyError):
        await do_what_is_due([Kind("a", fail)], 100.0, asyncio.Event(), FakeClock())
