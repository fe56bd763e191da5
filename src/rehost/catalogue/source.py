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
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    cast,
    false,
    literal,
    text,
)
from sqlalchemy.types import TypeEngine, UserDefinedType

from rehost.database import Connection, Database
from rehost.errors import CatalogueError

_NUMBER = re.compile(r"-?[0-9]{1,18}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as PostgreSQL writes them
_TEXTS = ("TEXT", "CHARACTER VARYING", "VARCHAR")
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


async def bind(database: Database, source: Source) -> Table:
    """Return the source's table with the columns that it names.

    Raises:
        CatalogueError: the table, or one of the columns, is not there.
    """
    types = await types_of(database, source)
    place = database.place.place
    if not types:
        raise CatalogueError(
            f"{place} has no table {source.table}: check the source's table, or that this is the right database."
        )
    for column in filter(None, (source.key, source.link, source.page, source.local)):
        if column not in types:
            raise CatalogueError(f"The table {source.table} has no column {column}: {_advice(source, column)}")
    schema, _, name = source.table.rpartition(".")
    columns: list[Column[Any]] = [
        Column(source.key, KeyType(types[source.key]), primary_key=True),
        Column(source.link, Text),
    ]
    if source.page is not None and source.page not in (source.key, source.link):
        columns.append(Column(source.page, Text))
    return Table(name, MetaData(), *columns, Column(source.local, Text), schema=schema or None)


async def types_of(database: Database, source: Source) -> Mapping[str, str]:
    """Return the columns of the table with their types; nothing where there is no such table.

    Raises:
        CatalogueError: the database cannot be reached.
    """
    return await database.read(lambda connection: _types(connection, database, source), error=CatalogueError)


def _advice(source: Source, column: str) -> str:
    if column == source.local == Source().local:
        return f"run {MIGRATION} in that database."
    if column == source.local:
        return f"add it with ALTER TABLE {source.table} ADD COLUMN {column} TEXT."
    return "check the source's settings."


async def _types(connection: Connection, database: Database, source: Source) -> Mapping[str, str]:
    """Return the names and types of the table's columns; nothing where there is no such table."""
    schema, _, name = source.table.rpartition(".")
    if database.is_sqlite:
        query = text("SELECT name, type FROM pragma_table_info(:name, :schema)").bindparams(
            name=name, schema=schema or "main"
        )
    else:
        query = text(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
        ).bindparams(name=".".join(f'"{part}"' for part in source.table.split(".")))
    return {row[0]: row[1] or "TEXT" for row in await connection.execute(query)}


def key_type(table: Table, source: Source) -> TypeEngine[Any]:
    """Return the type to cast a row key back to; on SQLite what has INT in its name is a number."""
    kind = table.c[source.key].type
    assert isinstance(kind, KeyType)
    return Integer() if "INT" in kind.name.upper() and "POINT" not in kind.name.upper() else kind


def has_key(table: Table, source: Source, row_key: str) -> ColumnElement[bool]:
    """Return the condition that a row has this key, spelled exactly so; by the key's index where its type is usual.

    A text that is no value of the type would be an error on PostgreSQL, and 0 on SQLite: it is nobody's key.
    """
    column = table.c[source.key]
    exactly = cast(column, Text) == row_key
    kind = column.type
    assert isinstance(kind, KeyType)
    if isinstance(key_type(table, source), Integer):
        return and_(column == literal(int(row_key), BigInteger), exactly) if _NUMBER.fullmatch(row_key) else false()
    if kind.name.upper() == "UUID":
        return and_(column == cast(literal(row_key, Text), kind), exactly) if _UUID.fullmatch(row_key) else false()
    if kind.name.upper().startswith(_TEXTS):
        return and_(column == literal(row_key, Text), exactly)
    return exactly
