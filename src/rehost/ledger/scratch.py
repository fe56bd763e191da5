"""A copy of one source's ledger in a temporary file, for `rehost plan` and for questions, which change nothing.

The copy is brought up to date like any ledger; where our tables do not exist, it is empty. SQLite keeps it on the disk,
so memory does not grow with the table.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import Any

from sqlalchemy import Column, ColumnElement, Float, MetaData, Table, inspect, literal, select

from rehost.clock import Clock
from rehost.db import Connection, Database, Moment, analyze, load, now, seconds_until
from rehost.errors import LedgerError
from rehost.ledger.migrations import migrate, version
from rehost.ledger.schema import changes, links, moves, stores, workers

_COPIED = (workers, links, stores, moves)  # what planning reads, and `changes` if the rows are in another database
_UNREAD = {"final_url", "format", "width", "height", "frames", "damage", "etag", "last_modified", "suspected_at"}
_PLACES = ("/var/tmp", "/usr/tmp")  # noqa: S108 - where SQLite looks too: /tmp may be in memory


@asynccontextmanager
async def copy_ledger(database: Database, source: str, clock: Clock, *, is_joint: bool) -> AsyncIterator[Database]:
    """Provide a copy of what the ledger knows about one source; `database` is only read.

    Args:
        database: the ledger's; its file or its tables may be missing.
        source: which one.
        clock: for waits while the database is away.
        is_joint: the source's table is in that database too.

    Raises:
        LedgerError: the database cannot be read, its tables belong to a later version of rehost, or there is no room.
    """
    there = 0 if database.is_missing() else await version(database)
    with _folder() as folder:
        async with Database(f"sqlite:///{folder}/ledger.db", clock=clock, random=SystemRandom()) as copy:
            if there:
                await migrate(copy, there)
                for table in _COPIED if is_joint else (*_COPIED, changes):
                    await _copy_table(copy, database, source, table)
            await migrate(copy)
            yield copy


def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, on a disk if possible."""
    place = None if os.environ.get("TMPDIR") else next((each for each in _PLACES if os.access(each, os.W_OK)), None)
    try:
        return tempfile.TemporaryDirectory(prefix="rehost-plan-", dir=place)
    except OSError as error:
        raise LedgerError(
            "There is no folder for temporary files ({problem}): set TMPDIR to one.", problem=error.strerror
        ) from error


async def _copy_table(copy: Database, database: Database, source: str, table: Table) -> None:
    """Copy a table's rows of one source, or all of them where a table has no sources."""

    async def work(connection: Connection) -> None:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table(table.name)):
            return  # an earlier version did not have it
        there = await connection.run_sync(lambda sync: inspect(sync).get_columns(table.name))
        columns = [table.c[each["name"]] for each in there if each["name"] in {*table.c.keys()} - _UNREAD]
        moment = (await connection.execute(select(now()))).scalar_one()
        query = select(*(_as_loaded(column, moment.timestamp()) for column in columns))
        if "source" in table.c:
            query = query.where(table.c.source == source)
        same = Table(table.name, MetaData(), *(Column(column.name, column.type) for column in columns))
        await load(connection, same, database.stream(query, LedgerError))
        await analyze(connection, table, 1)

    await copy.transact(work, slow=True)


def _as_loaded(column: Column[Any], moment: float) -> ColumnElement[Any]:
    """Return a column as SQLite stores it; times in seconds, as far from `moment` as from now by the other's clock."""
    if not isinstance(column.type, Moment):
        return column
    return (literal(moment, Float) + seconds_until(column)).label(column.name)
