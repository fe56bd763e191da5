"""Migration 006 and init.sql, with psql and with asyncpg, on tables in use."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest
from tests.backend.conftest import BACKEND, INIT, MIGRATION
from tests.postgres import Postgres

COLUMN = "SELECT data_type FROM information_schema.columns WHERE column_name = 'main_image_local'"
COMMENT = (
    "SELECT col_description(attrelid, attnum) FROM pg_attribute "
    "WHERE attrelid = 'ad_cases'::regclass AND attname = 'main_image_local'"
)
INDEX = "SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_ad_cases_main_image_local'"


def psql(postgres: Postgres, database: str, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [postgres.psql, "-U", "postgres", "-d", database, *options, "-f", file],
        env={**os.environ, **postgres.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def unmigrated(postgres: Postgres, postgres_database: str) -> str:
    postgres.run(INIT.read_text(), postgres_database)
    return postgres_database


@pytest.mark.parametrize("options", [(), ("-1",), ("-v", "ON_ERROR_STOP=1")])
def test_psql_runs_the_migration_twice(postgres: Postgres, unmigrated: str, options: tuple[str, ...]) -> None:
    first = psql(postgres, unmigrated, MIGRATION, *options)
    second = psql(postgres, unmigrated, MIGRATION, *options)

    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, "")
    assert postgres.run(COLUMN, unmigrated) == "text"
    assert "Local URL" in postgres.run(COMMENT, unmigrated)
    assert " WHERE " in postgres.run(INDEX, unmigrated)


async def test_asyncpg_runs_the_whole_file_twice(postgres: Postgres, unmigrated: str) -> None:
    connection = await asyncpg.connect(postgres.url(unmigrated))

    await connection.execute(MIGRATION.read_text())
    await connection.execute(MIGRATION.read_text())

    assert await connection.fetchval(COLUMN) == "text"
    assert await connection.fetchval(INDEX)
    assert await connection.fetchval("SHOW lock_timeout") == "0"  # nothing is left behind in the session
    await connection.close()


def test_migration_without_the_table_names_the_file_to_run(postgres: Postgres, postgres_database: str) -> None:
    done = psql(postgres, postgres_database, MIGRATION)

    assert "database/init.sql" in done.stderr
    assert done.stderr.count("ERROR") == 1


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "backend/README.md"])
def test_the_command_of_the_page_fails_if_the_migration_does(postgres: Postgres, postgres_database: str, page) -> None:
    text = (BACKEND.parent / page).read_text(encoding="utf-8")
    [command] = re.findall(r"^ *(psql .*006_add_main_image_local_field\.sql)$", text, re.MULTILINE)

    done = subprocess.run(
        command.replace("psql", f"'{postgres.psql}'", 1).replace("ad_case_db", postgres_database).split(" #")[0],
        shell=True,
        cwd=BACKEND,
        env={**os.environ, **postgres.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert "run database/init.sql first" in done.stderr
    assert done.returncode == 3


def test_migration_keeps_the_values_of_an_older_column(postgres: Postgres, unmigrated: str) -> None:
    postgres.run("ALTER TABLE ad_cases ADD COLUMN main_image_local TEXT", unmigrated)
    postgres.run(
        "INSERT INTO ad_cases (case_id, title, source_url, main_image_local) VALUES (1, 't', '', '/x.png')", unmigrated
    )

    assert psql(postgres, unmigrated, MIGRATION).stderr == ""

    assert postgres.run("SELECT main_image_local FROM ad_cases", unmigrated) == "/x.png"


def test_migration_rewrites_no_table(postgres: Postgres, unmigrated: str) -> None:
    file = "SELECT pg_relation_filenode('ad_cases')"
    before = postgres.run(file, unmigrated)

    psql(postgres, unmigrated, MIGRATION)

    assert postgres.run(file, unmigrated) == before


async def test_migration_waits_for_a_lock_without_blocking_others(postgres: Postgres, unmigrated: str) -> None:
    holder = await asyncpg.connect(postgres.url(unmigrated))
    reader = await asyncpg.connect(postgres.url(unmigrated))
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("LOCK TABLE ad_cases IN ACCESS SHARE MODE")  # as any reader's transaction does

    migration = asyncio.create_task(asyncio.to_thread(psql, postgres, unmigrated, MIGRATION))
    await waiting(reader)
    # It waits for a lock that excludes all others; queries that come after it are not blocked all the same.
    await asyncio.wait_for(reader.fetch("SELECT * FROM ad_cases"), timeout=10)
    await transaction.rollback()
    done = await migration

    assert done.stderr == ""
    assert postgres.run(COLUMN, unmigrated) == "text"
    await holder.close()
    await reader.close()


async def waiting(connection: asyncpg.Connection) -> None:
    """Return once a session waits for a lock on ad_cases."""
    blocked = "SELECT count(*) FROM pg_locks WHERE relation = 'ad_cases'::regclass AND NOT granted"
    while not await connection.fetchval(blocked):
        await asyncio.sleep(0.01)


async def test_migrated_table_is_not_locked_again(postgres: Postgres, cases_database: str) -> None:
    holder = await asyncpg.connect(postgres.url(cases_database))
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("INSERT INTO ad_cases (case_id, title, source_url) VALUES (1, 't', '')")

    done = await asyncio.wait_for(asyncio.to_thread(psql, postgres, cases_database, MIGRATION), timeout=20)

    assert (done.returncode, done.stderr) == (0, "")
    await transaction.rollback()
    await holder.close()


def test_large_table_gets_its_column_and_the_command_for_its_index(
    postgres: Postgres, unmigrated: str, tmp_path: Path
) -> None:
    postgres.run("INSERT INTO ad_cases (case_id, title, source_url) VALUES (1, 't', '')", unmigrated)
    text = MIGRATION.read_text()
    smaller = tmp_path / MIGRATION.name
    smaller.write_text(text.replace("1024 ^ 3", "1024"))  # one page is a large table now
    tmp_path.chmod(0o755)

    done = psql(postgres, unmigrated, smaller)

    assert text.count("1024 ^ 3") == 1
    assert "CREATE INDEX CONCURRENTLY idx_ad_cases_main_image_local" in done.stderr
    assert postgres.run(COLUMN, unmigrated) == "text"
    assert postgres.run(INDEX, unmigrated) == ""


def test_init_runs_twice_and_needs_no_extension(postgres: Postgres, unmigrated: str) -> None:
    again = psql(postgres, unmigrated, INIT, "-v", "ON_ERROR_STOP=1")

    assert again.returncode == 0
    assert postgres.run("SELECT string_agg(extname, ' ') FROM pg_extension", unmigrated) == "plpgsql"
