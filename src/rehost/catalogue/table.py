"""Which table, and which of its columns: as the operator names them, and as the database has them.

Only the columns that are named are looked at: one of a type that nobody knows (vector, tsvector) never stops us.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    MetaData,
    Table,
    Text,
    and_,
    cast,
    false,
    literal,
    text,
)
from sqlalchemy.types import UserDefinedType

from rehost.db import Connection, Database
from rehost.errors import CatalogueError

_NUMBER = re.compile(r"-?[0-9]{1,19}")
_LARGEST = 2**63 - 1  # bigint
_NUMBERS = ("smallint", "integer", "bigint")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as PostgreSQL writes them
_TEXTS = ("text", "character varying")
INITIAL = "database/init.sql"
MIGRATION = "database/migrations/006_add_main_image_local_field.sql"


@dataclass(frozen=True, slots=True)
class Source:
    """One table of the operator's."""

    name: str = "cases"
    table: str = "ad_cases"  # may carry a schema: public.ad_cases
    key: str = "case_id"  # column that names a row for ever; of numbers or of text, unique
    link: str = "main_image"  # column with the link
    page: str | None = "source_url"  # column with the page that shows the picture, if there is one
    local: str = "main_image_local"  # column that we write
    path: str = "{key}/main_image"  # template of a copy's name in the store, without its extension
    title: str | None = "title"  # column with words to search by on the page; it may be missing


class KeyType(UserDefinedType[Any]):
    """A column type by the name that the database has for it, to cast keys back to."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_kwargs: object) -> str:
        """Return the name as SQL."""
        return self.name


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type."""

    name: str  # as a CAST takes it
    is_text: bool


async def bind(database: Database, source: Source) -> Table:
    """Return the source's table with the columns that it names.

    Raises:
        CatalogueError: the table, or one of the columns, is not there, or a column is of a type that holds no text.
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
    schema, name = _parts(source)
    columns: list[Column[Any]] = [key_column(source, types), Column(source.link, Text)]
    if source.page is not None and source.page not in (source.key, source.link):
        columns.append(Column(source.page, Text))
    return Table(name, MetaData(), *columns, Column(source.local, Text), schema=schema or None)


async def types_of(database: Database, source: Source) -> Mapping[str, ColumnType]:
    """Return the columns of the table with their types; nothing where there is no such table.

    Raises:
        CatalogueError: the database cannot be reached.
    """
    return await database.read(lambda connection: _types(connection, database, source), error=CatalogueError)


def key_column(source: Source, types: Mapping[str, ColumnType]) -> Column[Any]:
    """Return the column that names a row; its type is what a key that was text for a while is cast back to."""
    return Column(source.key, KeyType(types[source.key].name), primary_key=True)


def regclass(source: Source) -> str:
    """Return the table's name as PostgreSQL's to_regclass takes it: as it stands, upper case and all."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in _parts(source) if part)


def _parts(source: Source) -> tuple[str, str]:
    """Return schema, if any, and name."""
    schema, _, name = source.table.rpartition(".")
    return schema, name


def _table_advice(source: Source) -> str:
    if source.table == Source().table:
        return f"check that it is the right database, or run {INITIAL} in it."
    return "check the source's table, or that this is the right database."


def _column_advice(source: Source, column: str) -> str:
    if column == source.local == Source().local:
        return f"run {MIGRATION} in that database."
    if column == source.local:
        return f"add it with ALTER TABLE {source.table} ADD COLUMN {column} TEXT."
    return "check the source's settings."


async def _types(connection: Connection, database: Database, source: Source) -> Mapping[str, ColumnType]:
    schema, name = _parts(source)
    if database.is_sqlite:
        # A comparison takes on the affinity of its column, so that text is right for every key (SQLite, datatype3,
        # section 4.2); a column may hold anything.
        query = text("SELECT name FROM pragma_table_info(:name, :schema)")
        found = await connection.execute(query.bindparams(name=name, schema=schema or "main"))
        return {row[0]: ColumnType("text", is_text=True) for row in found}
    # With its modifier: a cast to character alone would leave one letter of a character(8).
    query = text(
        "SELECT attname, format_type(atttypid, atttypmod), typcategory = 'S'"
        " FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
        " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
    ).bindparams(name=regclass(source))
    return {row[0]: ColumnType(row[1], is_text=row[2]) for row in await connection.execute(query)}


def has_key(table: Table, source: Source, row_key: str) -> ColumnElement[bool]:
    """Return the condition that a row has this key, spelled exactly so; by the key's index where its type is usual.

    A text that is no value of the type would be an error on PostgreSQL: it is nobody's key.
    """
    column = table.c[source.key]
    exactly = cast(column, Text) == row_key
    kind = column.type
    assert isinstance(kind, KeyType)
    if kind.name in _NUMBERS:
        is_one = _NUMBER.fullmatch(row_key) and -_LARGEST <= int(row_key) <= _LARGEST
        return and_(column == literal(int(row_key), BigInteger), exactly) if is_one else false()
    if kind.name == "uuid":
        return and_(column == cast(literal(row_key, Text), kind), exactly) if _UUID.fullmatch(row_key) else false()
    if kind.name.startswith(_TEXTS):
        return and_(column == literal(row_key, Text), exactly)
    return exactly
