"""A row that the database refuses to write, through whole runs: its copy is held, and is not fetched again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.databases import add_cases, execute
from tests.origin import Origin
from tests.run.test_recorder import Worker, root, worker
from tests.run.test_run import make_world

from rehost.events import RunEnded
from rehost.model import Reason, Refused
from rehost.upkeep.undo import Undone
from rehost.wiring import databases, upkeep

__all__ = ["root", "worker"]

REFUSE = (
    "CREATE TRIGGER archived BEFORE UPDATE ON ad_cases WHEN NEW.case_id = 2 AND NEW.main_image_local IS NOT NULL"
    " BEGIN SELECT RAISE(ABORT, 'case 2 is archived'); END"
)


@pytest.fixture(params=["joint", "apart"])
def world(request, tmp_path):
    given = {"joint": {}, "apart": {"REHOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"}}
    with Origin() as origin:
        world = make_world(tmp_path, origin, given[request.param])
        world.add(*(world.link("permissive", f"{number}.jpg") for number in range(3)))
        yield world


def numbers(ended: RunEnded) -> tuple[object, ...]:
    assert ended.decoys == 0
    return ended.held, ended.adopted, ended.failed, ended.overtaken


async def test_a_refused_row_waits_with_its_copy_and_is_written_without_a_request_once_it_can_be(world):
    world.sql(REFUSE)
    assert numbers(await world.run()) == (2, 0, {Reason.ROW_REFUSED: 1}, 0)
    assert sorted(world.locals()) == [1, 3]
    asked = world.origin.count()

    waiting = await world.run()
    again = await world.run(retry="row-refused")
    world.sql("DROP TRIGGER archived")
    written = await world.run(retry="row-refused")

    assert (numbers(waiting), waiting.later) == ((0, 0, {}, 0), 1)
    assert numbers(again) == (0, 0, {Reason.ROW_REFUSED: 1}, 0)
    assert numbers(written) == (1, 1, {}, 0)
    assert world.origin.count() == asked
    assert world.bytes_of(2) == world.origin.picture(world.link("permissive", "1.jpg"))


async def test_a_refused_row_is_reported_with_the_words_of_the_database(world):
    world.sql(REFUSE)
    await world.run()

    async with databases.open_queries(world.settings) as queries:
        report = await queries.source_report("cases")
    ledger = replace(world, database="c.db" if world.settings.ledger_url.endswith("c.db") else "ledger.db")
    [(evidence,)] = ledger.sql("SELECT evidence FROM rehost_links WHERE row_key = '2'")
    query = "SELECT visits.outcome, visits.reason, visits.evidence FROM rehost_visits AS visits"
    [last] = ledger.sql(f"{query} JOIN rehost_links USING (entry) WHERE row_key = '2'")

    assert (report.reasons, report.suspected) == ({Reason.ROW_REFUSED: 1}, 0)
    assert evidence == "case 2 is archived (SQLITE_CONSTRAINT_TRIGGER)"
    assert last == ("deferred", Reason.ROW_REFUSED, evidence)


async def test_a_plan_that_repairs_rows_leaves_the_one_that_refuses(world):
    await world.run()
    asked = world.origin.count()
    world.sql("UPDATE ad_cases SET main_image_local = NULL WHERE case_id < 3")
    world.sql(REFUSE)

    ended = await world.run()
    world.sql("DROP TRIGGER archived")
    later = await world.run(retry="row-refused")

    assert (ended.mended, ended.failed) == (1, {Reason.ROW_REFUSED: 1})
    assert numbers(later) == (1, 1, {}, 0)
    assert (sorted(world.locals()), world.origin.count()) == ([1, 2, 3], asked)


async def test_undo_names_the_row_that_refuses_to_be_restored_and_can_be_repeated(world):
    world.sql("UPDATE ad_cases SET main_image_local = '/old/pics/' || case_id")
    await world.run()
    world.sql(REFUSE)

    undone = await upkeep.undo(world.settings, sources=(), run=1)
    world.sql("DROP TRIGGER archived")
    again = await upkeep.undo(world.settings, sources=(), run=1)

    assert undone == {"cases": Undone(2, 0, 1, "row 2: case 2 is archived (SQLITE_CONSTRAINT_TRIGGER)")}
    assert again == {"cases": Undone(restored=1, left=2)}
    assert world.locals() == {1: "/old/pics/1", 2: "/old/pics/2", 3: "/old/pics/3"}


REFUSE_CLEARING = {
    "sqlite": (
        (
            "CREATE TRIGGER kept BEFORE UPDATE ON ad_cases WHEN NEW.main_image_local IS NULL"
            " BEGIN SELECT RAISE(ABORT, 'a case needs its picture'); END"
        ),
    ),
    "postgresql": ("ALTER TABLE ad_cases ADD CHECK (main_image_local IS NOT NULL OR case_id > 9) NOT VALID",),
}


async def test_invariant_1_a_decoy_stays_while_its_row_cannot_be_cleared(worker, root):
    async with worker("alone") as alone:
        assert isinstance(alone, Worker)
        database = alone.peer.database
        await add_cases(database, ["https://a.example/1"])
        await alone.fetch(b"decoy")
        for statement in REFUSE_CLEARING["sqlite" if database.is_sqlite else "postgresql"]:
            await execute(database, statement)
        await execute(database, "UPDATE rehost_links SET state = 'wanted', due_at = noted_at, fence = fence + 1")
        task = await alone.lease()
        assert task.copy is not None

        recorded = await alone.recorder().record(2, [Refused(task, Reason.DECOY, "a notice", 9e5, task.copy.key)])

        assert recorded.failed == 1
        [(local,)] = await execute(database, "SELECT main_image_local FROM ad_cases")
        assert (root / local.removeprefix("/static/images/")).read_bytes() == b"decoy"
        [(state, reason, key)] = await execute(database, "SELECT state, reason, key FROM rehost_links")
        assert (state, reason, key) == ("deferred", Reason.ROW_REFUSED, task.copy.key)
