"""One connection: the transactions on it, and what its database knows of a table when it plans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from rehost.db.connect import BEGIN

_MANY = 10_000  # rows, from which on PostgreSQL should not wait for its autovacuum
_LOOKED_AT = 1000  # rows of each index; SQLite takes milliseconds then, however large the table is


@dataclass(frozen=True, slots=True)
class Session:
    """One connection."""

    connection: AsyncConnection

    @asynccontextmanager
    async def begin(self, *, writing: bool) -> AsyncIterator[AsyncConnection]:
        """Open a transaction; commits at the end, rolls back on an error."""
        await self.connection.execution_options(**{BEGIN: "IMMEDIATE" if writing else "DEFERRED"})
        async with self.connection.begin():
            yield self.connection


async def look_anew(connection: AsyncConnection, table: Table, new: int) -> None:
    """Have plans made for a table as it is, now that so many rows have come to it.

    SQLite takes any table for a small one until it is told to look: a join of all rows took a step for each pair.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    if new <= (0 if is_sqlite else _MANY):
        return
    if is_sqlite:
        await connection.exec_driver_sql(f"PRAGMA analysis_limit = {_LOOKED_AT}")
    await connection.exec_driver_sql(f"ANALYZE {table.name}")
