"""A ledger in a database of its own, of either kind: links are streamed to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.databases import Desk, add_cases, execute, make_ledger, open_database, stored, url_of

from rehost.catalogue import Source, TableCatalogue
from rehost.ledger import migrate
from rehost.ports import WriteBack

A = "https://a.example/1.png"


@pytest.fixture
async def apart(database, tmp_path: Path):
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as own:
        await migrate(own)
        yield Desk(database, await TableCatalogue.open(database, Source()), make_ledger(own))


async def hold(apart: Desk, *, write: bool) -> None:
    tasks = await apart.lease_all()
    outcomes = [stored(task) for task in tasks]

    async def settle(transaction):
        written = {task.link: task.link.local_url for task in tasks}
        await apart.ledger.settle(transaction, 1, outcomes, written)

    await apart.ledger.transact(settle)
    if write:
        changes = [WriteBack(outcome.task.link, url_of(outcome.copy.key)) for outcome in outcomes]
        await apart.catalogue.transact(lambda transaction: apart.catalogue.write_back(transaction, changes))


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

    [(link, copy)] = await apart.unpointed()

    assert (link.row_key, copy.key) == ("1", "1/main_image.png")


async def test_what_was_written_is_left_alone(apart):
    await add_cases(apart.database, [A])
    await apart.note()
    await hold(apart, write=True)

    assert await apart.unpointed() == []
    assert not (await apart.note()).redo
