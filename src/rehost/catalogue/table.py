"""One table of the operator's: its links are read, one column of it is written.

A row is written only while it still holds the URL that was fetched (invariant 2). Rows are locked first, in the order
of their keys, and written then: the values before are exact, and two workers cannot deadlock. No other column changes;
`updated_at` is the operator's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, Table, Text, cast, func, select, update

from rehost.catalogue.schema import has_key, links_of
from rehost.catalogue.validation import bind, check
from rehost.db import Connection, Database, LinkRows
from rehost.errors import CatalogueError
from rehost.model import Link, Source
from rehost.ports import Clearing, LinkQuery, Restore, WriteBack

T = TypeVar("T")

_COLUMNS = {"row_key": Text(), "url": Text(), "local_url": Text()}


class TableCatalogue:
    """One table of the operator's; made by `open`."""

    def __init__(self, database: Database, source: Source, table: Table) -> None:
        self.name = source.name
        self._database = database
        self._source = source
        self._table = table
        self._key = table.c[source.key]
        self._link: ColumnElement[str] = cast(table.c[source.link], Text)
        self._local: ColumnElement[str] = table.c[source.local]
        self._links = LinkRows(database, links_of(table, source))

    @classmethod
    async def open(cls, database: Database, source: Source) -> TableCatalogue:
        """Return the source's table, checked.

        Raises:
            CatalogueError: the database cannot be reached, the table or a column does not exist, or the table cannot
                be worked on; the sentence says which.
        """
        table = await bind(database, source)
        await check(database, source, table)
        return cls(database, source, table)

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction of the operator's database; after a short outage, run it again.

        Raises:
            CatalogueError: the outage lasted too long, or the database refuses.
        """
        return await self._database.transact(work, error=CatalogueError)

    def links(self) -> LinkQuery:
        """Return the operator's links as a selectable."""
        return LinkQuery(self._links)

    def row(self, row_key: str) -> LinkQuery:
        """Return the links of the row with this key as a selectable; empty if no row can have such a key."""
        is_row = has_key(self._table, self._source, row_key)
        return LinkQuery(LinkRows(self._database, self._links.select.where(is_row)))

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

    async def write_back(self, transaction: Connection, changes: Sequence[WriteBack]) -> dict[Link, str | None]:
        """Set the local URL of every row that still holds its link's URL; return those links, with the value before.

        Raises:
            CatalogueError: the column cannot be written (no privilege, column dropped).
        """
        if not changes:
            return {}
        given = self._given([(change.link.row_key, change.link.url, change.local_url) for change in changes])
        before = await self._write(transaction, given, self._same_link(given))
        return {changes[number - 1].link: value for number, value in before.items()}

    async def clear(self, transaction: Connection, changes: Sequence[Clearing]) -> dict[Link, str | None]:
        """Clear the local URL of rows that point at these copies; return their links, with the value before.

        The local URL decides, not the link: a row whose link has changed still points at the former link's copy.

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

    async def restore(self, transaction: Connection, changes: Sequence[Restore]) -> int:
        """Put the local URL back in rows that still have the link and the local URL of then; return how many rows.

        Raises:
            CatalogueError: the column cannot be written.
        """
        if not changes:
            return 0
        given = self._given([(each.row_key, each.url, each.before, each.after) for each in changes], "after_url")
        match = self._same_link(given) & self._local.is_not_distinct_from(given.c.after_url)
        return len(await self._write(transaction, given, match))

    def _given(self, rows: Sequence[Sequence[object]], *more: str) -> FromClause:
        return self._database.given({**_COLUMNS, **dict.fromkeys(more, Text())}, rows)

    def _same_row(self, given: FromClause) -> ColumnElement[bool]:
        return self._key == cast(given.c.row_key, self._key.type)

    def _same_link(self, given: FromClause) -> ColumnElement[bool]:
        return self._same_row(given) & (self._link == given.c.url)

    def _values(self, given: FromClause, match: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
        return select(given.c.number, self._local).join_from(given, self._table, match)

    async def _write(
        self, transaction: Connection, given: FromClause, match: ColumnElement[bool]
    ) -> Mapping[int, str | None]:
        """Lock the rows that match, write those that differ, and return each value before by its number in `given`."""
        locking = self._values(given, match).order_by(self._key).with_for_update(of=self._table)
        writing = (
            update(self._table)
            .values({self._source.local: given.c.local_url})
            .where(match, self._local.is_distinct_from(given.c.local_url))
        )
        with self._database.raising(CatalogueError):
            before = {row[0]: row[1] for row in await transaction.execute(locking)}
            await transaction.execute(writing)
            return before
