"""Connections that nobody uses just now, kept for the next request to the same origin."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from rehost.http.connection import Connection

_SECONDS = 15.0  # servers close idle connections themselves, after 5 s to a minute or so


class _Kept(NamedTuple):
    origin: str
    connection: Connection
    sweeps: int  # that had been made when it came


class IdleConnections:
    """Keeps each connection for 15 to 30 s."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []  # the one that was used last at the end
        self._sweeps = 0
        self._next_sweep: asyncio.TimerHandle | None = None

    def take(self, origin: str) -> Connection | None:
        """Return the connection to an origin that was used last, and keep it no longer; None if there is none."""
        for kept in reversed(self._kept):
            if kept.origin == origin and kept.connection.is_usable:
                self._kept.remove(kept)
                return kept.connection
        return None

    def keep(self, origin: str, connection: Connection) -> None:
        """Keep a connection, if it can be used again."""
        if connection.is_usable:
            self._kept.append(_Kept(origin, connection, self._sweeps))
            self._plan_sweep()

    def reduce(self, at_most: int) -> None:
        """Close what was used longest ago, until there are no more than so many."""
        while len(self._kept) > at_most:
            self._kept.pop(0).connection.hang_up()

    def close(self) -> None:
        """Close all."""
        self.reduce(0)
        if self._next_sweep is not None:
            self._next_sweep.cancel()

    def _plan_sweep(self) -> None:
        if self._next_sweep is None and self._kept:
            self._next_sweep = asyncio.get_running_loop().call_later(_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._next_sweep = None
        self.reduce(sum(kept.sweeps == self._sweeps for kept in self._kept))  # which are the last ones
        self._sweeps += 1
        self._plan_sweep()
