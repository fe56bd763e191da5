"""Comparison of catalogue and ledger: new, changed and vanished links, for all rows and for one, on both databases."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from sqlalchemy import Engine, event
from tests.databases import Peer, add_cases, execute, hold_apart, make_ledger, stored

from rehost.catalogue import Source, TableCatalogue
from rehost.errors import CatalogueError
from rehost.hotlink.repository import OriginRepository, Spending
from rehost.http.url import host_of
from rehost.ledger.leases import Entry
from rehost.ledger.migrations import MIGRATIONS
from rehost.ledger.sync import SyncResult
from rehost.model import Copy, Reason, Refused, State

A = "https://a.example/1.png"
B = "https://b.example:8443/2.png"


async def test_new_links_are_wanted_at_once(peer):
    await add_cases(peer.database, [A, B, None, "", "  ", "file:"])

    noted = await peer.note()

    assert noted == SyncResult(present=3, new=3, changed=0, vanished=0)
    assert set(await peer.ledger.leases.hosts("cases")) == {"", "a.example", "b.example"}


async def test_a_link_whose_host_is_too_long_for_an_index_is_taken_in(database, peer):
    random = Random(1)
    junk = "".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in range(1500))
    await add_cases(database, [f"http://{junk}/x.png", A])

    assert (await peer.note()).new == 2
    assert len(await peer.lease_all()) == 2


SPELLINGS = [
    "http://good.example/1.png",
    "HTTP://GOOD.example/2.png",
    "http://%67ood.example/3.png",
    "http://good.example./4.png",
    "https://ｇｏｏｄ.example:8443/5.png",  # noqa: RUF001 - full width
    "http:good.example/6.png",
    "http:///good.example/7.png",
]


async def test_a_host_is_the_same_however_it_is_spelled(peer):
    await add_cases(
        peer.database, [*SPELLINGS, "https://例子.中国/1.png", "http://127.1/1.png", "http://[::0001]/1.png"]
    )
    await add_cases(peer.database, ["http://a:b@good.example/1.png", "http://a..b/1.png"], 100)

    await peer.note()

    hosts = {"good.example", "xn--fsqu00a.xn--fiqs8s", "127.0.0.1", "::1", ""}
    assert set(await peer.ledger.leases.hosts("cases")) - {"a..b"} == hosts
    tasks = await peer.lease_all()
    assert {task.link.url for task in tasks if task.host == "good.example"} == set(SPELLINGS)
    assert all(task.host == host_of(task.origin) for task in tasks if task.origin)
    assert await peer.note() == SyncResult(present=12, new=0, changed=0, vanished=0)


async def test_a_changed_link_has_the_host_that_requests_have(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await execute(peer.database, "UPDATE ad_cases SET main_image = 'http://B.example./1.png'")

    assert (await peer.note()).changed == 1
    assert await peer.ledger.leases.hosts("cases") == ["b.example"]


async def test_hosts_that_a_former_version_read_otherwise_are_read_again(peer):
    await add_cases(peer.database, ["http://%67ood.example/1.png", "http://good.example./2.png", "http:c.example/3", A])
    await peer.note()
    former = {1: "%67ood.example", 2: "good.example.", 3: ""}
    for key, host in former.items():
        await execute(peer.database, f"UPDATE rehost_links SET host = '{host}' WHERE row_key = '{key}'")
    (again,) = (each for each in MIGRATIONS if each.name == "hosts as requests have them")
    for statement in again.long[0].at_once():
        await execute(peer.database, statement)

    assert await peer.note() == SyncResult(present=4, new=0, changed=0, vanished=0)
    assert set(await peer.ledger.leases.hosts("cases")) == {"good.example", "c.example", "a.example"}


async def test_many_links_whose_hosts_only_the_parser_reads_are_taken_in(peer):
    await execute(
        peer.database,
        "INSERT INTO ad_cases WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)"
        " SELECT i, 'page', 'title', 'http://%67ood.example/' || i, NULL FROM n",
    )

    async with asyncio.timeout(120):
        noted = await peer.note()

    assert noted.new == 12_000
    assert await peer.ledger.leases.hosts("cases") == ["good.example"]


async def test_a_second_sync_finds_nothing_new(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()

    noted = await peer.note()

    assert noted == SyncResult(present=2, new=0, changed=0, vanished=0)


async def test_a_sync_that_finds_nothing_reads_the_table_once_and_writes_nothing(either):
    await add_cases(either.database, [A, B])
    await either.note()
    await hold_apart(either, write=True)
    statements = []

    def see(_connection, _cursor, statement, *_others):
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    try:
        noted = await either.note()
    finally:
        event.remove(Engine, "before_cursor_execute", see)

    assert noted == SyncResult(present=2, new=0, changed=0, vanished=0, redo=False, unpointed=False)
    assert len([each for each in statements if "ad_cases" in each]) == 1
    assert not [each for each in statements if each.startswith(("INSERT INTO rehost_links", "UPDATE"))]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_what_changes_during_a_sync_is_taken_in_as_it_is_then(peer, postgres, postgres_database):
    await add_cases(peer.database, [A, B, A + "?3", A + "?4"])
    await peer.note()
    await execute(peer.database, "UPDATE ad_cases SET main_image = main_image || '?' WHERE case_id = 1")
    await execute(peer.database, "DELETE FROM ad_cases WHERE case_id = 2")

    def change(_connection, _cursor, statement, *_others):
        if statement.startswith("INSERT INTO rehost_differing"):
            changes = "UPDATE ad_cases SET main_image = main_image || '!'; DELETE FROM ad_cases WHERE case_id = 3"
            postgres.run(changes, postgres_database)

    event.listen(Engine, "before_cursor_execute", change)
    try:
        noted = await peer.note()
    finally:
        event.remove(Engine, "before_cursor_execute", change)

    assert (noted.new, noted.changed, noted.vanished) == (0, 2, 2)
    assert {task.link.url for task in await peer.lease_all()} == {A + "?!", A + "?4!"}
    assert await peer.note() == SyncResult(present=2, new=0, changed=0, vanished=0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sqlite_joins_rows_and_links_by_their_key_however_few_are_new(peer):
    """SQLite assumes that a table is small until it is analysed: it scanned all rows for each link."""
    for first in (1, 31):
        await add_cases(peer.database, [f"{A}?{number}" for number in range(30)], first)
        await peer.note()

    plan = await execute(
        peer.database,
        "EXPLAIN QUERY PLAN SELECT entry FROM ad_cases JOIN rehost_links"
        " ON source = 'cases' AND row_key = CAST(case_id AS TEXT) AND position = 0"
        " WHERE state = 'held' AND present = 1 AND key IS NOT NULL AND url = CAST(main_image AS TEXT)"
        " AND NOT (main_image IS NULL OR trim(main_image) = '') AND case_id IS NOT NULL",
    )

    assert [step for *_, step in plan if "rehost_links" in step and "row_key=?" in step], plan


async def test_a_changed_link_is_due_at_once_whatever_it_waited_for(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    await peer.record(1, [Refused(task, Reason.GONE, "404", 9e5)])
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)

    noted = await peer.note()

    assert noted.changed == 1
    [again] = await peer.lease_all()
    assert (again.link.url, again.host, again.attempt) == (B, "b.example", 1)


async def test_a_link_changed_back_is_held_again_without_a_request(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.note()
    [task] = await peer.lease_all()
    await peer.record(2, [Refused(task, Reason.GONE, "404", 9e5)])
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=A)

    noted = await peer.note()

    assert (noted.changed, noted.unpointed) == (1, True)
    assert (await peer.ledger.due.counts("cases")).held == 1
    assert await peer.locals() == {1: "/static/images/1/main_image.png"}


async def test_a_link_changed_back_while_a_replacement_is_announced_is_fetched(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.note()
    [task] = await peer.lease_all()
    await peer.ledger.results.announce_replacements([stored(task, "e" * 64)])
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=A)
    await peer.note()

    [again] = await peer.lease_all()

    assert (again.link.url, again.found, again.pending) == (A, None, None)


async def test_a_vanished_link_is_not_visited_until_its_row_is_back(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await execute(peer.database, "DELETE FROM ad_cases WHERE case_id = 1")

    noted = await peer.note()

    assert noted == SyncResult(present=1, new=0, changed=0, vanished=1)
    assert await peer.ledger.leases.hosts("cases") == ["b.example"]
    await add_cases(peer.database, [A])
    assert (await peer.note()).present == 2
    assert set(await peer.ledger.leases.hosts("cases")) == {"a.example", "b.example"}


async def test_an_overtaken_link_is_due_once_its_row_is_back(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    await execute(peer.database, "DELETE FROM ad_cases")
    await peer.record(1, [stored(task)])
    await peer.note()
    await add_cases(peer.database, [A])

    await peer.note()

    assert len(await peer.lease_all()) == 1


async def test_clearing_every_row_is_a_redo_and_clearing_one_is_not(peer):
    await add_cases(peer.database, [A, B])
    await peer.note()
    await peer.hold_all()

    await execute(peer.database, "UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 1")
    assert not (await peer.note()).redo
    await execute(peer.database, "UPDATE ad_cases SET main_image_local = ''")
    assert (await peer.note()).redo


async def test_sync_frees_a_lease_that_a_jumped_clock_made_endless(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.lease_all()
    leap = 400 * 86_400
    later = f"due_at + {leap}" if peer.database.is_sqlite else f"due_at + interval '{leap} seconds'"
    await execute(peer.database, f"UPDATE rehost_links SET due_at = {later}")

    await peer.note()

    assert len(await peer.lease_all()) == 1


async def test_new_changed_and_vanished_links_are_found_in_another_database(apart):
    await add_cases(apart.database, [A, A + "?2", A + "?3"])
    assert (await apart.note()).new == 3
    await execute(apart.database, "UPDATE ad_cases SET main_image = 'https://b.example/' WHERE case_id = 1")
    await execute(apart.database, "DELETE FROM ad_cases WHERE case_id = 2")

    noted = await apart.note()

    assert (noted.present, noted.new, noted.changed, noted.vanished) == (2, 0, 1, 1)


async def test_the_error_about_an_unreadable_table_names_its_own_database(apart, database):
    await execute(database, "ALTER TABLE ad_cases RENAME TO moved")

    with pytest.raises(CatalogueError) as caught:
        await apart.note()

    assert str(caught.value).startswith(database.place.place)


# --- one row


async def take_in_row(peer: Peer, row_key: str) -> Entry | None:
    await peer.ledger.sync.take_in_row("cases", row_key, peer.catalogue.row(row_key))
    return await peer.ledger.due.entry("cases", row_key, 0)


async def test_one_row_is_taken_in_alone(either):
    await add_cases(either.database, [A, B])

    entry = await take_in_row(either, "2")

    assert entry == Entry(State.WANTED, "b.example", None, None, wait_seconds=0.0, origin="https://b.example:8443")
    assert entry.is_due
    assert await either.ledger.due.entry("cases", "1", 0) is None


@pytest.mark.parametrize(
    "row_key", ["3", "02", "2 ", "+2", "abc", "", "2.0", "٢", "-1", "9" * 18, "9" * 30, "1; --", "é\u0001"]
)
async def test_a_key_that_no_row_has_takes_in_nothing(either, row_key):
    await add_cases(either.database, [A, B])

    assert await take_in_row(either, row_key) is None


async def test_an_empty_cell_is_not_a_link(either):
    await add_cases(either.database, [" "])

    assert await take_in_row(either, "1") is None


async def test_the_copy_of_a_former_link_is_not_the_copy_of_the_changed_one(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    await peer.hold_all()
    held = await take_in_row(peer, "1")
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)

    changed = await take_in_row(peer, "1")

    assert held.copy == Copy("1/main_image.png", "d" * 64, 5)
    assert (changed.state, changed.copy, changed.host, changed.is_due) == (State.WANTED, None, "b.example", True)


async def test_a_deleted_row_has_no_entry(either):
    await add_cases(either.database, [A, B])
    await either.note()
    await execute(either.database, "DELETE FROM ad_cases WHERE case_id = 1")

    assert await take_in_row(either, "1") is None
    assert await take_in_row(either, "2") is not None
    assert (await either.ledger.due.counts("cases")).present == 1


async def test_an_overtaken_link_is_due_once_its_row_is_taken_in(peer):
    await add_cases(peer.database, [A])
    await peer.note()
    [task] = await peer.lease_all()
    await execute(peer.database, "UPDATE ad_cases SET main_image = :url", url=B)
    await peer.record(1, [stored(task)])
    assert not (await peer.ledger.due.entry("cases", "1", 0)).is_due

    entry = await take_in_row(peer, "1")

    assert (entry.is_due, entry.host) == (True, "b.example")


@pytest.mark.parametrize("kind", ["text", "varchar(40)", "uuid"])
async def test_a_key_of_any_type_is_found_only_as_it_is_spelled(database, kind):
    keys = ["6F9619FF-8B86-D011-B42D-00CF4FC964FF".lower(), "a/b 图 %41", "007", ""][: 1 if kind == "uuid" else 4]
    column = "TEXT" if database.is_sqlite else kind
    await execute(database, f"CREATE TABLE things (name {column} PRIMARY KEY, pic TEXT, here TEXT)")
    for key in keys:
        await execute(database, f"INSERT INTO things VALUES (CAST(:key AS {column}), :url, NULL)", key=key, url=A)
    source = Source("things", "things", key="name", link="pic", page=None, local="here")
    ledger = make_ledger(database)
    catalogue = await TableCatalogue.open(database, source)

    async def taken_in(key):
        await ledger.sync.take_in_row("things", key, catalogue.row(key))
        return await ledger.due.entry("things", key, 0)

    assert all([await taken_in(key) for key in keys])
    assert not any([await taken_in(key) for key in ("7", "a", "A/b 图 %41", keys[0].upper(), "not-a-uuid")])


async def test_a_changed_page_is_a_new_start_for_links_that_were_refused(peer):
    await add_cases(peer.database, [A, A + "?2", A + "?3", "https://b.example/1.png"])
    await peer.note()
    tasks = {task.link.row_key: task for task in await peer.lease_all()}
    await peer.record(1, [
        *(Refused(tasks[key], Reason.HOTLINK_REFUSED, "status 403", 9e5) for key in "124"),
        Refused(tasks["3"], Reason.GONE, "status 404", 9e5),
    ])  # fmt: skip
    origins = OriginRepository(peer.database, worker="worker", lease_seconds=60.0)
    names = [task.origin for task in (tasks["1"], tasks["4"])]
    for name in names:
        assert await origins.spend(name, "/", 1, 15, None) is Spending.GRANTED
    await execute(peer.database, "UPDATE ad_cases SET source_url = 'https://www.example.com/x' WHERE case_id IN (1, 3)")

    await peer.note()

    assert [(task.link.row_key, task.attempt) for task in await peer.lease_all()] == [("1", 1)]
    spent = [await origins.spend(name, "/", 1, 15, None) for name in names]
    assert spent == [Spending.GRANTED, Spending.USED_UP]
