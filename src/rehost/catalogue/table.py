"""One table of the operator's: its links are read, one column of it is written.

A row is written only while it still holds the URL that was fetched (invariant 2). Rows are locked first, in the order
of their keys, and written then: the values before are exact, and two workers cannot deadlock. No other column changes;
`updated_at` is the operator's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, Text, cast, func, select, update

from rehost.catalogue.schema import has_key, links_of
from rehost.catalogue.validation import bind, check
from rehost.db import Connection, Database, LinkRows
from rehost.errors import CatalogueError
from rehost.model import Link, Source

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


@dataclass(frozen=True, slots=True)
class Restore:
    """A row's cell that is to be again as it was before a run wrote it."""

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
            CatalogueError: the database cannot be reached, the table or a column does not exist, or the table cannot
                be worked on; the sentence says which.
        """
        table = await bind(database, source)
        await check(database, source, table)
        return cls(database, source, table, is_joint=is_joint)

    def links(self) -> LinkRows:
        """Return the operator's links as a selectable."""
        return self._links

    def row(self, row_key: str) -> LinkRows:
        """Return the links of the row with this key as a selectable; empty if no row can have such a key."""
        is_row = has_key(self._table, self._source, row_key)
        return LinkRows(self._database, self._links.select.where(is_row))

    async def local_urls(self, links: Sequence[Link]) -> dict[Link, str | None]:
        """Return the local URL of each of these links that its row still holds.

        Raises:
            CatalogueError: the table cannot be read.
        """
        if not links:
            return {}
        given = self._given([(link.row_key, link.url, None) for link in links])
        query = self._values(given, self._same_link(given))

        async def work(connection: Connection) -> dict[Link, str | None]:
            return {links[row[0] - 1]: row[1] for row in await connection.execute(query)}

        return await self._database.read(work, error=CatalogueError)

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
        rows = [(change.link.row_key, change.link.url, None, f"/{change.path}") for change in changes]
        given = self._given(rows, "ending")
        local, ending = cast(self._local, Text), given.c.ending
        ends_so = func.substr(local, func.length(local) - func.length(ending) + 1, func.length(ending)) == ending
        before = await self._write(transaction, given, self._same_row(given) & ends_so)
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
        """Lock the rows that match, write those that differ, and return each value before by its number in `given`."""
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
