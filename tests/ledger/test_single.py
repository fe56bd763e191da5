"""One row and one link, for whoever asks for a single picture; on both databases, and with a ledger apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.databases import Resources, add_cases, another_desk, execute, make_ledger, open_database, stored

from rehost.catalogue import Source, TableCatalogue
from rehost.ledger import migrate
from rehost.ledger.due import Entry
from rehost.model import Copy, Deferred, Reason, State

A = "https://a.example/1.png"
B = "https://b.example/2.png"


@pytest.fixture(params=["joint", "apart"])
async def single(request, desk, database, tmp_path: Path):
    """A desk whose ledger is in the catalogue's database, or in one of its own."""
    if request.param == "joint":
        yield desk
        return
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as own:
        await migrate(own)
        yield Resources(database, await TableCatalogue.open(database, Source()), make_ledger(own))


async def note_row(desk: Resources, row_key: str) -> Entry | None:
    await desk.ledger.sync.take_in_row("cases", row_key, desk.catalogue.row(row_key))
    return await desk.ledger.due.entry("cases", row_key, 0)


async def test_only_the_row_that_is_asked_for_is_noted(single):
    await add_cases(single.database, [A, B])

    entry = await note_row(single, "2")

    assert entry == Entry(State.WANTED, "b.example", copy=None, reason=None, wait_seconds=0.0)
    assert entry.is_due
    assert await single.ledger.due.entry("cases", "1", 0) is None


@pytest.mark.parametrize(
    "row_key", ["3", "02", "2 ", "+2", "abc", "", "2.0", "٢", "-1", "9" * 18, "9" * 30, "1; --", "é\u0001"]
)
async def test_a_key_that_no_row_has_notes_nothing(single, row_key):
    await add_cases(single.database, [A, B])

    assert await note_row(single, row_key) is None


async def test_an_empty_cell_is_no_link(single):
    await add_cases(single.database, [" "])

    assert await note_row(single, "1") is None


async def test_a_changed_link_is_due_at_once_and_its_old_copy_is_not_its_own(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all()
    held = await note_row(desk, "1")
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)

    changed = await note_row(desk, "1")

    assert held.copy == Copy("1/main_image.png", "d" * 64, 5)
    assert (changed.state, changed.copy, changed.host, changed.is_due) == (State.WANTED, None, "b.example", True)


async def test_a_row_that_is_gone_is_not_in_the_catalogue(single):
    await add_cases(single.database, [A, B])
    await single.note()
    await execute(single.database, "DELETE FROM ad_cases WHERE case_id = 1")

    assert await note_row(single, "1") is None
    assert await note_row(single, "2") is not None
    assert (await single.ledger.due.counts("cases")).present == 1


async def test_one_link_is_leased_and_then_nobody_elses(database_url, desk):
    await add_cases(desk.database, [A, A + "?2"])
    await desk.note()

    task = await desk.ledger.leases.lease_one("cases", "2", 0)

    assert (task.link.row_key, task.attempt) == ("2", 1)
    async with another_desk(database_url, "other") as other:
        assert await other.ledger.leases.lease_one("cases", "2", 0) is None
        assert [each.link.row_key for each in await other.lease_all()] == ["1"]
    entry = await desk.ledger.due.entry("cases", "2", 0)
    assert (entry.state, entry.is_due) == (State.LEASED, False)


async def test_what_waits_is_not_leased(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()
    await desk.record(1, [Deferred(task, Reason.THROTTLED, "429", 600.0)])

    entry = await note_row(desk, "1")

    assert (entry.state, entry.reason, entry.is_due) == (State.DEFERRED, Reason.THROTTLED, False)
    assert 500 < entry.wait_seconds <= 600
    assert await desk.ledger.leases.lease_one("cases", "1", 0) is None


async def test_what_was_overtaken_is_due_once_its_row_is_noted(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    [task] = await desk.lease_all()
    await execute(desk.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await desk.record(1, [stored(task)])
    assert not (await desk.ledger.due.entry("cases", "1", 0)).is_due

    entry = await note_row(desk, "1")

    assert (entry.is_due, entry.host) == (True, "b.example")


async def test_a_lost_copy_is_wanted_again(desk):
    await add_cases(desk.database, [A])
    await desk.note()
    await desk.hold_all()

    await desk.ledger.reconcile.mark_missing("cases", "1", 0, "1/other.png")
    before = await desk.ledger.due.entry("cases", "1", 0)
    await desk.ledger.reconcile.mark_missing("cases", "1", 0, "1/main_image.png")
    after = await desk.ledger.due.entry("cases", "1", 0)

    assert (before.state, after.state) == (State.HELD, State.WANTED)
    assert (after.copy, after.is_due) == (None, True)


@pytest.mark.parametrize("kind", ["text", "varchar(40)", "uuid"])
async def test_keys_of_other_types_are_found_as_they_are_spelled(database, kind):
    keys = ["6F9619FF-8B86-D011-B42D-00CF4FC964FF".lower(), "a/b 图 %41", "007", ""][: 1 if kind == "uuid" else 4]
    column = "TEXT" if database.is_sqlite else kind
    await execute(database, f"CREATE TABLE things (name {column} PRIMARY KEY, pic TEXT, here TEXT)")
    for key in keys:
        await execute(database, f"INSERT INTO things VALUES (CAST(:key AS {column}), :url, NULL)", key=key, url=A)
    source = Source("things", "things", key="name", link="pic", page=None, local="here")
    ledger = make_ledger(database)
    catalogue = await TableCatalogue.open(database, source)

    async def noted(key):
        await ledger.sync.take_in_row("things", key, catalogue.row(key))
        return await ledger.due.entry("things", key, 0)

    assert all([await noted(key) for key in keys])
    assert not any([await noted(key) for key in ("7", "a", "A/b 图 %41", keys[0].upper(), "not-a-uuid")])
