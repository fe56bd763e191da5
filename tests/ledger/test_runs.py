"""The journal of runs, and taking one back."""

from __future__ import annotations

import pytest
from tests.databases import add_cases, execute

from rehost.errors import LedgerError
from rehost.events import RunEnded
from rehost.ledger import Queries, Runs, Undone, Worker
from rehost.model import Reason

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

    undone = await runs.undo(run, desk.catalogue)

    assert undone == Undone(restored=2, left=2)
    assert await desk.locals() == {1: "/old.png", 2: None, 3: "/mine.png", 4: "/static/images/4/main_image.png"}
    assert await runs.undo(run, desk.catalogue) == Undone(restored=0, left=4)


async def test_undo_points_no_row_at_a_file_that_is_gone(desk, runs):
    await add_cases(desk.database, [A])
    await execute(desk.database, "UPDATE ad_cases SET main_image_local = '/static/images/1/main_image.jpg'")
    await desk.note()
    run = await runs.begin("cases")
    await desk.hold_all(run)

    undone = await runs.undo(run, desk.catalogue, is_there=lambda url: not url.endswith(".jpg"))

    assert undone == Undone(restored=1, left=0)
    assert await desk.locals() == {1: None}


async def test_a_run_that_never_was_cannot_be_undone(desk, runs):
    with pytest.raises(LedgerError, match="no run 7"):
        await runs.undo(7, desk.catalogue)
