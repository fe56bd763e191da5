"""In which order hosts are asked: fewest requests in flight first, then whoever was served longest ago. Pure.

Cheap with ten thousand hosts waiting: a host is looked at when something happens to it, not whenever a turn is free.
"""

from __future__ import annotations

from collections.abc import Collection
from heapq import heappop, heappush
from itertools import chain, filterfalse, takewhile


class Rotation:
    """The hosts that may be asked, in order, and those that are held back."""

    def __init__(self) -> None:
        """Begin without hosts."""
        self._ranks: list[dict[str, None]] = [{}]  # by requests in flight; within one, in order
        self._ranked: dict[str, int] = {}
        self._held: dict[str, float | None] = {}
        self._alarms: list[tuple[float, str]] = []  # of held ones; may hold outdated entries

    def __contains__(self, host: str) -> bool:
        return host in self._ranked or host in self._held

    def newcomers(self, waiting: Collection[str]) -> list[str]:
        """Return those of `waiting` that have no place yet."""
        unranked = filterfalse(self._ranked.__contains__, waiting)
        return list(filterfalse(self._held.__contains__, unranked))

    def join(self, host: str, in_flight: int) -> None:
        """Let the host be asked, after those with as many requests in flight; who has that rank keeps its place."""
        if self._ranked.get(host) == in_flight:
            return
        self._leave(host)
        while len(self._ranks) <= in_flight:
            self._ranks.append({})
        self._ranks[in_flight][host] = None
        self._ranked[host] = in_flight

    def hold(self, host: str, until: float | None = None) -> None:
        """Hold the host back, until a time, or (None) until it joins again."""
        if host in self._held and self._held[host] == until:
            return
        self._leave(host)
        self._held[host] = until
        if until is not None:
            heappush(self._alarms, (until, host))

    def due(self, now: float) -> list[str]:
        """Return the hosts whose time of being held back is over; they stay held until they join."""
        result = []
        while self._alarms and self._alarms[0][0] <= now:
            until, host = heappop(self._alarms)
            if self._held.get(host) == until:
                self._held[host] = None
                result.append(host)
        return result

    def next_time(self) -> float | None:
        """Return the earliest time at which a host is held back no longer."""
        while self._alarms and self._held.get(self._alarms[0][1]) != self._alarms[0][0]:
            heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def first(self, waiting: Collection[str]) -> str | None:
        """Return the first host in order that is waiting."""
        idle = self.first_idle(waiting)
        if idle is not None:
            return idle
        busy = chain.from_iterable(self._ranks[1:])
        return next((host for host in busy if host in waiting), None)

    def first_idle(self, waiting: Collection[str]) -> str | None:
        """Return the first of those without a request in flight that is waiting; who waits no more loses its place."""
        for idle in list(takewhile(lambda host: host not in waiting, self._ranks[0])):
            self._leave(idle)
        return next(iter(self._ranks[0]), None)

    def _leave(self, host: str) -> None:
        self._held.pop(host, None)
        rank = self._ranked.pop(host, None)
        if rank is not None:
            del self._ranks[rank][host]
