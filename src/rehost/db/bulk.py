"""Large amounts of rows: temporary tables, bulk loading, and statistics for the query planner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable

_MANY_ROWS = 10_000  # new rows from which on PostgreSQL should not wait for its autovacuum
_SAMPLE_ROWS = 1000  # that SQLite reads of each index: milliseconds, however large the table is


@asynccontextmanager
async def temporary(connection: AsyncConnection, table: Table) -> AsyncIterator[None]:
    """Make a temporary table on this connection for the length of the block."""
    await make_temporary(connection, table)
    yield
    await drop_temporary(connection, table)


async def make_temporary(connection: AsyncConnection, table: Table) -> None:
    """Make a temporary table on this connection, in place of one that an earlier user of it may have left."""
    await drop_temporary(connection, table)
    await connection.execute(CreateTable(table))


async def drop_temporary(connection: AsyncConnection, table: Table) -> None:
    """Drop a temporary table, if it exists."""
    schema = "temp" if _is_sqlite(connection) else "pg_temp"
    await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {schema}.{table.name}")


async def load(connection: AsyncConnection, table: Table, groups: AsyncIterator[Iterable[Sequence[object]]]) -> None:
    """Load groups of rows into a table; each row has a value for every column, in the table's order.

    PostgreSQL loads them by COPY, SQLite by one prepared INSERT: fit for millions of rows.
    """
    names = [each.name for each in table.columns]
    if _is_sqlite(connection):
        marks = ", ".join("?" for _ in names)
        async for group in groups:
            if rows := [tuple(row) for row in group]:
                await connection.exec_driver_sql(f"INSERT INTO {table.name} VALUES ({marks})", rows)  # noqa: S608 - our own name
        return
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    async for group in groups:
        await driver.copy_records_to_table(table.name, records=group, columns=names)
    await connection.exec_driver_sql(f"ANALYZE pg_temp.{table.name}")


async def analyze(connection: AsyncConnection, table: Table, new: int) -> None:
    """Update the planner's statistics of a table to which `new` rows were added.

    Without them SQLite takes any table for a small one: a join of all rows took a step for each pair of rows.
    """
    is_sqlite = _is_sqlite(connection)
    if new <= (0 if is_sqlite else _MANY_ROWS):
        return
    if is_sqlite:
        await connection.exec_driver_sql(f"PRAGMA analysis_limit = {_SAMPLE_ROWS}")
    await connection.exec_driver_sql(f"ANALYZE {table.name}")


def _is_sqlite(connection: AsyncConnection) -> bool:
    return connection.dialect.name == "sqlite"
