"""What a stop cuts short, what a bug costs, and what storage quotas leave out."""

from __future__ import annotations

import asyncio

import pytest
from tests.origin import Origin
from tests.run.test_run import make_world

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


# --- storage quotas: the domain evil.test has names without end


@pytest.fixture
def shared_world(tmp_path):
    """Twelve links below evil.test, each of a host of its own, and four of good.test; how many bytes they have."""
    with Origin() as origin:

        def make(**environment):
            world = make_world(tmp_path, origin, environment)
            world.add(*evil, *good)
            return world

        evil = [origin.url("permissive", f"{number}.jpg", host=f"a{number}.evil.test") for number in range(12)]
        good = [origin.url("permissive", f"{number}.jpg", host="good.test") for number in range(4)]
        yield make, [len(origin.picture(url)) for url in evil], [len(origin.picture(url)) for url in good]


def held_sizes(world):
    found = [path.stat().st_size for path in (world.folder / "images").glob("[!.]*/*")]
    assert len(found) == len(world.locals())
    assert list((world.folder / "images" / ".rehost").rglob("spool/*")) == []
    return sum(found)


async def test_a_domain_with_names_without_end_stores_no_more_than_its_quota(shared_world):
    make, evil, good = shared_world
    world = make(IMAGE_MAX_HOST_BYTES=str(sum(evil[:5])))

    ended = await world.run()
    asked, held = world.origin.count(), len(world.locals())
    later = await world.run()
    asked_later = world.origin.count()
    again = await world.run(retry="quota-reached")  # a smaller picture may fit into what is left

    assert sum(evil[:5]) / 2 <= held_sizes(world) - sum(good) <= sum(evil[:5])
    assert {13, 14, 15, 16} <= world.locals().keys()
    assert ended.failed == {Reason.QUOTA_REACHED: 16 - held}
    assert (later.failed, later.later) == ({}, ended.failed[Reason.QUOTA_REACHED])
    assert again.failed == {Reason.QUOTA_REACHED: 16 - len(world.locals())}
    assert asked_later == asked
    evidence = world.sql("SELECT DISTINCT evidence FROM rehost_links WHERE state = 'deferred'")
    assert evidence == [(f"the copies of evil.test take up what IMAGE_MAX_HOST_BYTES={sum(evil[:5])} allows",)]


async def test_a_source_stores_no_more_than_its_quota(shared_world):
    make, evil, good = shared_world
    world = make(IMAGE_MAX_SOURCE_BYTES=str(sum(evil[:5])))

    ended = await world.run()

    assert 0 < held_sizes(world) <= sum(evil[:5]) < sum(evil) + sum(good)
    assert ended.failed == {Reason.QUOTA_REACHED: 16 - ended.held}


async def test_without_a_quota_everything_is_stored(shared_world):
    make, evil, good = shared_world
    world = make()

    ended = await world.run()

    assert (ended.held, ended.failed) == (16, {})
    assert held_sizes(world) == sum(evil) + sum(good)
