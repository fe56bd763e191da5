"""Our own tables: created once, by the first process, and nothing else touched."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import inspect
from tests.databases import execute, open_database, open_transaction

from rehost.errors import LedgerError
from rehost.ledger import migrate, migrations, schema
from rehost.ledger.migrations import LATEST, MIGRATIONS, version


async def columns_of(database) -> dict[str, set[str]]:
    def columns(connection):
        inspector = inspect(connection)
        return {name: {each["name"] for each in inspector.get_columns(name)} for name in inspector.get_table_names()}

    return await database.read(lambda connection: connection.run_sync(columns))


async def test_the_tables_match_the_schema(database):
    there = await columns_of(database)

    assert {name for name in there if name != "ad_cases"} == set(schema.metadata.tables)
    assert {name: set(table.columns.keys()) for name, table in schema.metadata.tables.items()} == {
        name: there[name] for name in schema.metadata.tables
    }


async def test_several_processes_may_migrate_at_once(database_url):
    async def one():
        async with open_database(database_url) as database:
            await migrate(database)
            return await version(database)

    assert await asyncio.gather(*(one() for _ in range(4))) == [MIGRATIONS[-1].number] * 4


async def test_tables_of_a_later_version_are_left_alone(database):
    await execute(database, "INSERT INTO rehost_migrations (number, name) VALUES (99, 'later')")

    with pytest.raises(LedgerError, match="later version of rehost"):
        await migrate(database)


async def test_without_the_right_to_create_tables_the_error_says_what_to_do(postgres, postgres_database):
    postgres.run("CREATE ROLE newcomer LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC", postgres_database)
    url = postgres.url(postgres_database).replace("postgres@", "newcomer@")
    try:
        async with open_database(url) as database:
            with pytest.raises(LedgerError, match=r"GRANT CREATE ON SCHEMA public.*REHOST_LEDGER_URL"):
                await migrate(database)
    finally:
        postgres.run("DROP ROLE newcomer")


# --- ledgers of earlier versions

ODD = "https://www.example.com:8443/"  # a link whose host step 6 reads again
GUARD_SECONDS = 60.0


async def add_links(database, number: int) -> None:
    counting = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)"
    await execute(
        database,
        "INSERT INTO rehost_links (source, row_key, position, url, host, due_at, noted_at)"
        f" {counting} SELECT 'cases', CAST(n AS text), 0, '{ODD}' || n, 'Odd', {{now}}, {{now}} FROM numbers".format(
            now="0" if database.is_sqlite else "now()"
        ),
        last=number,
    )


async def odd_hosts(database) -> int:
    [(number,)] = await execute(database, "SELECT count(*) FROM rehost_links WHERE host = 'Odd'")
    return number


async def index_states(database) -> dict[str, bool]:
    return dict(
        await execute(
            database,
            "SELECT c.relname::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE c.relname IN ('rehost_links_open', 'rehost_links_due')",
        )
    )


async def until(condition) -> None:
    """Wait until this returns something true."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def migrating_process(url: str):
    """A process that migrates in small batches; it is killed at the end of the block."""
    program = (
        "import asyncio, sys; from tests.databases import open_database; from rehost.ledger import migrations;"
        " migrations.BATCH = 100\n"
        "async def main():\n"
        "    async with open_database(sys.argv[1]) as database: await migrations.migrate(database)\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, url)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def ledger(postgres, postgres_database):
    """An empty database on PostgreSQL."""
    async with open_database(postgres.url(postgres_database)) as database:
        yield database


@pytest.fixture
def url(postgres, postgres_database) -> str:
    return postgres.url(postgres_database)


async def test_a_ledger_of_any_version_is_brought_up_to_date_and_keeps_its_links(database_url, sample, monkeypatch):
    monkeypatch.setattr(migrations, "BATCH", 2)
    async with open_database(database_url) as database:
        await migrate(database, 1)
        await add_links(database, 5)
        for number in [*sample(range(2, LATEST), 2), LATEST]:
            await migrate(database, number)
            assert await version(database) == number

        assert await odd_hosts(database) == 0
        assert await execute(database, "SELECT count(*) FROM rehost_links") == [(5,)]
        assert await columns_of(database) == {
            name: set(table.columns.keys()) for name, table in schema.metadata.tables.items()
        }


async def test_a_long_update_that_is_killed_goes_on_where_it_was(ledger, url):
    await migrate(ledger, 5)
    await add_links(ledger, 1000)
    async with open_transaction(url, "UPDATE rehost_links SET url = url WHERE entry = 550"):
        async with migrating_process(url):
            await until(lambda: half_is_done(ledger))
        await execute(ledger, "UPDATE rehost_links SET url = url WHERE entry IN (1, 1000)")  # others go on

    await migrate(ledger, 6)

    assert await odd_hosts(ledger) == 0
    assert await version(ledger) == 6


async def half_is_done(database) -> bool:
    return await odd_hosts(database) == 500


@pytest.mark.parametrize("ends", ["by itself", "with its process"])
async def test_an_index_whose_process_is_killed_is_there_after_the_next_one(ledger, url, ends):
    await migrate(ledger, 13)
    await add_links(ledger, 1000)
    async with open_transaction(url, "SELECT count(*) FROM rehost_links", isolation="REPEATABLE READ"):
        async with migrating_process(url):
            await until(lambda: is_half_made(ledger))
            await execute(ledger, "UPDATE rehost_links SET state = 'held' WHERE entry <= 10")  # writers and readers
            assert await odd_hosts(ledger) == 1000
        if ends == "with its process":
            making = "query LIKE 'CREATE INDEX CONCURRENTLY%' AND pid <> pg_backend_pid()"
            await execute(ledger, f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {making}")
            assert await index_states(ledger) == {"rehost_links_open": True, "rehost_links_due": False}

    async with asyncio.timeout(GUARD_SECONDS):
        await migrate(ledger)

    assert await index_states(ledger) == {"rehost_links_due": True}
    assert await version(ledger) == LATEST


async def is_half_made(database) -> bool:
    waiting = "SELECT phase FROM pg_stat_progress_create_index WHERE datname = current_database()"
    return await execute(database, waiting) == [("waiting for old snapshots",)]


async def test_a_long_step_says_how_far_it_is(ledger, url, monkeypatch, caplog):
    monkeypatch.setattr(migrations, "PROGRESS_SECONDS", 0.05)
    await migrate(ledger, 13)

    async def is_said() -> bool:
        return f"14 of {LATEST} (the order of leases): index rehost_links_due, waiting for old snapshots" in caplog.text

    async with open_transaction(url, "SELECT count(*) FROM rehost_links", isolation="REPEATABLE READ"):
        working = asyncio.create_task(migrate(ledger))
        await until(is_said)

    await working
    assert await version(ledger) == LATEST


async def test_readers_pass_a_quick_step_that_waits_for_a_lock(ledger, url, monkeypatch):
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.2)
    await migrate(ledger, 6)
    async with open_transaction(url, "SELECT count(*) FROM rehost_links"):  # keeps the table's lock, as pg_dump does
        working = asyncio.create_task(migrate(ledger, 7))
        await until(lambda: is_waiting_for_the_table(ledger))
        async with asyncio.timeout(GUARD_SECONDS):
            for _ in range(5):
                assert await odd_hosts(ledger) == 0
        assert not working.done()

    await working
    assert await version(ledger) == 7


async def is_waiting_for_the_table(database) -> bool:
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'rehost_links'::regclass"
    return bool((await execute(database, waiting))[0][0])
