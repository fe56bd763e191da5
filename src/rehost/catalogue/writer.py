"""The one column that we write, row by row only where the row still is as we know it (invariant 2).

Rows are locked first, in the order of their keys, and then written: so the value before is exact, and two workers
never wait for each other crosswise. Nothing but the one column is touched; `updated_at` is the operator's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, Text, cast, func, select, update

from rehost.catalogue.table import Source
from rehost.db import Connection, Database
from rehost.model import Link
from rehost.ports import Clearing, Restore, WriteBack

_COLUMNS = {"row_key": Text(), "url": Text(), "local_url": Text()}


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes one source's column."""

    database: Database
    source: Source
    table: Table

    async def read(self, connection: Connection, links: Sequence[Link]) -> dict[Link, str | None]:
        """Return those of these links that their rows hold still, with the local URL there."""
        if not links:
            return {}
        given = self.database.given(_COLUMNS, [(link.row_key, link.url, None) for link in links])
        query = self._values(given, self._same_row(given) & (self._link == given.c.url))
        return {links[row[0] - 1]: row[1] for row in await connection.execute(query)}

    async def write_back(self, connection: Connection, changes: Sequence[WriteBack]) -> dict[Link, str | None]:
        """Set the local URL of every row that still holds its link's URL; return those links, with the value before."""
        if not changes:
            return {}
        rows = [(change.link.row_key, change.link.url, change.local_url) for change in changes]
        given = self.database.given(_COLUMNS, rows)
        match = self._same_row(given) & (self._link == given.c.url)
        before = await self._lock(connection, given, match)
        await self._write(connection, given, match)
        return {changes[number - 1].link: value for number, value in before.items()}

    async def clear(self, connection: Connection, changes: Sequence[Clearing]) -> dict[Link, str | None]:
        """Have rows point at nothing that lead to these copies; return their links, with the value before.

        What they lead to tells, not the link: a row whose link has changed leads to the former one's copy still.
        """
        if not changes:
            return {}
        rows = [(change.link.row_key, change.link.url, None, f"/{change.path}") for change in changes]
        given = self.database.given({**_COLUMNS, "ending": Text()}, rows)
        local, ending = cast(self._local, Text), given.c.ending
        match = self._same_row(given) & (
            func.substr(local, func.length(local) - func.length(ending) + 1, func.length(ending)) == ending
        )
        before = await self._lock(connection, given, match)
        await self._write(connection, given, match)
        return {changes[number - 1].link: value for number, value in before.items()}

    async def restore(self, connection: Connection, changes: Sequence[Restore]) -> int:
        """Put the column back where the row has both the link and the local URL of that time; return how many."""
        if not changes:
            return 0
        rows = [(change.row_key, change.url, change.before, change.after) for change in changes]
        given = self.database.given({**_COLUMNS, "after_url": Text()}, rows)
        match = (
            self._same_row(given) & (self._link == given.c.url) & self._local.is_not_distinct_from(given.c.after_url)
        )
        found = await self._lock(connection, given, match)
        await self._write(connection, given, match)
        return len(found)

    @property
    def _link(self) -> ColumnElement[str]:
        return cast(self.table.c[self.source.link], Text)

    @property
    def _local(self) -> ColumnElement[str]:
        return self.table.c[self.source.local]

    def _same_row(self, given: FromClause) -> ColumnElement[bool]:
        key = self.table.c[self.source.key]
        return key == cast(given.c.row_key, key.type)

    async def _lock(
        self, connection: Connection, given: FromClause, match: ColumnElement[bool]
    ) -> dict[int, str | None]:
        """Lock the rows that match and return the value of each, by the number of what was given."""
        query = self._values(given, match).order_by(self.table.c[self.source.key]).with_for_update(of=self.table)
        return {row[0]: row[1] for row in await connection.execute(query)}

    def _values(self, given: FromClause, match: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
        return select(given.c.number, self._local).join_from(given, self.table, match)

    async def _write(self, connection: Connection, given: FromClause, match: ColumnElement[bool]) -> None:
        """Write the rows that match and do not have the value yet."""
        await connection.execute(
            update(self.table)
            .values({self.source.local: given.c.local_url})
            .where(match, self._local.is_distinct_from(given.c.local_url))
        )
