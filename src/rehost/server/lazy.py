"""What pages and API work with: the ledger and the titles, opened when they are first asked for.

So that a server starts without its database, and answers 503 until it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Generic, TypeVar

from rehost.catalogue import Titles
from rehost.hosts.shares import HostShares
from rehost.hotlink.repository import SqlOrigins
from rehost.ledger import Queries, SqlLedger


@dataclass(frozen=True, slots=True)
class Resources:
    """The open parts."""

    queries: Queries
    ledger: SqlLedger
    origins: SqlOrigins
    shares: HostShares
    titles: Mapping[str, Titles]  # by source


T_co = TypeVar("T_co", covariant=True)


class Lazy(Generic[T_co]):
    """Something that is opened once, for as long as the server runs."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[T_co]]) -> None:
        self._opening = opening
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._open: T_co | None = None

    async def get(self) -> T_co:
        """Return what is open.

        Raises:
            OperatorError: it cannot be opened just now; the next one who asks tries again.
        """
        async with self._lock:
            if self._open is None:
                self._open = await self._stack.enter_async_context(self._opening())
            return self._open

    async def close(self) -> None:
        """Close it, if it was opened."""
        async with self._lock:
            self._open = None
            await self._stack.aclose()
