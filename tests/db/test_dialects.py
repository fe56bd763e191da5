"""Connections to both kinds of database."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.databases import execute, open_database
from tests.postgres import GUARDED_PASSWORD, GUARDED_USER

from rehost.clock import Clock
from rehost.db import OTHER_HOST, Database
from rehost.db.dialects import host_of_text, root_of_text
from rehost.errors import LedgerError, SettingsError
from rehost.http.url import read_host, read_origin


async def test_cancelled_transaction_releases_its_locks_though_its_traceback_lives(database):
    numbers = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 3000000) SELECT a FROM n"
    slow = f"{numbers} ORDER BY random()" if database.is_sqlite else "SELECT pg_sleep(300)"
    is_inside = asyncio.Event()

    async def work(connection):
        await connection.execute(text("INSERT INTO t VALUES (1)"))
        is_inside.set()
        await connection.execute(text(slow))

    await execute(database, "CREATE TABLE t (a integer PRIMARY KEY)")
    cut_off = asyncio.create_task(database.transact(work))
    await is_inside.wait()
    await asyncio.sleep(0.1)
    cut_off.cancel()
    with pytest.raises(asyncio.CancelledError) as kept:
        await cut_off

    async with asyncio.timeout(20):  # BUSY_SECONDS are 30
        await execute(database, "INSERT INTO t VALUES (1)")
    assert kept.value.__traceback__ is not None


async def test_server_that_was_never_reached_is_an_error_at_once():
    async with open_database("postgresql://operator:secret@127.0.0.1:1/nothing") as database:
        with pytest.raises(LedgerError) as caught:
            await asyncio.wait_for(execute(database, "SELECT 1"), 10)

    assert "127.0.0.1:1 cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_password_with_url_characters_is_accepted(postgres):
    from sqlalchemy import URL  # noqa: PLC0415 - only to spell the password

    url = URL.create("postgresql", GUARDED_USER, GUARDED_PASSWORD, "127.0.0.1", postgres.port, "postgres")
    async with open_database(url.render_as_string(hide_password=False)) as database:
        assert await execute(database, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("statements", [["BEGIN IMMEDIATE"], ["BEGIN EXCLUSIVE"], ["BEGIN", "SELECT * FROM x"]])
async def test_file_locked_by_another_program_as_it_is_opened_is_waited_for(tmp_path, statements):
    """Switching a file to WAL locks all of it, and SQLite does not always call its busy handler meanwhile."""
    path = tmp_path / "x.db"
    holder = sqlite3.connect(path, isolation_level=None)
    holder.executescript("CREATE TABLE x (a); INSERT INTO x VALUES (1);")
    for statement in statements:
        holder.execute(statement).fetchall()

    async with open_database(f"sqlite:///{path}") as database:
        reading = asyncio.create_task(execute(database, "SELECT a FROM x"))
        await asyncio.sleep(0.3)
        holder.close()

        assert await reading == [(1,)]


async def test_libpq_parameters_are_applied(postgres):
    query = "application_name=nightly&connect_timeout=7&options=-c%20search_path%3Delsewhere&sslmode=disable"
    async with open_database(f"{postgres.url()}?{query}&target_session_attrs=any") as database:
        values = [await execute(database, f"SHOW {name}") for name in ("application_name", "search_path")]

    assert values == [[("nightly",)], [("elsewhere",)]]


@pytest.mark.parametrize(
    "url",
    ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://h:abc/d", "postgresql://[::1/d"],
)
def test_url_of_another_database_is_refused(url):
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        Database(url, clock=Clock(), random=Random(1))


async def test_a_new_file_is_its_owners_and_an_old_one_keeps_its_mode(tmp_path):
    new, old = tmp_path / "new.db", tmp_path / "old.db"
    old.touch()
    old.chmod(0o640)

    for file in (new, old):
        async with open_database(f"sqlite:///{file}") as database:
            await execute(database, "CREATE TABLE t (x)")
            modes = {path.suffix: path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{file.stem}.db*")}
        assert len(modes) == 3
        assert set(modes.values()) == {0o600 if file == new else 0o640}


@given(
    st.sampled_from(["http://", "HTTPS:\\\\", "//", "\\\\", "http:", "http:///", " http://", "ftp://", "/\\"]),
    st.text("aZx09.-_%6[]:@\\ｅ例 \n", max_size=12),
    st.sampled_from(["", "/x", ":80/", ":/", "?", "#a", ":8a/", ":1@b/", "@b/", "\\x", "\n"]),
)
@example("http://", "0x7f.1", "/x")
@example("http://", "a.1", "/x")
def test_a_host_that_sql_reads_is_the_one_that_the_parser_of_urls_reads(scheme, host, rest):
    url = f"{scheme}{host}{rest}"

    assert host_of_text(url) == OTHER_HOST or read_host(url) in {"", host_of_text(url)}
    assert read_origin(url) in {"", read_origin(root_of_text(url, None) or "")}


def test_the_orm_is_not_loaded_but_can_be_and_shares_our_classes():
    script = """
import sys, rehost.db
from rehost.db.dialects import AsyncEngine
assert not any(name.startswith("sqlalchemy.orm") for name in sys.modules)
from sqlalchemy.ext import asyncio
assert asyncio.AsyncEngine is AsyncEngine and asyncio.AsyncSession.__module__ == "sqlalchemy.ext.asyncio.session"
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)


def test_a_package_that_is_loaded_whole_stays_so():
    script = """
import sys
from sqlalchemy.ext import asyncio
import rehost.db
assert sys.modules["sqlalchemy.ext.asyncio"] is asyncio
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)
