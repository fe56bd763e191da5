"""A source as the pipeline knows it (ports.Catalogue)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from rehost.catalogue.links import links_of
from rehost.catalogue.table import Source, bind, has_key
from rehost.catalogue.validation import check
from rehost.catalogue.writer import Writer
from rehost.db import Connection, Database, LinkRows
from rehost.errors import CatalogueError
from rehost.model import Link
from rehost.ports import Clearing, LinkQuery, Restore, WriteBack

T = TypeVar("T")


class TableCatalogue:
    """One table of the operator's; made by `open`."""

    def __init__(self, database: Database, source: Source, writer: Writer) -> None:
        self.name = source.name
        self._database = database
        self._writer = writer
        self._source = source
        self._links = LinkRows(database, links_of(writer.table, source))

    @classmethod
    async def open(cls, database: Database, source: Source) -> TableCatalogue:
        """Return the source, its table and columns looked up.

        Raises:
            CatalogueError: the database cannot be reached, or has no such table or column, or the table is not fit to
                be worked on; the sentence says which.
        """
        table = await bind(database, source)
        await check(database, source, table)
        return cls(database, source, Writer(database, source, table))

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction of the operator's database, again after a short outage.

        Raises:
            CatalogueError: the database stayed away, or refuses.
        """
        return await self._database.transact(work, error=CatalogueError)

    def links(self) -> LinkQuery:
        """Return the operator's links as a selectable."""
        return LinkQuery(self._links)

    def row(self, row_key: str) -> LinkQuery:
        """Return the links of the one row with this key: none where no key can be spelled so."""
        is_it = has_key(self._writer.table, self._source, row_key)
        return LinkQuery(LinkRows(self._database, self._links.select.where(is_it)))

    async def local_urls(self, links: Sequence[Link]) -> dict[Link, str | None]:
        """Return those of these links that their rows hold still, with the local URL there.

        Raises:
            CatalogueError: the table cannot be read.
        """
        return await self._database.read(lambda connection: self._writer.read(connection, links), error=CatalogueError)

    async def write_back(self, transaction: Connection, changes: Sequence[WriteBack]) -> dict[Link, str | None]:
        """Set the local URL of every row that still holds its link's URL; return those links, with the value before.

        Raises:
            CatalogueError: the column cannot be written (no privilege, no such column any more).
        """
        with self._database.blaming(CatalogueError):
            return await self._writer.write_back(transaction, changes)

    async def clear(self, transaction: Connection, changes: Sequence[Clearing]) -> dict[Link, str | None]:
        """Have rows point at nothing that lead to these copies; return their links, with the value before.

        Raises:
            CatalogueError: the column cannot be written.
        """
        with self._database.blaming(CatalogueError):
            return await self._writer.clear(transaction, changes)

    async def restore(self, transaction: Connection, changes: Sequence[Restore]) -> int:
        """Put the local URL back where nobody has changed the row since; return how many rows.

        Raises:
            CatalogueError: the column cannot be written.
        """
        with self._database.blaming(CatalogueError):
            return await self._writer.restore(transaction, changes)
