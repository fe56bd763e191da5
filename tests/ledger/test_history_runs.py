"""Runs: who began each and how it ended, on both databases."""

from __future__ import annotations

import pytest
from tests.databases import add_cases

from rehost.errors import LedgerError
from rehost.events import RunEnded
from rehost.ledger import Worker
from rehost.ledger.history import Runs
from rehost.ledger.reports import Queries
from rehost.model import Reason
from rehost.upkeep.journal import Journal
from rehost.upkeep.undo import Undone, undo

A = "https://a.example/1.png"


@pytest.fixture
def runs(database) -> Runs:
    return Runs(database, Worker("worker", "machine", 7, "operator", "0.0.0"))


async def test_a_run_is_recorded_with_its_process_and_how_it_ended(database, runs):
    run = await runs.begin("cases")
    [begun] = await Queries(database).runs()
    await runs.end(
        run, RunEnded("cases", held=3, unchanged=1, adopted=2, failed={Reason.GONE: 4}, size=99, seconds=1.5)
    )

    [ended] = await Queries(database).runs("cases")

    assert (begun.run, begun.host, begun.pid, begun.os_user, begun.ended_at) == (run, "machine", 7, "operator", None)
    assert (ended.held, ended.failed, ended.reasons, ended.interrupted) == (3, 4, {Reason.GONE: 4}, False)
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at


async def test_the_processes_of_one_command_are_one_run(peer, database, runs):
    await add_cases(database, [A + str(number) for number in range(3)])
    await peer.note()
    before = await runs.begin("cases")
    first = await runs.begin("cases")
    second = await runs.begin("cases", crew=first)
    await peer.hold_all(first)
    await runs.end(first, RunEnded("cases", held=2, unchanged=0, adopted=0, failed={Reason.GONE: 1}, size=10, mended=4))
    [going, _] = await Queries(database).runs("cases")
    await runs.end(second, RunEnded("cases", held=1, unchanged=0, adopted=0, failed={Reason.GONE: 2}, size=5))

    [ended, older] = await Queries(database).runs("cases")

    assert (going.run, going.ended_at, going.workers) == (first, None, 2)
    assert (older.run, ended.run, ended.workers, ended.working) == (before, first, 2, 0)
    assert (ended.held, ended.failed, ended.size, ended.mended) == (3, 3, 15, 4)
    assert ended.reasons == {Reason.GONE: 3}
    assert [each.run for each in await Queries(database).runs("cases", limit=1, before=first)] == [before]
    with pytest.raises(LedgerError, match=f"Run {second} is a part of run {first}: `rehost undo {first}`"):
        await undo(Journal(runs, "undo"), second, peer.catalogue)
    assert await undo(Journal(runs, "undo"), first, peer.catalogue) == Undone(restored=3, left=0)


async def test_the_sources_of_one_command_are_one_run_with_a_report_for_each(peer, database, runs):
    await add_cases(database, [A])
    await peer.note()
    first = await runs.begin("cases")
    part = await runs.begin("shops", crew=first)
    await peer.hold_all(first)
    await runs.end(first, RunEnded("cases", held=1, unchanged=0, adopted=0))
    await runs.end(part, RunEnded("shops", held=2, unchanged=0, adopted=0))
    last = await runs.begin("cases")

    undone = await undo(Journal(runs, "undo"), first, peer.catalogue)

    listed = [(each.run, each.source, each.held, each.undone_at is None) for each in await Queries(database).runs()]
    assert listed[0] == (last + 1, "cases", None, True)  # the undo's own
    assert listed[1:] == [(last, "cases", None, True), (first, "cases", 1, False), (first, "shops", 2, True)]
    assert [(each.run, each.held) for each in await Queries(database).runs("shops")] == [(first, 2)]
    assert [each.run for each in await Queries(database).runs("cases", limit=1, before=last)] == [first]
    assert await runs.sources(first) == ["cases", "shops"]
    assert undone == Undone(restored=1, left=0)
    with pytest.raises(LedgerError, match=f"Run {first} was over cases, shops, not over other"):
        await runs.check(first, "other")


async def test_what_stopped_any_process_of_a_run_is_reported(database, runs):
    first = await runs.begin("cases")
    second = await runs.begin("cases", crew=first)
    await runs.end(second, RunEnded("cases", held=0, unchanged=0, adopted=0), "The disk is full.")
    await runs.end(first, RunEnded("cases", held=0, unchanged=0, adopted=0, interrupted=True))

    [ended] = await Queries(database).runs("cases")

    assert (ended.stopped, ended.interrupted) == ("The disk is full.", True)
    assert ended.ended_at is not None
