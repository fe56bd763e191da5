"""What a stop cuts short, and what a bug costs."""

from __future__ import annotations

import asyncio

import pytest

from rehost.errors import StoreError
from rehost.model import Deferred, Link, Reason, Task
from rehost.run.limits import bug_to_none, bug_to_outcome, unless_stopped
from rehost.run.stats import RunStats

TASK = Task(1, 1, Link("cases", "7", 0, "https://a.example/1", None, None), "a.example", 1)


async def answer() -> str:
    return "done"


async def stumble() -> str:
    raise KeyError("a bug")


async def refuse() -> str:
    raise StoreError("The disk is full.")


async def test_work_that_ends_before_a_stop_is_returned():
    assert await unless_stopped(answer(), asyncio.Event(), grace_seconds=0.0) == "done"


async def test_a_stop_cancels_work_that_goes_on_longer_than_its_grace():
    stop, cancelled = asyncio.Event(), []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    stop.set()

    assert await unless_stopped(hang(), stop, grace_seconds=0.01) is None
    assert cancelled == [True]


async def test_a_bug_becomes_an_outcome_of_each_task_and_is_logged(caplog):
    [outcome] = await bug_to_outcome("visit", [TASK], stumble())

    assert isinstance(outcome, Deferred)
    assert (outcome.task, outcome.reason, outcome.evidence) == (TASK, Reason.BUG, "KeyError")
    assert [record.getMessage() for record in caplog.records] == ["visit failed row='7'"]


async def test_a_bug_without_a_task_is_counted(caplog):
    stats = RunStats()

    assert await bug_to_none("plan", stumble(), stats) is None
    assert await bug_to_none("plan", answer(), stats) == "done"
    assert stats.failed == {Reason.BUG: 1}
    assert [record.getMessage() for record in caplog.records] == ["plan failed row='-'"]


async def test_an_error_for_the_operator_is_no_bug():
    with pytest.raises(StoreError):
        await bug_to_outcome("record", [TASK], refuse())
