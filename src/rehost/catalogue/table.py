"""One table of the operator's: its links are read, one column of it is written.

A row is written only while it still holds the URL that was fetched (invariant 2). Rows are locked first, in the order
of their keys, and written then: the values before are exact, and two workers cannot deadlock. No other column changes;
`updated_at` is left to the operator.

Only the columns that the source names are read, so a column of an unknown type (vector, tsvector) does no harm.
`TableCatalogue.open` checks before the first request is sent that the table can be used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    MetaData,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
    text,
    update,
)
from sqlalchemy.types import UserDefinedType

from rehost.db import Connection, Database, LinkRows, blank, byte_length, host_of
from rehost.errors import CatalogueError, MissingTableError
from rehost.language import Message
from rehost.model import MAX_LINK_CHARACTERS, Link, Source

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
    if database.is_sqlite:
        schema, name = split_name(source)
        # A comparison takes the affinity of its column, so text is right for every key (SQLite, datatype3, section
        # 4.2); a column may hold anything.
        query = text("SELECT name, 'text', true FROM pragma_table_info(:name, :schema)")
        query = query.bindparams(name=name, schema=schema or "main")
    else:
        # With its modifier: a cast to character alone would leave one letter of a character(8).
        query = text(
            "SELECT attname, format_type(atttypid, atttypmod), typcategory = 'S'"
            " FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
            " WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
        ).bindparams(name=regclass(source))
    rows = await database.fetch_all(query, error=CatalogueError)
    return {row[0]: ColumnType(row[1], is_text=bool(row[2])) for row in rows}


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


LONGEST_KEY_BYTES = 2000
"""Of a row's key as text: PostgreSQL's indexes take 2,704 bytes (btree), with the source's name."""


def links_of(table: Table, source: Source) -> Select[*tuple[Any, ...]]:
    """Return a query for every cell that holds a link: any text that is not blank, in a row whose key is not too long.

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
    ).where(~blank(table.c[source.link]), table.c[source.key].is_not(None), ~_is_key_too_long(table, source))


def _is_key_too_long(table: Table, source: Source) -> ColumnElement[bool]:
    kind = table.c[source.key].type
    if isinstance(kind, KeyType) and kind.name in (*_NUMBER_TYPES, "uuid"):
        return false()  # tables of a million rows are read often
    return byte_length(cast(table.c[source.key], Text)) > LONGEST_KEY_BYTES


def _start_of(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the first characters of a column: one more than a link may have, so that a longer text is recognised."""
    return func.substr(cast(column, Text), 1, MAX_LINK_CHARACTERS + 1)


_VERSIONED = f"%?v={'_' * 16}"  # local URLs that carry the first digits of a digest (store/layout.py)
_COLUMNS = {"row_key": Text(), "url": Text(), "local_url": Text()}


@dataclass(frozen=True, slots=True)
class WriteBack:
    """A row's cell that is to point at a copy."""

    link: Link
    local_url: str


@dataclass(frozen=True, slots=True)
class Clearing:
    """A row's cell that is to be cleared if it points at a copy, whatever link the row holds now."""

    link: Link  # of the row when the copy was its
    path: str  # the end of the copy's local URL, after a slash, under any prefix
    local_url: str | None = None  # all that the row may hold; None for any local URL that ends so


@dataclass(frozen=True, slots=True)
class Restore:
    """A row's cell that is to be restored to what it was before a run wrote it."""

    row_key: str
    url: str  # the link that the row held then
    before: str | None  # the local URL to put back
    after: str | None  # the local URL that the run wrote


class TableCatalogue:
    """One table of the operator's; made by `open`.

    Attributes:
        name: the source's.
        is_joint: the ledger is in the same database, so that one transaction writes both. Otherwise rows are written in
            transactions of their own; a kill between the two must be harmless, and the caller chooses their order.
    """

    def __init__(self, database: Database, source: Source, table: Table, *, is_joint: bool) -> None:
        self.name = source.name
        self.is_joint = is_joint
        self._database = database
        self._source = source
        self._table = table
        self._key = table.c[source.key]
        self._link: ColumnElement[str] = cast(table.c[source.link], Text)
        self._local: ColumnElement[str] = table.c[source.local]
        self._links = LinkRows(database, links_of(table, source))

    @classmethod
    async def open(cls, database: Database, source: Source, *, is_joint: bool = True) -> TableCatalogue:
        """Return the source's table, checked.

        Args:
            database: the operator's.
            source: which table and columns.
            is_joint: whether the ledger is in that database too.

        Raises:
            CatalogueError: the database cannot be reached, the table or a column does not exist, the column for
                the local URL cannot be written, or a key names several rows; the message says which.
        """
        table = await bind(database, source)
        await database.read(
            lambda connection: _check(connection, database, source, table), error=CatalogueError, slow=True
        )
        return cls(database, source, table, is_joint=is_joint)

    def links(self) -> LinkRows:
        """Return the operator's links as a selectable."""
        return self._links

    def row(self, row_key: str) -> LinkRows:
        """Return the links of the row with this key as a selectable; empty if no row can have such a key."""
        is_row = has_key(self._table, self._source, row_key)
        return LinkRows(self._database, self._links.select.where(is_row))

    async def rows_left_out(self) -> tuple[int, str]:
        """Return how many rows with a link have a key that is too long, and the beginning of the first of these keys.

        Raises:
            CatalogueError: the table cannot be read.
        """
        is_left_out = ~blank(self._table.c[self._source.link]) & _is_key_too_long(self._table, self._source)
        query = select(func.count(), func.min(func.substr(cast(self._key, Text), 1, 40))).where(is_left_out)
        ((number, first),) = await self._database.fetch_all(query, error=CatalogueError, slow=True)
        return number, first or ""

    async def local_urls(self, links: Sequence[Link]) -> dict[Link, str | None]:
        """Return the local URL of each of these links that its row still holds.

        Raises:
            CatalogueError: the table cannot be read.
        """
        if not links:
            return {}
        given = self._given([(link.row_key, link.url, None) for link in links])
        rows = await self._database.fetch_all(self._values(given, self._same_link(given)), error=CatalogueError)
        return {links[row[0] - 1]: row[1] for row in rows}

    async def write_back(
        self, changes: Sequence[WriteBack], transaction: Connection | None = None
    ) -> dict[Link, str | None]:
        """Set the local URL of every row that still holds its link's URL; return those links, with the value before.

        The one comparison is on the link's URL (invariant 2); rows that hold the value already count as written.

        Args:
            changes: links and their local URLs.
            transaction: an open one of the ledger's, used if `is_joint`; otherwise the rows get one of their own.

        Raises:
            CatalogueError: the column cannot be written (no privilege, column dropped).
        """
        if not changes:
            return {}
        given = self._given([(change.link.row_key, change.link.url, change.local_url) for change in changes])
        before = await self._write(transaction, given, self._same_link(given))
        return {changes[number - 1].link: value for number, value in before.items()}

    async def clear(self, changes: Sequence[Clearing], transaction: Connection | None = None) -> dict[Link, str | None]:
        """Clear the local URL of rows that point at these copies; return their links, with the value before.

        The local URL decides, not the link: a row whose link has changed still points at the former link's copy.

        Args:
            changes: links and the copies that their rows may point at.
            transaction: as in `write_back`.

        Raises:
            CatalogueError: the column cannot be written.
        """
        if not changes:
            return {}
        rows = [(each.link.row_key, each.link.url, None, f"/{each.path}", each.local_url) for each in changes]
        given = self._given(rows, "ending", "whole")
        local, ending = cast(self._local, Text), given.c.ending
        version = case((local.like(_VERSIONED), len(_VERSIONED) - 1), else_=0)  # its length
        start = func.length(local) - version - func.length(ending) + 1
        ends_so = func.substr(local, start, func.length(ending)) == ending
        is_whole = func.coalesce(given.c.whole, local) == local
        before = await self._write(transaction, given, self._same_row(given) & ends_so & is_whole)
        return {changes[number - 1].link: value for number, value in before.items()}

    async def restore(self, changes: Sequence[Restore]) -> int:
        """Put the local URL back in rows that still have the link and the local URL of then; return how many rows.

        Raises:
            CatalogueError: the column cannot be written.
        """
        if not changes:
            return 0
        given = self._given([(each.row_key, each.url, each.before, each.after) for each in changes], "after_url")
        match = self._same_link(given) & self._local.is_not_distinct_from(given.c.after_url)
        return len(await self._write(None, given, match))

    def _given(self, rows: Sequence[Sequence[object]], *more: str) -> FromClause:
        return self._database.given({**_COLUMNS, **dict.fromkeys(more, Text())}, rows)

    def _same_row(self, given: FromClause) -> ColumnElement[bool]:
        return self._key == cast(given.c.row_key, self._key.type)

    def _same_link(self, given: FromClause) -> ColumnElement[bool]:
        return self._same_row(given) & (self._link == given.c.url)

    def _values(self, given: FromClause, match: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
        return select(given.c.number, self._local).join_from(given, self._table, match)

    async def _write(
        self, transaction: Connection | None, given: FromClause, match: ColumnElement[bool]
    ) -> Mapping[int, str | None]:
        """Lock the rows that match, write those that differ, and return each value before by its number in `given`.

        A database that is opened for reading only is not written; the values are returned all the same.
        """
        if self._database.reads_only:
            rows = await self._database.fetch_all(self._values(given, match), error=CatalogueError)
            return {row[0]: row[1] for row in rows}
        locking = self._values(given, match).order_by(self._key).with_for_update(of=self._table)
        writing = (
            update(self._table)
            .values({self._source.local: given.c.local_url})
            .where(match, self._local.is_distinct_from(given.c.local_url))
        )

        async def work(connection: Connection) -> Mapping[int, str | None]:
            with self._database.raising(CatalogueError):
                before = {row[0]: row[1] for row in await connection.execute(locking)}
                await connection.execute(writing)
                return before

        if transaction is not None and self.is_joint:
            return await work(transaction)
        return await self._database.transact(work, error=CatalogueError)


INITIAL = "database/init.sql"
MIGRATION = "database/migrations/006_add_main_image_local_field.sql"


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
                advice=_column_advice(source, column),
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
    return Table(name, MetaData(), *columns, Column(source.local, Text), schema=schema or None)


def _table_advice(source: Source) -> Message:
    if source.table == Source().table:
        return Message(
            "check that this is the right database. In the manual's, {file} creates that table.", file=INITIAL
        )
    return Message("check the source's table, or that this is the right database.")


def _column_advice(source: Source, column: str) -> Message:
    if column == source.local == Source().local:
        return Message("run {file} in that database.", file=MIGRATION)
    if column == source.local:
        return Message("add it with ALTER TABLE {table} ADD COLUMN {column} TEXT.", table=source.table, column=column)
    return Message("check the source's settings.")


async def _check(connection: Connection, database: Database, source: Source, table: Table) -> None:
    """Check that the column for the local URL can be written, if it is to be, and that each key names one row."""
    # Planned, not run: the database refuses now (a view, a privilege), not later.
    writing = update(table).values({source.local: null()}).where(false())
    if not database.reads_only:
        await connection.exec_driver_sql(f"EXPLAIN {writing.compile(dialect=connection.dialect)}")
    if await _is_declared_unique(connection, database, source):
        return
    links = links_of(table, source).subquery()
    repeated = select(links.c.row_key).group_by(links.c.row_key).having(func.count() > 1).limit(1)
    if (key := await connection.scalar(repeated)) is not None:
        raise CatalogueError(
            "Several rows of {table} have {column} {key!r}, and each key must name one row: name a column, or make a "
            "view with one, whose values are unique.",
            table=source.table,
            column=source.key,
            key=key,
        )


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
