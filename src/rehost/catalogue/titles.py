"""The titles of rows, for pages that show and search them; read-only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, MetaData, Table, Text, cast, literal, select

from rehost.catalogue.binding import key_column, split_name, types_of
from rehost.db import Database, exact_text, is_unreadable
from rehost.errors import CatalogueError
from rehost.model import Source

MAX_ROWS = 1000  # that one search finds


@dataclass(frozen=True, slots=True)
class Titles:
    """The titles of one source; empty if the table has no such column."""

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
        schema, name = split_name(source)
        columns = [key_column(source, types), Column(source.title, Text)]
        return cls(database, source, Table(name, MetaData(), *columns, schema=schema or None))

    async def of(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return the titles of these rows; rows without one are left out."""
        if self.table is None or not keys:
            return {}
        column = self.table.c[self.source.key]
        wanted = [cast(literal(key, Text), column.type) for key in dict.fromkeys(keys)]
        return dict(await self._find(self.table, column.in_(wanted)))

    async def matching(self, text: str) -> Sequence[str]:
        """Return the keys of rows whose title contains this text, in upper or lower case; `MAX_ROWS` at most."""
        if self.table is None:
            return []
        contains = self._title(self.table).icontains(text, autoescape=True)
        return [key for key, _ in await self._find(self.table, contains)]

    def _title(self, table: Table) -> ColumnElement[str]:
        assert self.source.title is not None  # without one there is no table
        return exact_text(table.c[self.source.title])

    async def _find(self, table: Table, condition: ColumnElement[bool]) -> Sequence[tuple[str, str]]:
        title = self._title(table)
        key = table.c[self.source.key]
        query = select(exact_text(key), title).where(condition, title.is_not(None), ~is_unreadable(key, title))
        found = await self.database.fetch_all(query.limit(MAX_ROWS), error=CatalogueError, slow=True)
        return [(row[0], row[1]) for row in found]
