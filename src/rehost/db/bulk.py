"""Temporary tables of one connection: made, filled by millions of rows, and dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable


@asynccontextmanager
async def temporary(connection: AsyncConnection, table: Table) -> AsyncIterator[None]:
    """Have a temporary table on this connection, for as long as the block lasts."""
    await make_temporary(connection, table)
    yield
    await drop_temporary(connection, table)


async def make_temporary(connection: AsyncConnection, table: Table) -> None:
    """Make a temporary table on this connection, in place of what an earlier user of it may have left."""
    await drop_temporary(connection, table)
    await connection.execute(CreateTable(table))


async def drop_temporary(connection: AsyncConnection, table: Table) -> None:
    """Drop a temporary table, if it is there."""
    schema = "temp" if _is_sqlite(connection) else "pg_temp"
    await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {schema}.{table.name}")


async def load(connection: AsyncConnection, table: Table, groups: AsyncIterator[Iterable[Sequence[object]]]) -> None:
    """Fill a table by groups of rows, each with a value for every column in the table's order; millions will do."""
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


def _is_sqlite(connection: AsyncConnection) -> bool:
    return connection.dialect.name == "sqlite"
