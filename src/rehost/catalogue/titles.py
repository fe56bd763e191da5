"""The words that people know rows by, for pages that show them and search in them; only ever read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, MetaData, Table, Text, cast, literal, select

from rehost.catalogue.table import Source, key_column, types_of
from rehost.db import Connection, Database
from rehost.errors import CatalogueError

MOST = 1000  # rows that one search finds


@dataclass(frozen=True, slots=True)
class Titles:
    """The titles of one source; there are none where the table has no such column."""

    database: Database
    source: Source
    table: Table | None

    @classmethod
    async def open(cls, database: Database, source: Source) -> Titles:
        """Return the titles of a source.

        Raises:
            CatalogueError: the database cannot be reached.
        """
        types = await types_of(database, source)
        if source.title not in types or source.key not in types or source.title == source.key:
            return cls(database, source, None)
        schema, _, name = source.table.rpartition(".")
        columns = [key_column(source, types), Column(source.title, Text)]
        return cls(database, source, Table(name, MetaData(), *columns, schema=schema or None))

    async def of(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the titles of these rows, without those that have none."""
        if self.table is None or not keys:
            return {}
        column = self.table.c[self.source.key]
        wanted = [cast(literal(key, Text), column.type) for key in dict.fromkeys(keys)]
        return dict(await self._pairs(column.in_(wanted)))

    async def matching(self, text: str) -> Sequence[str]:
        """Return the keys of rows with this in their title, upper or lower case; the first so many."""
        if self.table is None:
            return []
        assert self.source.title is not None  # there is no table without one
        title = cast(self.table.c[self.source.title], Text)
        return [key for key, _ in await self._pairs(title.icontains(text, autoescape=True))]

    async def _pairs(self, condition: ColumnElement[bool]) -> Sequence[tuple[str, str]]:
        assert self.table is not None  # asked by our own methods alone
        assert self.source.title is not None  # as above
        title = cast(self.table.c[self.source.title], Text)
        query = (
            select(cast(self.table.c[self.source.key], Text), title).where(condition, title.is_not(None)).limit(MOST)
        )

        async def work(connection: Connection) -> Sequence[tuple[str, str]]:
            return [(row[0], row[1]) for row in await connection.execute(query)]

        return await self.database.read(work, error=CatalogueError, much=True)
