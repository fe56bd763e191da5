"""One table of the operator's: its links are read, one column of it is written.

A row is written only while it still holds the URL that was fetched (invariant 2). Rows are locked first, in the order
of their keys, and written then: the values before are exact, and two workers cannot deadlock. No other column changes;
`updated_at` is left to the operator.

Only the columns that the source names are read, so a column of an unknown type (vector, tsvector) does no harm.
`TableCatalogue.open` checks before the first request is sent that the table can be used.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    LargeBinary,
    Numeric,
    Select,
    Table,
    Text,
    Update,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from rehost.catalogue.binding import NUMBER_TYPES, TEXT_TYPES, bind, check_keys, check_statements
from rehost.db import (
    Connection,
    Database,
    LinkRows,
    NamedType,
    blank,
    byte_length,
    evidence_of,
    exact_text,
    host_of,
    is_locked_row,
    is_of_rows,
    is_unreadable,
)
from rehost.errors import CatalogueError
from rehost.language import Message
from rehost.model import MAX_LINK_CHARACTERS, Link, RowRefusal, Source
from rehost.retry import LOCKED_ROW_WAIT, ROW_WAIT

log = logging.getLogger(__name__)

T = TypeVar("T")

_NUMBER = re.compile(r"-?[0-9]{1,19}")
_LARGEST_NUMBER = 2**63 - 1  # bigint
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # as PostgreSQL writes them


def has_key(table: Table, source: Source, row_key: str) -> ColumnElement[bool]:
    """Return the condition that a row has exactly this key; it uses the key's index where the type is a usual one.

    PostgreSQL raises an error for text that is no value of the type, so such a key is compared with nothing.
    """
    column = table.c[source.key]
    exactly = exact_text(column) == row_key
    kind = column.type
    assert isinstance(kind, NamedType)
    if kind.name in NUMBER_TYPES:
        is_number = _NUMBER.fullmatch(row_key) and -_LARGEST_NUMBER <= int(row_key) <= _LARGEST_NUMBER
        return and_(column == literal(int(row_key), BigInteger), exactly) if is_number else false()
    if kind.name == "uuid":
        return and_(column == cast(literal(row_key, Text), kind), exactly) if _UUID.fullmatch(row_key) else false()
    if kind.name.startswith(TEXT_TYPES):
        return and_(column == literal(row_key, Text), exactly)
    return exactly


LONGEST_KEY_BYTES = 2000
"""Of a row's key as text: PostgreSQL's indexes take 2,704 bytes (btree), with the source's name."""


LOCK_SECONDS = 5.0
"""How long a write waits for a row that another transaction has locked; then that row is written in a later run."""

_SECOND_LOCK_SECONDS = 0.1  # for each row of a group that has waited already


def links_of(table: Table, source: Source) -> Select[*tuple[Any, ...]]:
    """Return a query for every cell that holds a link: any text that is not blank, in a row that is not left out.

    Columns: row_key, position, url, page_url, local_url, host.
    """
    url = _start_of(table.c[source.link])
    page = _start_of(table.c[source.page]) if source.page else cast(null(), Text)
    return select(
        exact_text(table.c[source.key]).label("row_key"),
        literal_column("0").label("position"),
        url.label("url"),
        page.label("page_url"),
        exact_text(table.c[source.local]).label("local_url"),
        host_of(url).label("host"),
    ).where(_has_link(table, source), ~_is_key_too_long(table, source), ~_is_unreadable(table, source))


def _has_link(table: Table, source: Source) -> ColumnElement[bool]:
    return and_(~blank(table.c[source.link]), table.c[source.key].is_not(None))


def _is_key_too_long(table: Table, source: Source) -> ColumnElement[bool]:
    kind = table.c[source.key].type
    if isinstance(kind, NamedType) and kind.name in (*NUMBER_TYPES, "uuid"):
        return false()  # tables of a million rows are read often
    return byte_length(exact_text(table.c[source.key])) > LONGEST_KEY_BYTES


def _is_unreadable(table: Table, source: Source) -> ColumnElement[bool]:
    columns = dict.fromkeys(filter(None, (source.key, source.link, source.page, source.local)))
    return is_unreadable(*(table.c[name] for name in columns))


def _start_of(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the first characters of a column: one more than a link may have, so that a longer text is recognised.

    The length in bytes is known without reading the text: a million of them are compared often.
    """
    text, longest = exact_text(column), MAX_LINK_CHARACTERS + 1
    return case((byte_length(text) > longest, func.substr(text, 1, longest)), else_=text)


_STREAMED = 5000  # local URLs that are read at once
_VERSIONED = f"%?v={'_' * 16}"  # local URLs that carry the first digits of a digest (store/layout.py)
_READ_ONLY = Message("the row may be read, but not changed: look at the table's row security")
_COLUMNS = {"row_key": Text(), "url": Text(), "local_url": Text()}


@dataclass(frozen=True, slots=True)
class WriteBack:
    """A row's cell that is to point at a copy."""

    link: Link
    local_url: str


@dataclass(frozen=True, slots=True)
class Clearing:
    """A row's cell that is to be cleared if it points at a copy, whatever link the row holds now; or to point on."""

    link: Link  # of the row when the copy was its
    path: str  # the end of the copy's local URL, after a slash, under any prefix
    local_url: str | None = None  # all that the row may hold; None for any local URL that ends so
    to_url: str | None = None  # the local URL of the same bytes at another place


@dataclass(frozen=True, slots=True)
class Restore:
    """A row's cell that is to be restored to what it was before a run wrote it."""

    row_key: str
    url: str  # the link that the row held then
    before: str | None  # the local URL to put back
    after: str | None  # the local URL that the run wrote


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What became of a group of changes; in neither mapping are those whose rows do not match (any more)."""

    before: Mapping[T, str | None]  # of those whose rows hold the new value now: the value before
    refused: Mapping[T, RowRefusal]


class TableCatalogue:
    """One table of the operator's; made by `open`.

    Attributes:
        name: the source's.
        is_joint: the ledger is in the same database, so that one transaction writes both. Otherwise rows are written in
            transactions of their own; a kill between the two must be harmless, and the caller chooses their order.
        empty: what a cleared row holds: NULL, or an empty text if the column takes no NULL.
    """

    def __init__(self, database: Database, source: Source, table: Table, *, is_joint: bool) -> None:
        self.name = source.name
        self.is_joint = is_joint
        self._database = database
        self._source = source
        self.empty = None if table.c[source.local].nullable else ""
        self._table = table
        self._key = table.c[source.key]
        self._local = exact_text(table.c[source.local])
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
                the local URL cannot be written, a key names several rows, or a row is not found again by its key; the
                message says which. That the column cannot be written is only a warning if the database is only read.
        """
        table = await bind(database, source)
        opened = cls(database, source, table, is_joint=is_joint)
        try:
            await database.read(opened._check_writing, error=CatalogueError, slow=True)
        except CatalogueError as error:
            if not database.reads_only:
                raise
            log.warning("A run would stop: %s", error)
        await database.read(opened._check_keys, error=CatalogueError, slow=True)
        return opened

    async def _check_writing(self, connection: Connection) -> None:
        nothing = select(
            *(cast(null(), type_).label(name) for name, type_ in _COLUMNS.items()), literal_column("0").label("number")
        )
        given = nothing.where(false()).subquery("given")
        match = self._same_link(given)
        statements = (self._locking(given, match), self._writing(given, match))
        await check_statements(connection, self._source, statements)

    async def _check_keys(self, connection: Connection) -> None:
        key, links = exact_text(self._key), links_of(self._table, self._source)
        await check_keys(connection, self._database, self._source, self._table, links, self._is_row(key))

    def links(self) -> LinkRows:
        """Return the operator's links as a selectable."""
        return self._links

    def row(self, row_key: str) -> LinkRows:
        """Return the links of the row with this key as a selectable; empty if no row can have such a key."""
        is_row = has_key(self._table, self._source, row_key)
        if self._database.is_sqlite:
            is_row = self._is_row(literal(row_key, Text))
        return LinkRows(self._database, self._links.select.where(is_row))

    async def rows_left_out(self) -> Sequence[tuple[str, int, str]]:
        """Return why rows with a link are left out, how many, and the beginning of the key of the first of these.

        Raises:
            CatalogueError: the table cannot be read.
        """
        key: ColumnElement[str] = exact_text(self._key)
        if self._database.is_sqlite:  # a key that is no text is shown as SQLite writes bytes
            key = case((is_unreadable(self._key), func.quote(cast(self._key, LargeBinary))), else_=key)
        causes = (
            (f"their keys have more than {LONGEST_KEY_BYTES} bytes", _is_key_too_long(self._table, self._source)),
            ("a cell is no text (invalid UTF-8, or a NUL character)", _is_unreadable(self._table, self._source)),
        )
        found = []
        for cause, is_left_out in causes:
            query = select(func.count(), func.min(func.substr(key, 1, 40)))
            query = query.where(_has_link(self._table, self._source), is_left_out)
            ((number, first),) = await self._database.fetch_all(query, error=CatalogueError, slow=True)
            if number:
                found.append((cause, number, first or ""))
        return found

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

    async def read_local_urls(self, see: Callable[[Sequence[str]], None]) -> None:
        """Call `see` with all local URLs, in groups, of rows without a link too; again with all after an outage.

        Raises:
            CatalogueError: the table cannot be read.
        """
        local = self._table.c[self._source.local]
        query = select(self._local).where(~blank(local), ~is_unreadable(local))

        async def work(connection: Connection) -> None:
            async with connection.stream(query.execution_options(yield_per=_STREAMED)) as rows:
                async for group in rows.scalars().partitions():
                    see(group)

        await self._database.read(work, error=CatalogueError, slow=True)

    async def write_back(self, changes: Sequence[WriteBack], transaction: Connection | None = None) -> Written[Link]:
        """Set the local URL of every row that still holds its link's URL.

        The one comparison is on the link's URL (invariant 2); rows that hold the value already count as written. A row
        that the database refuses to write keeps no other from being written.

        Args:
            changes: links and their local URLs.
            transaction: an open one of the ledger's, used if `is_joint`; otherwise the rows get one of their own.

        Raises:
            CatalogueError: the column cannot be written (no privilege, column dropped).
        """
        given = self._given([(change.link.row_key, change.link.url, change.local_url) for change in changes])
        return await self._write(transaction, [change.link for change in changes], given, self._same_link(given))

    async def clear(self, changes: Sequence[Clearing], transaction: Connection | None = None) -> Written[Link]:
        """Clear the local URL of rows that point at these copies, or have them point at the same bytes elsewhere.

        The local URL decides, not the link: a row whose link has changed still points at the former link's copy.

        Args:
            changes: links and the copies that their rows may point at.
            transaction: as in `write_back`.

        Raises:
            CatalogueError: the column cannot be written.
        """
        rows = [
            (each.link.row_key, each.link.url, each.to_url or self.empty, f"/{each.path}", each.local_url)
            for each in changes
        ]
        given = self._given(rows, "ending", "whole")
        local, ending = self._local, given.c.ending
        version = case((local.like(_VERSIONED), len(_VERSIONED) - 1), else_=0)  # its length
        start = func.length(local) - version - func.length(ending) + 1
        ends_so = func.substr(local, start, func.length(ending)) == ending
        is_whole = func.coalesce(given.c.whole, local) == local
        match = self._same_row(given) & ends_so & is_whole
        return await self._write(transaction, [change.link for change in changes], given, match)

    async def restore(self, changes: Sequence[Restore]) -> Written[Restore]:
        """Put the local URL back in rows that still have the link and the local URL of then.

        Raises:
            CatalogueError: the column cannot be written.
        """
        given = self._given([(each.row_key, each.url, each.before, each.after) for each in changes], "after_url")
        match = self._same_link(given) & self._local.is_not_distinct_from(given.c.after_url)
        return await self._write(None, changes, given, match)

    def _given(self, rows: Sequence[Sequence[object]], *more: str) -> FromClause:
        return self._database.given({**_COLUMNS, **dict.fromkeys(more, Text())}, rows)

    def _is_row(self, row_key: ColumnElement[str]) -> ColumnElement[bool]:
        """Return the condition that a row has exactly this key; its first part uses the key's index.

        A column of SQLite without a type compares a number with no text (SQLite, datatype3, section 4.2).
        """
        is_same = self._key == cast(row_key, self._key.type)
        if self._database.is_sqlite:
            is_same = self._key.in_([row_key, cast(row_key, Numeric)])
        return is_same & (exact_text(self._key) == row_key)

    def _same_row(self, given: FromClause) -> ColumnElement[bool]:
        return self._is_row(given.c.row_key)

    def _same_link(self, given: FromClause) -> ColumnElement[bool]:
        return self._same_row(given) & (exact_text(self._table.c[self._source.link]) == given.c.url)

    def _values(self, given: FromClause, match: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
        return select(given.c.number, self._local).join_from(given, self._table, match)

    def _locking(self, given: FromClause, match: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
        return self._values(given, match).order_by(self._key).with_for_update(of=self._table)

    def _writing(self, given: FromClause, match: ColumnElement[bool]) -> Update:
        writing = update(self._table).values({self._source.local: given.c.local_url})
        return writing.where(match, self._local.is_distinct_from(given.c.local_url))

    async def _write(
        self, transaction: Connection | None, names: Sequence[T], given: FromClause, match: ColumnElement[bool]
    ) -> Written[T]:
        """Write the rows that match and differ; `names` stand for the rows of `given`, in its order.

        A database that is opened for reading only is not written; the values are returned all the same.
        """
        if not names:
            return Written({}, {})
        if self._database.reads_only:
            rows = await self._database.fetch_all(self._values(given, match), error=CatalogueError)
            return Written({names[row[0] - 1]: row[1] for row in rows}, {})

        async def work(connection: Connection) -> Written[int]:
            with self._database.raising(CatalogueError):
                return await self._write_rows(connection, given, match, len(names))

        if transaction is not None and self.is_joint:
            found = await work(transaction)
        else:
            found = await self._database.transact(work, error=CatalogueError)
        refused = {names[number - 1]: refusal for number, refusal in found.refused.items()}
        return Written({names[number - 1]: value for number, value in found.before.items()}, refused)

    async def _write_rows(
        self, connection: Connection, given: FromClause, match: ColumnElement[bool], size: int
    ) -> Written[int]:
        """Lock the rows that match and write those that differ, by their numbers in `given`; then look at them."""
        locking, writing = self._locking(given, match), self._writing(given, match)
        errors: dict[int, Exception] = {}
        unlocked = RowRefusal(None, _READ_ONLY, ROW_WAIT)
        try:
            async with connection.begin_nested():
                await self._database.limit_locks(connection, LOCK_SECONDS)
                before = await _numbered(connection, locking)
                await connection.execute(writing)
        except SQLAlchemyError as caught:
            if not is_of_rows(caught):
                raise
            await self._database.limit_locks(connection, _SECOND_LOCK_SECONDS)
            before = await _numbered(connection, locking.with_for_update(of=self._table, skip_locked=True))
            if is_locked_row(caught):
                words = Message("another transaction has locked the row")
                unlocked = RowRefusal(None, words, LOCKED_ROW_WAIT)
            await self._write_apart(connection, given, writing, [])  # raises what is not about the rows
            errors = await self._write_apart(connection, given, writing, sorted(before))
        is_written = self._local.is_not_distinct_from(given.c.local_url)
        written = await _numbered(connection, self._values(given, self._same_row(given) & is_written))
        refused: dict[int, RowRefusal] = {}
        if silent := before.keys() - written.keys() - errors.keys():
            after = await _numbered(connection, self._values(given, self._same_row(given)))
            refused = {each: _silently_left(after.get(each)) for each in silent}
        refused |= {each: _refused(before[each], error) for each, error in errors.items()}
        if len(before) < size:
            there = await _numbered(connection, self._values(given, match))
            refused |= {each: replace(unlocked, local_url=there[each]) for each in there.keys() - before.keys()}
        return Written({each: value for each, value in before.items() if each not in refused}, refused)

    async def _write_apart(
        self, connection: Connection, given: FromClause, writing: Update, numbers: Sequence[int]
    ) -> dict[int, Exception]:
        """Write these rows of a group that failed as a whole; return the errors of those that the database refuses.

        Raises:
            SQLAlchemyError: the statement fails not because of its rows, or without any.
        """
        try:
            async with connection.begin_nested():
                await connection.execute(writing.where(given.c.number.in_(numbers)))
        except SQLAlchemyError as caught:
            if not numbers or not is_of_rows(caught):
                raise
            if len(numbers) == 1:
                return {numbers[0]: caught}
        else:
            return {}
        half = len(numbers) // 2
        first = await self._write_apart(connection, given, writing, numbers[:half])
        return first | await self._write_apart(connection, given, writing, numbers[half:])


async def _numbered(connection: Connection, query: Select[*tuple[Any, ...]]) -> dict[int, str | None]:
    return {row[0]: row[1] for row in await connection.execute(query)}


def _refused(value: str | None, error: Exception) -> RowRefusal:
    return RowRefusal(value, evidence_of(error), LOCKED_ROW_WAIT if is_locked_row(error) else ROW_WAIT)


def _silently_left(value: str | None) -> RowRefusal:
    words = Message(
        "the database reported no error, but the column holds {value!r}: look at the table's triggers and rules",
        value=value and value[:100],
    )
    return RowRefusal(value, words, ROW_WAIT)
