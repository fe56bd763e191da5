"""Taking a run back, on both databases, and with the ledger in a database of its own."""

from __future__ import annotations

import pytest
from tests.databases import add_cases, execute, stored
from tests.ledger.test_results import NOTICE, hold_with_notice
from tests.run.test_planner import apart_world

from rehost.catalogue.table import Clearing
from rehost.errors import LedgerError
from rehost.ledger.history import Runs
from rehost.ledger.reports import Queries
from rehost.model import Reason, Refused
from rehost.upkeep.journal import Journal
from rehost.upkeep.undo import Undone, undo
from rehost.wiring import upkeep

__all__ = ["apart_world"]

A = "https://a.example/1.png"


@pytest.fixture
def runs(peer) -> Runs:
    return peer.ledger.runs


async def test_undo_restores_rows_that_have_not_changed_since(peer, runs):
    await add_cases(peer.database, [A + str(number) for number in range(4)])
    await execute(peer.database, "UPDATE ad_cases SET main_image_local = '/old.png' WHERE case_id = 1")
    await peer.note()
    run = await runs.begin("cases")
    await peer.hold_all(run)
    await execute(peer.database, "UPDATE ad_cases SET main_image_local = '/mine.png' WHERE case_id = 3")
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url WHERE case_id = 4", url=A)

    undone = await undo(Journal(runs, "undo"), run, peer.catalogue)

    assert undone == Undone(restored=2, left=2)
    assert await peer.locals() == {1: "/old.png", 2: None, 3: "/mine.png", 4: "/static/images/4/main_image.png"}
    assert await undo(Journal(runs, "undo"), run, peer.catalogue) == Undone(restored=0, left=4)


async def test_undo_points_no_row_at_a_file_that_is_gone(peer, runs):
    await add_cases(peer.database, [A])
    await execute(peer.database, "UPDATE ad_cases SET main_image_local = '/static/images/1/main_image.jpg'")
    await peer.note()
    run = await runs.begin("cases")
    await peer.hold_all(run)

    async def find_lost(urls):
        return {url for url in urls if url.endswith(".jpg")}

    undone = await undo(Journal(runs, "undo"), run, peer.catalogue, find_lost=find_lost)

    assert undone == Undone(restored=1, left=0)
    assert await peer.locals() == {1: None}


async def test_an_unknown_run_cannot_be_undone(peer, runs):
    with pytest.raises(LedgerError, match="no run 7"):
        await undo(Journal(runs, "undo"), 7, peer.catalogue)


async def test_a_restored_row_is_stale_again(peer, runs):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all(await runs.begin("cases"))
    await execute(peer.database, "UPDATE ad_cases SET main_image_local = '/old/1/main_image.png'")
    await execute(peer.database, "UPDATE rehost_links SET local_url = '/old/1/main_image.png'")
    [(link, copy)] = await peer.stale_rows()
    run = await runs.begin("cases")
    await peer.point(run, [(link, copy)])
    assert await peer.stale_rows() == []

    undone = await undo(Journal(runs, "undo"), run, peer.catalogue)

    assert undone == Undone(restored=1, left=0)
    assert await peer.locals() == {1: "/old/1/main_image.png"}
    assert await peer.stale_rows() == [(link, copy)]


async def test_undo_restores_what_was_there_before_the_first_of_several_writes(peer, runs):
    await add_cases(peer.database, [A])
    await peer.note()
    run = await runs.begin("cases")
    await peer.hold_all(run)
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=A + "?2")
    await peer.note()
    [task] = await peer.lease_all()
    await peer.record(run, [stored(task, extension="jpg")])

    undone = await undo(Journal(runs, "undo"), run, peer.catalogue)

    assert undone == Undone(restored=1, left=0)
    assert await peer.locals() == {1: None}


async def refuse_notice(peer, run):
    """Refuse the copies that are decoys, and clear their rows, as run/recorder.py does."""
    ledger = peer.ledger
    await ledger.results.suspect(NOTICE, list(await ledger.results.copies_to_examine("cases", "a.example", NOTICE)), [])
    tasks = await ledger.leases.lease("cases", "a.example", 9)

    async def work(transaction):
        cleared = await peer.catalogue.clear([Clearing(task.link, task.copy.key) for task in tasks], transaction)
        changes = [(link, before, None) for link, before in cleared.before.items()]
        await ledger.history.add_changes(transaction, run, changes)
        refused = [Refused(task, Reason.DECOY, "given for anything", 9e5, task.copy.key) for task in tasks]
        await ledger.results.record(transaction, run, refused, {})
        return len(changes)

    assert await ledger.database.transact(work) == 2


async def test_undo_does_not_bring_a_decoy_back(peer, runs):
    await hold_with_notice(peer, await runs.begin("cases"))
    run = await runs.begin("cases")
    await refuse_notice(peer, run)

    assert await undo(Journal(runs, "undo"), run, peer.catalogue) == Undone(restored=0, left=0)
    assert (await peer.locals())[1] is None
    latest, _ = await Queries(peer.database).history("cases", "1")
    assert (latest.run, latest.after_url) == (run, None)


async def test_undo_restores_rows_of_another_database(apart_world):
    no_file = "/static/images/" + "x" * 300  # longer than a name can be
    apart_world.sql("UPDATE ad_cases SET main_image_local = ? WHERE case_id = 1", no_file)
    before = apart_world.locals()
    await apart_world.run()
    assert [apart_world.path_of(url).exists() for url in apart_world.locals().values()] == [True] * 3

    undone = await upkeep.undo(apart_world.settings, run=1)

    assert undone == {"cases": Undone(restored=3, left=0)}
    assert apart_world.locals() == {2: before[2], 3: before[3]}
