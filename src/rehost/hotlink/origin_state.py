"""What this process knows of one origin's hot-link rule, and when it doubts it. Pure, but for the lock it carries."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rehost.ports import KnownGoodLink

EXTRA_REQUESTS = 5
"""Per origin and learning, controls included: requests that are no link's own."""

REFUSALS_IN_A_ROW = 3
"""After so many, one link that worked is asked again: if it still works, those links are refused, not the origin."""

REPEATS_IN_A_ROW = 12
"""As many of the same bytes, where nothing but that link can tell: shops show one logo under many links in a row."""

MOST_PATIENCE = 48
"""Each time the origin turns out to work as before, it is doubted half as soon; up to this.

After so many in a row an origin is taken to have changed that cannot be asked, for its extra requests are used up."""

REFUSALS_WITHOUT_WITNESS = 10
"""After so many, where no link is known to have worked."""

FIRST_PAUSE = 3600.0
LONGEST_PAUSE = 86400.0
"""Seconds for which an origin is left alone that worked and refuses everything now; doubled each time."""


@dataclass(slots=True)
class OriginState:
    """One origin. Whoever learns holds the lock; the others wait and use what was learned."""

    origin: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    rule: str | None = None
    seen: str | None = None  # the rule that the ledger had when it was looked into last
    decoys: set[str] = field(default_factory=set)
    budget: int = EXTRA_REQUESTS  # no more are left; the ledger may know that there are fewer
    fresh_at: float = math.inf  # from then on the ledger may know that there are more; monotonic seconds
    is_in_doubt: bool = False  # there was nothing left to find out whether the origin is as it was
    resting_until: float = -math.inf  # monotonic seconds
    is_recalled: bool = False  # the ledger was asked for links that worked
    is_ours: bool = False  # the other workers wait for what we learn
    awaited_since: float | None = None  # we wait for what another worker learns; monotonic seconds
    settled: bool = False  # two links gave different pictures: no need to go one at a time any more
    looked_at: float | None = None  # into the ledger; monotonic seconds
    controlled: str | None = None  # the rule under which a control was made since learning began
    refusals: int = 0  # in a row
    repeats: int = 0  # of bytes that could not be examined any more, in a row
    pauses: int = 0  # in a row, because it refused everything though it had worked
    trusted: bool = False  # what is refused now is the links' own fault: the origin was asked
    _patience: int = REFUSALS_IN_A_ROW
    _first: str | None = None  # digest of the first picture
    _unmasked: set[str] = field(default_factory=set)  # decoys that may be held and were not looked for yet
    _witnesses: deque[KnownGoodLink] = field(
        default_factory=lambda: deque(maxlen=2)
    )  # of different bytes, the last at the end

    def take(self, referer: str | None) -> None:
        """Take over the ledger's rule; one that others have learned or forgotten is theirs to be right about."""
        if referer != self.rule:
            self._begin(referer)

    def unmask(self, digests: Iterable[str]) -> None:
        """Take in what is proven to be a decoy, by us or by others."""
        new = set(digests) - self.decoys
        self.decoys |= new
        self._unmasked |= new

    def take_unmasked(self) -> set[str]:
        """Return the decoys that became known since this was asked last."""
        taken, self._unmasked = self._unmasked, set()
        return taken

    def accept(self, witness: KnownGoodLink) -> None:
        """Count a proven picture."""
        self.refusals = self.pauses = 0
        self.trusted = False
        self._first = self._first or witness.digest
        if witness.digest != self._first:
            self.settled = True
        if self.witness() is None or self._witnesses[-1].digest != witness.digest:
            self._witnesses.append(witness)
            self.repeats = 0

    def witness(self, against: str | None = None) -> KnownGoodLink | None:
        """Return a link that worked, the last one; or the last one that gave other bytes than those."""
        return next((each for each in reversed(self._witnesses) if each.digest != against), None)

    def recall(self, witnesses: Iterable[KnownGoodLink]) -> None:
        """Take in links that worked before this process began, the last one first."""
        for witness in witnesses:
            if witness.digest in self.decoys | {each.digest for each in self._witnesses}:
                continue
            if len(self._witnesses) == self._witnesses.maxlen:
                break
            self._witnesses.appendleft(witness)
        self.settled = self.settled or len(self._witnesses) > 1

    def is_doubtful(self) -> bool:
        """Return whether it is time to doubt the origin, not the links that it refuses."""
        return self.refusals >= (self._patience if self._witnesses else REFUSALS_WITHOUT_WITNESS)

    def has_refused_many(self) -> bool:
        """Return whether so many links in a row are refused that one that worked should be looked for."""
        return self.refusals >= self._patience

    def has_repeated_many(self) -> bool:
        """Return whether bytes that cannot be examined came for so many links in a row that it is time to doubt."""
        return self.repeats >= max(self._patience, REPEATS_IN_A_ROW)

    def reassure(self) -> None:
        """The origin works as before: doubt it later than last time."""
        self._patience = min(2 * self._patience, MOST_PATIENCE)
        self.refusals = self.repeats = 0
        self.trusted = True

    def refresh(self) -> None:
        """The extra requests that were sent count no more."""
        self.budget = EXTRA_REQUESTS
        self.fresh_at = math.inf
        self.is_in_doubt = False

    def forget(self) -> None:
        """Begin anew: the origin has changed."""
        self._begin(None)
        self._witnesses.clear()
        self.is_recalled = True  # what is held came under the rule that holds no more

    def pause(self) -> float:
        """Return the seconds for which to leave the origin alone; then it is learned anew."""
        seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self.pauses)
        self.pauses += 1
        self.refresh()
        return seconds

    def _begin(self, rule: str | None) -> None:
        self.rule = rule
        self.refresh()
        self.settled = False
        self.controlled = None
        self.refusals = self.repeats = 0
        self.trusted = False
        self._patience = REFUSALS_IN_A_ROW
        self._first = None
