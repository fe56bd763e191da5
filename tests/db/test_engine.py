"""Transactions bear outages; what cannot pass is a sentence."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from sqlalchemy import BigInteger, Float, Text, select, text
from tests.databases import execute, open_database
from tests.postgres import GUARDED_PASSWORD, GUARDED_USER, running_postgres

from rehost.clock import Clock
from rehost.db import Database, after, blank, host_of, now, seconds_until
from rehost.db.connect import CONNECTIONS
from rehost.errors import CatalogueError, LedgerError, SettingsError

HOSTS = [
    ("https://oss.adquan.com/upload/1.png", "oss.adquan.com"),
    ("HTTP://User:p%40ss@EXAMPLE.com:8080/x?y#z", "example.com"),
    ("//cdn.example/x.png", "cdn.example"),
    ("  https://a.example", "a.example"),
    ("https:\\\\a.example\\x", "a.example"),
    ("http://[2001:DB8::1]:80/x", "[2001:db8::1]"),
    ("https://a@b@c.example/@d", "c.example"),
    ("file:", ""),
    ("javascript:alert(1)", ""),
    ("a text", ""),
    ("https://图片.example/x", "图片.example"),
    (f"https://{'图' * 300}/x", "图" * 255),
]


async def scalar(database: Database, query):
    return await database.read(lambda connection: connection.scalar(query))


@pytest.mark.parametrize(("url", "host"), HOSTS)
async def test_hosts_are_read_alike_on_both(database, url, host):
    given = database.given({"url": Text()}, [(url,)])

    assert await scalar(database, select(host_of(given.c.url))) == host


async def test_a_cancelled_transaction_gives_up_its_locks_though_its_traceback_lives(database):
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


async def test_given_rows_keep_their_values_and_order(database):
    rows = [(1, "ä\"'\\", 0.5), (2, None, None), (2**40, "", -1.0)]
    given = database.given({"a": BigInteger(), "b": Text(), "c": Float()}, rows)

    async def work(connection):
        query = select(given.c.a, given.c.b, given.c.c, given.c.number).order_by(given.c.number)
        return [tuple(row) for row in await connection.execute(query)]

    assert await database.read(work) == [(*row, number) for number, row in enumerate(rows, 1)]


async def test_time_is_the_databases_and_aware(database):
    async def work(connection):
        return (await connection.execute(select(now(), after(3600), seconds_until(after(60))))).one()

    there, later, left = await database.read(work)

    assert there.tzinfo is not None
    assert (later - there).total_seconds() == pytest.approx(3600, abs=5)
    assert left == pytest.approx(60, abs=5)


@pytest.mark.parametrize(("value", "expected"), [(None, True), ("", True), ("  ", True), ("x", False)])
async def test_blank_is_nothing_or_spaces(database, value, expected):
    given = database.given({"a": Text()}, [(value,)])

    assert bool(await scalar(database, select(blank(given.c.a)))) is expected


async def test_a_transaction_that_fails_leaves_nothing(database):
    async def work(connection):
        await connection.execute(text("INSERT INTO ad_cases VALUES (1, '', '', NULL, NULL)"))
        raise KeyError

    with pytest.raises(KeyError):
        await database.transact(work)
    assert await execute(database, "SELECT count(*) FROM ad_cases") == [(0,)]


async def test_writers_come_one_after_the_other(database_url, database):
    await execute(database, "INSERT INTO ad_cases VALUES (1, '', '0', NULL, NULL)")

    async def add(_number: int) -> None:
        async with open_database(database_url) as another:
            for _ in range(10):
                await execute(another, "UPDATE ad_cases SET title = CAST(CAST(title AS INTEGER) + 1 AS TEXT)")

    await asyncio.gather(*(add(number) for number in range(4)))

    assert await execute(database, "SELECT title FROM ad_cases") == [("40",)]


async def test_a_restart_of_the_server_is_waited_out():
    with running_postgres() as server:
        async with open_database(server.url()) as database:
            await execute(database, "CREATE TABLE numbers (n integer)")
            server.stop(signal.SIGQUIT)
            writing = asyncio.create_task(execute(database, "INSERT INTO numbers VALUES (1)"))
            await asyncio.to_thread(server.start)
            await writing

            assert await execute(database, "SELECT n FROM numbers") == [(1,)]


async def test_an_outage_is_waited_for_with_a_bound():
    with running_postgres() as server:
        async with open_database(server.url(), outage_seconds=0.3) as database:
            await execute(database, "SELECT 1")
            server.stop(signal.SIGQUIT)

            with pytest.raises(LedgerError, match=r"cannot be reached.*DB_HOST and DB_PORT"):
                await execute(database, "SELECT 1")


@asynccontextmanager
async def stalled(url: str) -> AsyncIterator[asyncio.Event]:
    """Have every reader of the operator's table wait, as behind an ALTER TABLE, until the event is set."""
    over = asyncio.Event()

    async def hold(connection):
        await connection.execute(text("LOCK TABLE ad_cases"))
        holding.set()
        await over.wait()

    holding = asyncio.Event()
    async with open_database(url) as another, asyncio.TaskGroup() as group:
        group.create_task(another.transact(hold))
        await holding.wait()
        yield over
        over.set()


async def read_at_once(database: Database, times: int) -> list[object]:
    reading = (execute(database, "SELECT count(*) FROM ad_cases") for _ in range(times))
    async with asyncio.timeout(20):
        return await asyncio.gather(*reading, return_exceptions=True)


async def test_a_database_that_is_silent_for_a_while_is_waited_for_by_more_than_there_are_connections(
    postgres, postgres_database
):
    url = postgres.url(postgres_database)
    async with open_database(url, answer_seconds=0.1) as database:
        await execute(database, "CREATE TABLE ad_cases ()")
        async with stalled(url) as over:
            asyncio.get_running_loop().call_later(0.4, over.set)

            assert await read_at_once(database, CONNECTIONS + 4) == [[(0,)]] * (CONNECTIONS + 4)


@pytest.mark.parametrize("times", [1, CONNECTIONS + 4])
async def test_a_database_that_stays_silent_is_told_as_such_after_the_bound(postgres, postgres_database, times):
    url = postgres.url(postgres_database)
    async with open_database(url, answer_seconds=0.1, outage_seconds=0.2) as database:
        await execute(database, "CREATE TABLE ad_cases ()")
        async with stalled(url):
            told = await read_at_once(database, times)

    assert [type(each) for each in told] == [LedgerError] * times
    assert all("gives no answer" in str(each) for each in told)


async def test_what_goes_over_whole_tables_may_take_longer_than_any_other_answer(postgres):
    async def work(connection):
        return await connection.scalar(text("SELECT 1 FROM pg_sleep(0.3)"))

    async with open_database(postgres.url(), answer_seconds=0.1, outage_seconds=0.0) as database:
        assert await database.read(work, much=True) == 1


CUT = text("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_statement_longer_than_the_bound_has_its_second_try(postgres):
    tries = []

    async def work(connection):
        tries.append(1)
        if len(tries) == 1:
            await connection.execute(text("SELECT pg_sleep(0.2)"))
            await connection.execute(CUT)
        return len(tries)

    async with open_database(postgres.url(), outage_seconds=0.1) as database:
        await execute(database, "SELECT 1")

        assert await database.transact(work) == 2


async def test_what_holds_a_connection_is_begun_anew_when_that_is_cut(postgres):
    tries = []

    async def work(session):
        async with session.begin(writing=True) as connection:
            await connection.execute(text("CREATE TEMPORARY TABLE numbers (n integer)"))
        async with session.begin(writing=True) as connection:
            tries.append(1)
            if len(tries) == 1:
                await connection.execute(CUT)
            return await connection.scalar(text("SELECT count(*) FROM numbers"))

    async with open_database(postgres.url()) as database:
        assert await database.hold(work) == 0
        assert len(tries) == 2


async def test_a_walk_over_one_connection_bears_an_outage_at_every_step(postgres):
    done = []

    async def steps(session):
        while len(done) < 4:
            async with session.begin(writing=False) as connection:
                number = await connection.scalar(select(len(done) + 1))
            yield number
            async with session.begin(writing=False) as connection:
                await connection.execute(CUT)

    async with open_database(postgres.url(), outage_seconds=5.0) as database:
        async for number in database.walk(steps):
            done.append(number)  # noqa: PERF401 - `steps` looks at it

    assert done == [1, 2, 3, 4]


async def test_a_server_that_was_never_there_is_told_at_once():
    async with open_database("postgresql://somebody:secret@127.0.0.1:1/nothing") as database:
        with pytest.raises(LedgerError) as caught:
            await asyncio.wait_for(execute(database, "SELECT 1"), 10)

    assert "127.0.0.1:1 cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_told_without_it(postgres):
    url = f"postgresql://{GUARDED_USER}:not-{'the'}-one@127.0.0.1:{postgres.port}/postgres"
    async with open_database(url) as database:
        with pytest.raises(LedgerError) as caught:
            await execute(database, "SELECT 1")

    assert f"refuses the password of the user {GUARDED_USER}" in str(caught.value)
    assert "not-the-one" not in str(caught.value)


async def test_a_password_with_signs_of_a_url_is_taken(postgres):
    from sqlalchemy import URL  # noqa: PLC0415 - only to spell the password

    url = URL.create("postgresql", GUARDED_USER, GUARDED_PASSWORD, "127.0.0.1", postgres.port, "postgres")
    async with open_database(url.render_as_string(hide_password=False)) as database:
        assert await execute(database, "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("SELECT * FROM nowhere", "Check the name of the table"),
        ("SELECT main_image_local FROM pg_class", "006_add_main_image_local_field.sql"),
        ("SELECT 1/0", "division by zero"),
    ],
)
async def test_what_cannot_pass_is_a_sentence(postgres, sql, sentence):
    async with open_database(postgres.url()) as database:
        with pytest.raises(LedgerError, match=sentence):
            await execute(database, sql)


async def test_a_read_only_server_is_named(postgres, postgres_database):
    postgres.run(f'ALTER DATABASE "{postgres_database}" SET default_transaction_read_only = on')
    async with open_database(postgres.url(postgres_database)) as database:
        with pytest.raises(LedgerError, match="read-only"):
            await execute(database, "CREATE TABLE x ()")


async def test_a_missing_database_is_named(postgres):
    async with open_database(postgres.url("nowhere")) as database:
        with pytest.raises(CatalogueError, match="no database nowhere"):
            await database.read(lambda connection: connection.execute(text("SELECT 1")), error=CatalogueError)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [(None, "cannot be opened"), (b"x" * 5000, "is no SQLite database")],
)
async def test_a_file_that_is_no_database_is_named(tmp_path, contents, sentence):
    path = tmp_path / "missing" / "x.db" if contents is None else tmp_path / "x.db"
    if contents is not None:
        path.write_bytes(contents)
    async with open_database(f"sqlite:///{path}") as database:
        with pytest.raises(LedgerError, match=sentence):
            await execute(database, "SELECT 1")


async def test_a_full_disk_is_a_sentence(tmp_path):
    async with open_database(f"sqlite:///{tmp_path}/x.db") as database:
        await execute(database, "CREATE TABLE x (a)")
        await execute(database, "PRAGMA max_page_count = 3")

        async def fill(connection):
            await connection.exec_driver_sql("PRAGMA max_page_count = 3")
            await connection.exec_driver_sql("INSERT INTO x VALUES (zeroblob(100000))")

        with pytest.raises(LedgerError, match="no disk space left"):
            await database.transact(fill)


@pytest.mark.parametrize("statements", [["BEGIN IMMEDIATE"], ["BEGIN EXCLUSIVE"], ["BEGIN", "SELECT * FROM x"]])
async def test_a_file_that_another_holds_when_it_is_opened_is_waited_for(tmp_path, statements):
    """To turn a file to WAL takes it whole; SQLite does not always call its busy handler for that."""
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


async def test_parameters_of_libpq_are_kept_to(postgres):
    query = "application_name=nightly&connect_timeout=7&options=-c%20search_path%3Delsewhere&sslmode=disable"
    async with open_database(f"{postgres.url()}?{query}&target_session_attrs=any") as database:
        shown = [await execute(database, f"SHOW {name}") for name in ("application_name", "search_path")]

    assert shown == [[("nightly",)], [("elsewhere",)]]


async def test_tls_that_cannot_be_had_is_a_sentence(postgres, tmp_path):
    for query in ("sslmode=require", f"sslmode=verify-full&sslrootcert={tmp_path}/none.pem"):
        async with open_database(f"{postgres.url()}?{query}") as database:
            with pytest.raises(LedgerError, match="cannot be reached"):
                await execute(database, "SELECT 1")


@pytest.mark.parametrize(
    "url",
    ["mysql://x/y", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql://h:abc/d", "postgresql://[::1/d"],
)
def test_a_url_of_no_database_is_refused(url):
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        Database(url, clock=Clock(), random=Random(1))
