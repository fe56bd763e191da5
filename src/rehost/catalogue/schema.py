"""The operator's table as its database describes it: column types, keys, and the links as a selectable.

Only the columns that the source names are read, so a column of an unknown type (vector, tsvector) does no harm.
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
    Select,
    Table,
    Text,
    and_,
    cast,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
)
from sqlalchemy.types import UserDefinedType

from rehost.db import Connection, Database, blank, host_of
from rehost.errors import CatalogueError
from rehost.model import MAX_LINK_CHARACTERS, Source

_NUMBER = re.compile(r"-?[0-9]{1,19}")
_LARGEST_NUMBER = 2**63 - 1  # bigint
_NUMBER_TYPES = ("smallint", "integer", "bigint")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as PostgreSQL writes them
_TEXT_TYPES = ("text", "character varying")


class KeyType(UserDefinedType[Any]):
    """A column type by its name in the database, to cast keys back to it."""

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
    return await database.read(lambda connection: _types(connection, database, source), error=CatalogueError)


async def _types(connection: Connection, database: Database, source: Source) -> Mapping[str, ColumnType]:
    if database.is_sqlite:
        schema, name = split_name(source)
        # A comparison takes the affinity of its column, so text is right for every key (SQLite, datatype3, section
        # 4.2); a column may hold anything.
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


def key_column(source: Source, types: Mapping[str, ColumnType]) -> Column[Any]:
    """Return the key column, with the type to which a key read as text is cast back."""
    return Column(source.key, KeyType(types[source.key].name), primary_key=True)


def has_key(table: Table, source: Source, row_key: str) -> ColumnElement[bool]:
    """Return the condition that a row has exactly this key; it uses the key's index where the type is a usual one.

    PostgreSQL raises an error for text that is no value of the type, so such a key is compared with nothing.
    """
    column = table.c[source.key]
    exactly = cast(column, Text) == row_key
    kind = column.type
    assert isinstance(kind, KeyType)
    if kind.name in _NUMBER_TYPES:
        is_number = _NUMBER.fullmatch(row_key) and -_LARGEST_NUMBER <= int(row_key) <= _LARGEST_NUMBER
        return and_(column == literal(int(row_key), BigInteger), exactly) if is_number else false()
    if kind.name == "uuid":
        return and_(column == cast(literal(row_key, Text), kind), exactly) if _UUID.fullmatch(row_key) else false()
    if kind.name.startswith(_TEXT_TYPES):
        return and_(column == literal(row_key, Text), exactly)
    return exactly


def links_of(table: Table, source: Source) -> Select[*tuple[Any, ...]]:
    """Return a query for every cell that holds a link: any text that is not blank.

    Columns: row_key, position, url, page_url, local_url, host.
    """
    url = _start_of(table.c[source.link])
    page = _start_of(table.c[source.page]) if source.page else null()
    return select(
        cast(table.c[source.key], Text).label("row_key"),
        literal_column("0").label("position"),
        url.label("url"),
        cast(page, Text).label("page_url"),
        cast(table.c[source.local], Text).label("local_url"),
        host_of(url).label("host"),
    ).where(~blank(table.c[source.link]), table.c[source.key].is_not(None))


def _start_of(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the first characters of a column: one more than a link may have, so that a longer text shows as one."""
    return func.substr(cast(column, Text), 1, MAX_LINK_CHARACTERS + 1)
