"""Our own tables: created once, by the first process, and nothing else touched."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import inspect
from tests.databases import execute, open_database

from rehost.errors import LedgerError
from rehost.ledger import migrate, schema
from rehost.ledger.migrations import MIGRATIONS, version


async def test_the_tables_match_the_schema(database):
    def columns(connection):
        inspector = inspect(connection)
        return {name: {each["name"] for each in inspector.get_columns(name)} for name in inspector.get_table_names()}

    async def look(connection):
        return await connection.run_sync(columns)

    there = await database.read(look)

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
