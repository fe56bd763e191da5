"""Transactions: atomicity, retries during an outage, and the errors that end them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import BigInteger, Float, Text, select, text
from tests.databases import execute, open_database
from tests.postgres import running_postgres

from rehost.db import Database, load, temporary, temporary_table
from rehost.db.dialects import CONNECTIONS
from rehost.errors import LedgerError
from rehost.events import DatabaseAway, DatabaseBack


async def test_given_rows_keep_their_values_and_order(database):
    rows = [(1, "ä\"'\\", 0.5), (2, None, None), (2**40, "", -1.0)]
    given = database.given({"a": BigInteger(), "b": Text(), "c": Float()}, rows)

    async def work(connection):
        query = select(given.c.a, given.c.b, given.c.c, given.c.number).order_by(given.c.number)
        return [tuple(row) for row in await connection.execute(query)]

    assert await database.read(work) == [(*row, number) for number, row in enumerate(rows, 1)]


async def test_loading_that_fails_leaves_nothing_open_behind_it(database):
    table = temporary_table("rehost_numbers", {"number": BigInteger()})
    ended = []

    async def groups():
        try:
            yield [(1,)]
            yield [("no number", 2)]
        finally:
            ended.append("closed")

    async def work(connection):
        async with temporary(connection, table):
            try:
                await load(connection, table, groups())
            finally:
                ended.append("failed")

    with pytest.raises(Exception):  # noqa: B017 - each driver has its own
        await database.transact(work)

    assert ended == ["closed", "failed"]


async def test_failed_transaction_changes_nothing(database):
    async def work(connection):
        await connection.execute(text("INSERT INTO ad_cases VALUES (1, '', '', NULL, NULL)"))
        raise KeyError

    with pytest.raises(KeyError):
        await database.transact(work)
    assert await execute(database, "SELECT count(*) FROM ad_cases") == [(0,)]


async def test_writers_run_one_after_the_other(database_url, database):
    await execute(database, "INSERT INTO ad_cases VALUES (1, '', '0', NULL, NULL)")

    async def add(_number: int) -> None:
        async with open_database(database_url) as another:
            for _ in range(10):
                await execute(another, "UPDATE ad_cases SET title = CAST(CAST(title AS INTEGER) + 1 AS TEXT)")

    await asyncio.gather(*(add(number) for number in range(4)))

    assert await execute(database, "SELECT title FROM ad_cases") == [("40",)]


async def test_transaction_survives_a_restart_of_the_server_and_says_that_it_waits():
    events: list[DatabaseAway | DatabaseBack] = []
    with running_postgres() as server:
        async with open_database(server.url(), listen=events.append) as database:
            await execute(database, "CREATE TABLE numbers (n integer)")
            server.stop(signal.SIGQUIT)
            writing = asyncio.create_task(execute(database, "INSERT INTO numbers VALUES (1)"))
            await asyncio.to_thread(server.start)
            await writing

            assert await execute(database, "SELECT n FROM numbers") == [(1,)]
    *away, back = events
    assert {type(each) for each in away} == {DatabaseAway}
    assert isinstance(back, DatabaseBack)
    assert away[0].seconds == 0.0
    assert back.seconds >= away[-1].seconds
    assert {each.place for each in events} == {f"The database server at {server.host}:{server.port}"}


async def test_outage_longer_than_the_limit_is_an_error():
    with running_postgres() as server:
        async with open_database(server.url(), outage_seconds=0.3) as database:
            await execute(database, "SELECT 1")
            server.stop(signal.SIGQUIT)

            with pytest.raises(LedgerError, match=r"cannot be reached.*DB_HOST and DB_PORT"):
                await execute(database, "SELECT 1")


@asynccontextmanager
async def stalled(url: str) -> AsyncIterator[asyncio.Event]:
    """Make every reader of the operator's table wait, as behind an ALTER TABLE, until the event is set."""
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


async def test_more_readers_than_connections_wait_for_a_silent_database(postgres, postgres_database):
    url = postgres.url(postgres_database)
    async with open_database(url, answer_seconds=0.1) as database:
        await execute(database, "CREATE TABLE ad_cases ()")
        async with stalled(url) as over:
            asyncio.get_running_loop().call_later(0.4, over.set)

            assert await read_at_once(database, CONNECTIONS + 4) == [[(0,)]] * (CONNECTIONS + 4)


@pytest.mark.parametrize("times", [1, CONNECTIONS + 4])
async def test_database_that_stays_silent_is_an_error_after_the_limit(postgres, postgres_database, times):
    url = postgres.url(postgres_database)
    async with open_database(url, answer_seconds=0.1, outage_seconds=0.2) as database:
        await execute(database, "CREATE TABLE ad_cases ()")
        async with stalled(url):
            errors = await read_at_once(database, times)

    assert [type(each) for each in errors] == [LedgerError] * times
    assert all("does not respond" in str(each) for each in errors)


async def test_statements_over_whole_tables_may_take_longer(postgres):
    async def work(connection):
        return await connection.scalar(text("SELECT 1 FROM pg_sleep(0.3)"))

    async with open_database(postgres.url(), answer_seconds=0.1, outage_seconds=0.0) as database:
        assert await database.read(work, slow=True) == 1


CUT = text("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_statement_longer_than_the_outage_limit_is_retried_once_cut(postgres):
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


async def test_work_that_holds_a_connection_runs_again_when_the_connection_breaks(postgres):
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


async def test_transaction_that_falls_silent_keeps_nobody_waiting_for_its_lock_and_runs_again(postgres):
    async with open_database(postgres.url()) as silent, open_database(postgres.url()) as other:
        locked, is_heard, runs = asyncio.Event(), asyncio.Event(), []

        async def fall_silent(connection):
            await silent.lock(connection, "test", 0.2)
            runs.append(len(runs))
            locked.set()
            await is_heard.wait()
            return await connection.scalar(text("SELECT 1"))

        falling = asyncio.create_task(silent.transact(fall_silent))
        await locked.wait()
        async with asyncio.timeout(30):
            await other.transact(lambda connection: other.lock(connection, "test"))
        is_heard.set()

        assert await falling == 1
        assert runs == [0, 1]


async def test_walk_survives_an_outage_at_every_step(postgres):
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
