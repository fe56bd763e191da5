"""What pages and API work with: the ledger and the titles, opened when they are first asked for.

So that a server starts without its database, and answers 503 until it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from rehost.catalogue import Titles
from rehost.ledger import Queries, SqlLedger, SqlOrigins


@dataclass(frozen=True, slots=True)
class Desk:
    """The open parts."""

    queries: Queries
    ledger: SqlLedger
    origins: SqlOrigins
    titles: Mapping[str, Titles]  # by source


Opening = Callable[[], AbstractAsyncContextManager[Desk]]


class Office:
    """A desk that is opened once, for as long as the server runs."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._desk: Desk | None = None

    async def desk(self) -> Desk:
        """Return the open desk.

        Raises:
            OperatorError: it cannot be opened just now; the next one who asks tries again.
        """
        async with self._lock:
            if self._desk is None:
                self._desk = await self._stack.enter_async_context(self._opening())
            return self._desk

    async def close(self) -> None:
        """Close the desk, if it was opened."""
        async with self._lock:
            self._desk = None
            await self._stack.aclose()
