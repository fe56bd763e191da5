"""How long an answer may take to begin before another link has the turn, by how long its host's answers took. Pure.

TCP asks the same of a segment, and this is its answer (RFC 6298, section 2): the mean plus four times the mean
deviation, both smoothed, half a second at least. A link that is given up so is asked again last, with all its time: an
answer that is slow but honest is had, for one more request. No host gets more of those than a tenth of its answers, and
those that it is asked for at once before it has shown anything.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

LEAST_SECONDS = 0.5
"""RFC 6298, (2.4), has a second, for clocks as they were, and allows for less; Linux takes a fifth (TCP_RTO_MIN)."""

FIRST_SECONDS = 3.0
"""RFC 6298, (5.7): what TCP waits where it has not measured yet and something was lost."""

ENOUGH = 4
"""Answers after which a host's habits are believed."""

EARNED = 0.1
MOST_EARNED = 5.0
"""Links that may be given up, earned with each answer; and at most at once, so that a host that dies tells nothing."""

MOST_HOSTS = 10_000
"""Known at once; those that answered longest ago are forgotten first."""


@dataclass(slots=True)
class _Habit:
    """How long one host takes; seconds."""

    mean: float = 0.0
    deviation: float = 0.0
    answers: int = 0
    earned: float = 1.0

    def take(self, seconds: float) -> None:
        """Take in one more answer (RFC 6298, (2.2) for the first, (2.3) for the others)."""
        if self.answers:
            self.deviation += (abs(self.mean - seconds) - self.deviation) / 4
            self.mean += (seconds - self.mean) / 8
            self.earned = min(MOST_EARNED, self.earned + EARNED)
        else:
            self.mean, self.deviation = seconds, seconds / 2
        self.answers += 1

    def patience(self) -> float | None:
        """Return the seconds after which an answer that has not begun is given up; None for never."""
        if self.earned < 1:
            return None
        return FIRST_SECONDS if self.answers < ENOUGH else max(LEAST_SECONDS, self.mean + 4 * self.deviation)


class LatencyTracker:
    """Knows how long each host's answers take to begin."""

    def __init__(self) -> None:
        """Begin without knowing any host."""
        self._habits: OrderedDict[str, _Habit] = OrderedDict()

    def seconds(self, host: str) -> float | None:
        """Return how long an answer may take to begin; None for as long as an attempt may take at all."""
        return self._habits.get(host, _Habit()).patience()

    def answered(self, host: str, seconds: float) -> None:
        """Take in after how long an answer began."""
        self._of(host).take(seconds)

    def gave_up(self, host: str) -> None:
        """Take in that an answer was not waited for."""
        self._of(host).earned -= 1

    def _of(self, host: str) -> _Habit:
        habit = self._habits.setdefault(host, _Habit())
        self._habits.move_to_end(host)
        if len(self._habits) > MOST_HOSTS:
            self._habits.popitem(last=False)
        return habit
