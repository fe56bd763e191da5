"""How long an answer may take to begin before another link is visited instead, learned from its host's answers. Pure.

TCP has the same question about a segment, and this is its answer (RFC 6298, section 2): the smoothed mean plus four
times the smoothed mean deviation, at least half a second. A link that is given up for slowness is asked again last,
without this limit, so a slow but good answer is still received, for one more request. A host gets at most one such
extra request for ten answers, and a few before it has answered at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from cachetools import LRUCache

MIN_SECONDS = 0.5
"""RFC 6298, (2.4), says one second, because clocks were coarse, and allows less; Linux uses 0.2 (TCP_RTO_MIN)."""

FIRST_SECONDS = 3.0
"""RFC 6298, (5.7): TCP's timeout where nothing was measured yet and something was lost."""

MIN_ANSWERS = 4
"""Answers of a host from which its timeout is computed."""

CREDIT_PER_ANSWER = 0.1
MAX_CREDIT = 5.0
"""An answer earns a tenth of one link that may be given up; a host that dies has credit for so many at most."""

MAX_HOSTS = 10_000
"""Hosts that are remembered; those used longest ago are dropped first."""


@dataclass(slots=True)
class _Latency:
    """How long one host's answers take to begin; seconds."""

    mean: float = 0.0
    deviation: float = 0.0
    answers: int = 0
    credit: float = 1.0

    def add(self, seconds: float) -> None:
        """Add one more answer (RFC 6298, (2.2) for the first, (2.3) for the others)."""
        if self.answers:
            self.deviation += (abs(self.mean - seconds) - self.deviation) / 4
            self.mean += (seconds - self.mean) / 8
            self.credit = min(MAX_CREDIT, self.credit + CREDIT_PER_ANSWER)
        else:
            self.mean, self.deviation = seconds, seconds / 2
        self.answers += 1

    def timeout(self) -> float | None:
        """Return the seconds after which an answer that has not begun is given up; None for never."""
        if self.credit < 1:
            return None
        return FIRST_SECONDS if self.answers < MIN_ANSWERS else max(MIN_SECONDS, self.mean + 4 * self.deviation)


class LatencyTracker:
    """Measures how long each host's answers take to begin."""

    def __init__(self) -> None:
        """Begin without any host."""
        self._hosts: LRUCache[str, _Latency] = LRUCache(MAX_HOSTS)

    def seconds(self, host: str) -> float | None:
        """Return how long an answer may take to begin; None for as long as the whole attempt may take."""
        return self._hosts.get(host, _Latency()).timeout()

    def answered(self, host: str, seconds: float) -> None:
        """Record after how many seconds an answer began."""
        self._hosts.setdefault(host, _Latency()).add(seconds)

    def gave_up(self, host: str) -> None:
        """Record that an answer was not waited for."""
        self._hosts.setdefault(host, _Latency()).credit -= 1
