"""What is asked for once in a while, however often and by however many at once it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Generic, TypeVar

from rehost.clock import Clock
from rehost.errors import VisitError

_FAILED_SECONDS = 1.0  # who waited for an answer that failed is told so, and does not ask again
_AT_MOST = 1_000

T = TypeVar("T")


class Remembered(Generic[T]):
    """Keys -> answers, each remembered for a time; a failure for a second."""

    def __init__(self, ask: Callable[[str], Awaitable[T]], seconds: float, clock: Clock) -> None:
        self._ask = ask
        self._seconds = seconds
        self._clock = clock
        self._known: dict[str, tuple[float, T | VisitError]] = {}  # until when, and what
        self._asking: dict[str, asyncio.Lock] = {}

    async def __call__(self, key: str) -> T:
        """Return the answer for a key.

        Raises:
            VisitError: there is none.
        """
        known = self._known.get(key)
        if known is None or known[0] <= self._clock.monotonic():
            known = await self._asked(key)
        if isinstance(known[1], VisitError):
            raise copy(known[1])  # whoever is told has an error of their own
        return known[1]

    async def _asked(self, key: str) -> tuple[float, T | VisitError]:
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                known = self._known.get(key)
                if known is None or known[0] <= self._clock.monotonic():
                    known = self._known[key] = await self._fresh(key)
        finally:
            if not lock.locked():
                self._asking.pop(key, None)
        while len(self._known) > _AT_MOST:
            del self._known[next(iter(self._known))]
        return known

    async def _fresh(self, key: str) -> tuple[float, T | VisitError]:
        try:
            answer = await self._ask(key)
        except VisitError as error:
            return self._clock.monotonic() + _FAILED_SECONDS, error
        return self._clock.monotonic() + self._seconds, answer
