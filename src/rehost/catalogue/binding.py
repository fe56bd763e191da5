"""Binds a source to its table: names and types, and the checks that it can be used, before anything is fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, Column, ColumnElement, MetaData, Select, Table, Text, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from rehost.db import Connection, Database, NamedType, evidence_of
from rehost.db.errors import code_of
from rehost.errors import CatalogueError, MissingTableError
from rehost.language import Message
from rehost.model import Source

NUMBER_TYPES = ("smallint", "integer", "bigint")
TEXT_TYPES = ("text", "character varying")
INITIAL = "database/init.sql"
MIGRATION = "database/migrations/006_add_main_image_local_field.sql"
_MOST_SHOWN = 12  # columns that a message lists
_NOT_SUPPORTED = "0A000"  # feature_not_supported (PostgreSQL, appendix A)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type."""

    name: str  # as a CAST takes it
    is_text: bool
    is_required: bool  # NOT NULL


def split_name(source: Source) -> tuple[str, str]:
    """Return the table's schema (empty if it has none) and its name."""
    schema, _, name = source.table.rpartition(".")
    return schema, name


def regclass(source: Source) -> str:
    """Return the table's name for PostgreSQL's to_regclass, quoted so that its case is kept."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in split_name(source) if part)


async def types_of(database: Database, source: Source) -> Mapping[str, ColumnType]:
    """Return the type of each column of the table; empty if there is no such table.

    Raises:
        CatalogueError: the database cannot be reached.
    """
    if database.is_sqlite:
        schema, name = split_name(source)
        # A comparison takes the affinity of its column, so text is right for every key (SQLite, datatype3, section
        # 4.2); a column may hold anything.
        query = text("SELECT name, 'text', true, \"notnull\" FROM pragma_table_info(:name, :schema)")
        query = query.bindparams(name=name, schema=schema or "main")
    else:
        # With its modifier: a cast to character alone would leave one letter of a character(8).
        query = text(
            "SELECT attname, format_type(atttypid, atttypmod), typcategory = 'S', attnotnull"
            " FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
            " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
        ).bindparams(name=regclass(source))
    rows = await database.fetch_all(query, error=CatalogueError)
    return {row[0]: ColumnType(row[1], is_text=bool(row[2]), is_required=bool(row[3])) for row in rows}


def key_column(source: Source, types: Mapping[str, ColumnType]) -> Column[Any]:
    """Return the key column, with the type to which a key read as text is cast back."""
    return Column(source.key, NamedType(types[source.key].name), primary_key=True)


async def bind(database: Database, source: Source) -> Table:
    """Return the source's table with the columns that the source names.

    Raises:
        CatalogueError: the table or a column does not exist, or a column's type holds no text.
    """
    types = await types_of(database, source)
    if not types:
        raise MissingTableError(
            "{place} has no table {table}: {advice}",
            place=database.place.place,
            table=source.table,
            advice=_table_advice(source),
        )
    for column in filter(None, (source.key, source.link, source.page, source.local)):
        if column not in types:
            raise CatalogueError(
                "The table {table} has no column {column}: {advice}",
                table=source.table,
                column=column,
                advice=_column_advice(source, column, sorted(types)),
            )
    for column in (source.link, source.local):
        if not types[column].is_text:
            raise CatalogueError(
                "The column {column} of {table} is of the type {type}, where text is needed: name a column that holds "
                "one URL in each row.",
                column=column,
                table=source.table,
                type=types[column].name,
            )
    schema, name = split_name(source)
    columns: list[Column[Any]] = [key_column(source, types), Column(source.link, Text)]
    if source.page is not None and source.page not in (source.key, source.link):
        columns.append(Column(source.page, Text))
    columns.append(Column(source.local, Text, nullable=not types[source.local].is_required))
    return Table(name, MetaData(), *columns, schema=schema or None)


def _table_advice(source: Source) -> Message:
    if source.table == Source().table:
        return Message(
            "check that this is the right database. In the manual's, {file} creates that table.", file=INITIAL
        )
    return Message("check that this is the right database, and the table in [source.{source}].", source=source.name)


def _column_advice(source: Source, column: str, columns: Sequence[str]) -> Message:
    if column == source.local == Source().local:
        return Message("run {file} in that database.", file=MIGRATION)
    if column == source.local:
        return Message("add it with ALTER TABLE {table} ADD COLUMN {column} TEXT.", table=source.table, column=column)
    shown = ", ".join(columns[:_MOST_SHOWN]) + (" ..." if len(columns) > _MOST_SHOWN else "")
    return Message("choose one of {columns} in [source.{source}] of rehost.toml.", columns=shown, source=source.name)


async def check_statements(connection: Connection, source: Source, statements: Sequence[ClauseElement]) -> None:
    """Have the database plan the statements that a run uses, so that it refuses them now: a privilege, a view."""
    for statement in statements:
        try:
            await connection.exec_driver_sql(f"EXPLAIN {statement.compile(dialect=connection.dialect)}")
        except SQLAlchemyError as error:
            if code_of(error) == _NOT_SUPPORTED:
                raise CatalogueError(
                    "Rows of {table} cannot be locked and written ({message}): name a table, or a view of one table "
                    "without an outer join.",
                    table=source.table,
                    message=evidence_of(error),
                ) from error
            raise


async def check_keys(
    connection: Connection,
    database: Database,
    source: Source,
    table: Table,
    links: Select[*tuple[Any, ...]],
    finds_itself: ColumnElement[bool],
) -> None:
    """Check that each key names one row, and that a row is found again by its key as text.

    Args:
        connection: with an open transaction.
        database: the operator's.
        source: which table and columns.
        table: the source's.
        links: the links, as `links_of` reads them.
        finds_itself: the condition that a row is found by its own key as text.
    """
    is_plain = await _has_plain_keys(connection, database, table.c[source.key])
    lost = None if is_plain else (await connection.execute(links.where(~finds_itself).limit(1))).first()
    if lost is not None:
        raise CatalogueError(
            "A row of {table} is not found again by its {column} as text, {key!r}: name a key column of whole numbers "
            "or text (numbers with a fraction, and bytes, have no exact text).",
            table=source.table,
            column=source.key,
            key=lost.row_key,
        )
    if (is_plain or not database.is_sqlite) and await _has_unique_index(connection, database, source):
        return
    rows = links.subquery()
    repeated = select(rows.c.row_key).group_by(rows.c.row_key).having(func.count() > 1).limit(1)
    if (key := await connection.scalar(repeated)) is not None:
        raise CatalogueError(
            "Several rows of {table} have {column} {key!r}, and each key must name one row: name a column, or make a "
            "view with one, whose values are unique.",
            table=source.table,
            column=source.key,
            key=key,
        )


async def _has_plain_keys(connection: Connection, database: Database, key: Column[Any]) -> bool:
    """Return whether all keys are whole numbers, or all are text: then different keys have different texts.

    A column of SQLite may hold values of any type (SQLite, datatype3, section 1).
    """
    if not database.is_sqlite:
        name = key.type.get_col_spec() if isinstance(key.type, NamedType) else ""
        return name in (*NUMBER_TYPES, "uuid") or name.startswith(TEXT_TYPES)
    kinds = select(func.min(func.typeof(key)), func.max(func.typeof(key))).where(key.is_not(None))
    first, last = (await connection.execute(kinds)).one()
    return first == last and first in {"integer", "text", None}


async def _has_unique_index(connection: Connection, database: Database, source: Source) -> bool:
    """Return whether a unique index covers the key column."""
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
