"""A ledger in a database of its own, of either kind: links are streamed to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from tests.databases import Resources, add_cases, execute, make_ledger, open_database, stored, url_of

from rehost.catalogue import Source, TableCatalogue
from rehost.catalogue.table import WriteBack
from rehost.errors import CatalogueError
from rehost.ledger import migrate
from rehost.model import Link, Task

A = "https://a.example/1.png"


@pytest.fixture
async def apart(database, tmp_path: Path):
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as own:
        await migrate(own)
        yield Resources(database, await TableCatalogue.open(database, Source()), make_ledger(own))


async def hold(apart: Resources, *, write: bool) -> None:
    tasks = await apart.lease_all()
    outcomes = [stored(task) for task in tasks]

    async def settle(transaction):
        written = {task.link: task.link.local_url for task in tasks}
        await apart.ledger.results.record(transaction, 1, outcomes, written)

    await apart.ledger.transact(settle)
    if write:
        changes = [WriteBack(outcome.task.link, url_of(outcome.copy.key)) for outcome in outcomes]
        await apart.catalogue.write_back(changes)


async def execute_in(apart: Resources, sql: str) -> list[tuple[object, ...]]:
    """Return what the ledger's own database answers."""

    async def work(connection):
        return [tuple(row) for row in await connection.execute(text(sql))]

    return await apart.ledger.transact(work)


async def test_new_changed_and_vanished_links_are_noted(apart):
    await add_cases(apart.database, [A, A + "?2", A + "?3"])
    assert (await apart.note()).new == 3
    await execute(apart.database, "UPDATE ad_cases SET main_image = 'https://b.example/' WHERE case_id = 1")
    await execute(apart.database, "DELETE FROM ad_cases WHERE case_id = 2")

    noted = await apart.note()

    assert (noted.present, noted.new, noted.changed, noted.vanished) == (2, 0, 1, 1)


async def test_what_was_settled_and_not_written_is_found(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold(apart, write=False)

    [(link, copy)] = await apart.stale_rows()

    assert (link.row_key, copy.key) == ("1", "1/main_image.png")


async def test_what_was_written_is_left_alone(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold(apart, write=True)

    assert await apart.stale_rows() == []
    assert not (await apart.note()).redo


async def test_a_kill_between_the_two_steps_leaves_the_file_that_the_row_still_points_at(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold(apart, write=True)
    await execute(apart.database, "UPDATE ad_cases SET main_image = :url", url=A + "?2")
    await apart.note()
    [task] = await apart.lease_all()
    outcome = stored(task, extension="jpg")
    written = {task.link: task.link.local_url}
    await apart.ledger.transact(lambda transaction: apart.ledger.results.record(transaction, 1, [outcome], written))

    between = await apart.ledger.reconcile.leftovers("cases", apart.catalogue.links())
    [(link, copy)] = await apart.stale_rows()
    change = WriteBack(link, url_of(copy.key))
    await apart.catalogue.write_back([change])

    assert between == []
    assert (link.local_url, copy.key) == (url_of("1/main_image.png"), "1/main_image.jpg")
    assert await apart.ledger.reconcile.leftovers("cases", apart.catalogue.links()) == ["1/main_image.png"]
    assert await apart.stale_rows() == []


async def test_what_was_settled_for_a_row_that_changed_meanwhile_is_taken_back(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold(apart, write=True)
    await execute(apart.database, "UPDATE ad_cases SET main_image = :url", url=A + "?2")
    await apart.note()
    [task] = await apart.lease_all()
    outcome = stored(task, digest="e" * 64)
    written = {task.link: task.link.local_url}
    await apart.ledger.transact(lambda transaction: apart.ledger.results.record(transaction, 1, [outcome], written))

    await apart.ledger.results.revert([outcome])

    assert await apart.ledger.reconcile.held_digests(["1/main_image.png"]) == {"1/main_image.png": "d" * 64}
    await execute(apart.database, "UPDATE ad_cases SET main_image = :url", url=A)
    assert (await apart.note()).changed == 1
    [again] = await apart.lease_all()
    assert (again.link.url, again.copy and again.copy.digest) == (A, "d" * 64)


async def test_a_retraction_that_comes_late_changes_nothing(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold(apart, write=True)
    [standing] = await execute_in(apart, "SELECT fence FROM rehost_links")
    task = Task(1, standing[0] - 1, Link("cases", "1", 0, A, None, None), "a.example", 1)

    await apart.ledger.results.revert([stored(task)])

    assert await execute_in(apart, "SELECT state FROM rehost_links") == [("held",)]


async def test_a_table_that_cannot_be_read_is_told_of_its_own_database(apart, database):
    await execute(database, "ALTER TABLE ad_cases RENAME TO moved")

    with pytest.raises(CatalogueError) as caught:
        await apart.note()

    assert str(caught.value).startswith(database.place.place)
