"""One connection, and the transactions on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from rehost.database.opening import BEGIN


@dataclass(frozen=True, slots=True)
class Session:
    """One connection."""

    connection: AsyncConnection

    @asynccontextmanager
    async def begin(self, *, writing: bool) -> AsyncIterator[AsyncConnection]:
        """Open a transaction; commits at the end, rolls back on an error."""
        await self.connection.execution_options(**{BEGIN: "IMMEDIATE" if writing else "DEFERRED"})
        async with self.connection.begin():
            yield self.connection
