"""The journal of runs, and taking one back."""

from __future__ import annotations

import pytest
from tests.databases import add_cases, execute, stored

from rehost.errors import LedgerError
from rehost.events import RunEnded
from rehost.ledger import Queries, Worker
from rehost.ledger.runs import Runs
from rehost.model import Reason
from rehost.run.undo import Undone, undo

A = "https://a.example/1.png"
WORKER = Worker("worker", "machine", 7, "operator", "0.0.0")


@pytest.fixture
def runs(database) -> Runs:
    return Runs(database, WORKER)


async def test_a_run_tells_who_and_how_it_ended(database, runs):
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


async def test_undo_puts_the_column_back_where_nobody_has_changed_it(desk, runs):
    await add_cases(desk.database, [A + str(number) for number in range(4)])
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = '/old.png' WHERE case_id = 1")
    await desk.note()
    run = await runs.begin("cases")
    await desk.hold_all(run)
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = '/mine.png' WHERE case_id = 3")
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url WHERE case_id = 4", url=A)

    undone = await undo(runs, run, desk.catalogue)

    assert undone == Undone(restored=2, left=2)
    assert await desk.locals() == {1: "/old.png", 2: None, 3: "/mine.png", 4: "/static/images/4/main_image.png"}
    assert await undo(runs, run, desk.catalogue) == Undone(restored=0, left=4)


async def test_undo_points_no_row_at_a_file_that_is_gone(desk, runs):
    await add_cases(desk.database, [A])
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = '/static/images/1/main_image.jpg'")
    await desk.note()
    run = await runs.begin("cases")
    await desk.hold_all(run)

    undone = await undo(runs, run, desk.catalogue, is_there=lambda url: not url.endswith(".jpg"))

    assert undone == Undone(restored=1, left=0)
    assert await desk.locals() == {1: None}


async def test_a_run_that_never_was_cannot_be_undone(desk, runs):
    with pytest.raises(LedgerError, match="no run 7"):
        await undo(runs, 7, desk.catalogue)


async def test_the_processes_of_one_command_are_one_run(desk, database, runs):
    await add_cases(database, [A + str(number) for number in range(3)])
    await desk.note()
    before = await runs.begin("cases")
    first = await runs.begin("cases")
    second = await runs.begin("cases", crew=first)
    await desk.hold_all(first)
    await runs.end(first, RunEnded("cases", held=2, unchanged=0, adopted=0, failed={Reason.GONE: 1}, size=10, mended=4))
    [going, _] = await Queries(database).runs("cases")
    await runs.end(second, RunEnded("cases", held=1, unchanged=0, adopted=0, failed={Reason.GONE: 2}, size=5))

    [ended, older] = await Queries(database).runs("cases")

    assert (going.run, going.ended_at, going.workers) == (first, None, 2)
    assert (older.run, ended.run, ended.workers, ended.working) == (before, first, 2, 0)
    assert (ended.held, ended.failed, ended.size, ended.mended) == (3, 3, 15, 4)
    assert ended.reasons == {Reason.GONE: 3}
    assert [each.run for each in await Queries(database).runs("cases", limit=1, before=first)] == [before]
    with pytest.raises(LedgerError, match=f"Run {second} is one process of run {first}: `rehost undo {first}`"):
        await undo(runs, second, desk.catalogue)
    assert await undo(runs, first, desk.catalogue) == Undone(restored=3, left=0)


async def test_what_was_undone_is_pointed_at_its_copy_again(desk, runs):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all(await runs.begin("cases"))
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = '/old/1/main_image.png'")
    await execute(desk.database, "UPDATE rehost_links SET local_url = '/old/1/main_image.png'")
    [(link, copy)] = await desk.stale_rows()
    run = await runs.begin("cases")
    await desk.point(run, [(link, copy)])
    assert await desk.stale_rows() == []

    undone = await undo(runs, run, desk.catalogue)

    assert undone == Undone(restored=1, left=0)
    assert await desk.locals() == {1: "/old/1/main_image.png"}
    assert await desk.stale_rows() == [(link, copy)]


async def test_undo_puts_back_what_was_there_before_the_first_of_several_writings(desk, runs):
    await add_cases(desk.database, [A])
    await desk.note()
    run = await runs.begin("cases")
    await desk.hold_all(run)
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=A + "?2")
    await desk.note()
    [task] = await desk.lease_all()
    await desk.record(run, [stored(task, extension="jpg")])

    undone = await undo(runs, run, desk.catalogue)

    assert undone == Undone(restored=1, left=0)
    assert await desk.locals() == {1: None}
