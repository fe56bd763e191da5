"""Checks that a table can be worked on, before the first request is sent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, MetaData, Table, Text, false, func, null, select, text, update

from rehost.catalogue.schema import key_column, links_of, regclass, split_name, types_of
from rehost.db import Connection, Database
from rehost.errors import CatalogueError
from rehost.model import Source

INITIAL = "database/init.sql"
MIGRATION = "database/migrations/006_add_main_image_local_field.sql"


async def bind(database: Database, source: Source) -> Table:
    """Return the source's table with the columns that the source names.

    Raises:
        CatalogueError: the table or a column does not exist, or a column's type holds no text.
    """
    types = await types_of(database, source)
    if not types:
        raise CatalogueError(f"{database.place.place} has no table {source.table}: {_table_advice(source)}")
    for column in filter(None, (source.key, source.link, source.page, source.local)):
        if column not in types:
            raise CatalogueError(f"The table {source.table} has no column {column}: {_column_advice(source, column)}")
    for column in (source.link, source.local):
        if not types[column].is_text:
            raise CatalogueError(
                f"The column {column} of {source.table} is of the type {types[column].name}, where text is needed: "
                "name a column that holds one URL in each row."
            )
    schema, name = split_name(source)
    columns: list[Column[Any]] = [key_column(source, types), Column(source.link, Text)]
    if source.page is not None and source.page not in (source.key, source.link):
        columns.append(Column(source.page, Text))
    return Table(name, MetaData(), *columns, Column(source.local, Text), schema=schema or None)


def _table_advice(source: Source) -> str:
    if source.table == Source().table:
        return f"check that this is the right database, or run {INITIAL} in it."
    return "check the source's table, or that this is the right database."


def _column_advice(source: Source, column: str) -> str:
    if column == source.local == Source().local:
        return f"run {MIGRATION} in that database."
    if column == source.local:
        return f"add it with ALTER TABLE {source.table} ADD COLUMN {column} TEXT."
    return "check the source's settings."


async def check(database: Database, source: Source, table: Table) -> None:
    """Check that each key names one row, and that the column for the local URL can be written.

    Raises:
        CatalogueError: one of the two is not so; the sentence says what to do.
    """
    await database.read(lambda connection: _check(connection, database, source, table), error=CatalogueError, slow=True)


async def _check(connection: Connection, database: Database, source: Source, table: Table) -> None:
    await _plan_write(connection, source, table)
    if await _is_declared_unique(connection, database, source):
        return
    links = links_of(table, source).subquery()
    repeated = select(links.c.row_key).group_by(links.c.row_key).having(func.count() > 1).limit(1)
    if (key := await connection.scalar(repeated)) is not None:
        raise CatalogueError(
            f"Several rows of {source.table} have {source.key} {key}, and each key must name one row: "
            "name a column, or make a view with one, whose values are unique."
        )


async def _plan_write(connection: Connection, source: Source, table: Table) -> None:
    """Have the database plan a write without running it, so that it refuses now (a view, a privilege), not later."""
    writing = update(table).values({source.local: null()}).where(false())
    await connection.exec_driver_sql(f"EXPLAIN {writing.compile(dialect=connection.dialect)}")


async def _is_declared_unique(connection: Connection, database: Database, source: Source) -> bool:
    """Return whether a unique index covers the key column; if so, the whole table need not be read."""
    if database.is_sqlite:
        schema, name = split_name(source)
        query = text(
            "SELECT :key = (SELECT CASE count(*) WHEN 1 THEN max(name) END"
            " FROM pragma_table_info(:name, :schema) WHERE pk > 0)"
            " OR EXISTS (SELECT 1 FROM pragma_index_list(:name, :schema) AS list"
            ' WHERE list."unique" AND NOT partial AND :key ='
            " (SELECT CASE count(*) WHEN 1 THEN max(name) END FROM pragma_index_info(list.name, :schema)))"
        ).bindparams(name=name, schema=schema or "main", key=source.key)
    else:
        query = text(
            "SELECT EXISTS (SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
            " WHERE indrelid = to_regclass(:name) AND attname = :key"
            " AND indisunique AND indisvalid AND indnkeyatts = 1 AND indpred IS NULL)"
        ).bindparams(name=regclass(source), key=source.key)
    return bool(await connection.scalar(query))
