"""What this process knows of one origin: its Referer rule, how far it is trusted, and which extra requests are left.

    UNKNOWN ──accept──► TRUSTED ──refuse──► DOUBTED ──confirm_rule──► CONFIRMED
       ▲                   ▲                 │   │                        │
       └────── forget ─────┼─────────────────┘◄──┼──────── forget ────────┘
                           └──accept── RESTING ◄─┴─ rest

    accept        any -> TRUSTED                   a link gave an image
    refuse        TRUSTED, RESTING -> DOUBTED      a link was refused; a CONFIRMED origin stays so
    confirm_rule  DOUBTED -> CONFIRMED             a link that worked still works: the refused links are at fault
    forget        DOUBTED, CONFIRMED -> UNKNOWN    it works no longer: the chain is tried again at once
    rest          UNKNOWN, DOUBTED -> RESTING      nothing works any more, or the origin cannot be checked
    take_rule     any -> TRUSTED                   another worker learned a rule; -> UNKNOWN, RESTING if it forgot ours

Apart from that an origin is settled or not. Until two links gave different images, its links are asked for one at a
time, so that what the first one teaches is known to the second.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from cachetools import LRUCache

from rehost.clock import Clock
from rehost.errors import HostUnavailable
from rehost.hotlink.repository import KnownGoodLink, OriginRepository, Spending
from rehost.http.url import folder_of
from rehost.model import Reason

EXTRA_REQUESTS = 5
"""Requests per origin and learning, controls included, that are not a link's own; per folder while no rule is known."""

MOST_EXTRA_REQUESTS = 15
"""The same for all folders of an origin together, while no rule is known."""

_MOST_FOLDERS = 100  # of one origin whose extra requests this process counts

REFUSALS_IN_A_ROW = 3
"""After so many, a link that worked is asked for again: if it still works, those links are at fault, not the origin."""

REPEATS_IN_A_ROW = 12
"""The same for links that give the same bytes; more of them, as shops show one logo under many links in a row."""

MOST_PATIENCE = 48
"""Each time the origin turns out to work as before, it is checked half as soon, up to this many links in a row.

After so many, an origin is taken to have changed that cannot be checked because its extra requests are used up.
"""

REFUSALS_WITHOUT_GOOD_LINK = 10
"""After so many, an origin is taken to have changed of which no link is known to have worked."""

FIRST_REST = 3600.0
LONGEST_REST = 86400.0
"""Seconds for which an origin that worked and refuses everything now is paused; doubled each time."""

FRESH_SECONDS = 3600.0
"""After this long an origin that could not be checked, because no extra request was left, gets fresh ones."""

WAIT_SECONDS = 0.5
"""Between two reads of what another worker learns."""

MOST_WAIT_SECONDS = 600.0
"""After this long the links of an origin that another worker is still learning are left for later."""


class LearnedElsewhere(Exception):  # noqa: N818 - not an error: another worker is at it
    """Another worker is learning this origin, or has done so since the ledger was read."""


class OriginTrust(Enum):
    """How far an origin's rule is trusted."""

    UNKNOWN = auto()  # no rule has given an image
    TRUSTED = auto()  # the last link gave an image
    DOUBTED = auto()  # links in a row are refused: they are at fault, or the origin has changed
    CONFIRMED = auto()  # links in a row are refused, and they are at fault
    RESTING = auto()  # it worked once and refuses everything now: paused, then learned again


@dataclass(slots=True)
class ProbeBudget:
    """The extra requests that may be sent to an origin; the ledger counts them, this is what we know of the count."""

    origin: str
    repository: OriginRepository
    clock: Clock
    believed: str | None = None  # the rule that the ledger had when it was read last
    left: LRUCache[str, int] = field(default_factory=lambda: LRUCache(_MOST_FOLDERS))  # at most, by folder
    is_crowded: bool = False  # the ledger has none left for any folder
    fresh_at: float = math.inf  # monotonic seconds; from then on the ledger may know that there are more
    is_renewal_requested: bool = False  # because nothing was left to check the origin
    is_reserved: bool = False  # other workers wait for what we learn
    waiting_since: float | None = None  # monotonic seconds; another worker learns the origin

    async def spend(self, folder: str, *, keep: int = 0) -> bool:
        """Take one extra request if more than `keep` are left; return whether it was granted.

        Args:
            folder: of the link, while no rule is known; otherwise an empty text.
            keep: how many have to be left.

        Raises:
            LearnedElsewhere: read the ledger again a little later.
        """
        if self.clock.monotonic() >= self.fresh_at:
            self.reset()
        left = self.left.setdefault(folder, EXTRA_REQUESTS)
        if (folder and self.is_crowded) or left <= keep:
            return False
        most = EXTRA_REQUESTS - keep
        most_of_origin = MOST_EXTRA_REQUESTS - keep
        spending = await self.repository.spend(self.origin, folder, most, most_of_origin, self.believed)
        match spending:
            case Spending.ELSEWHERE:
                raise LearnedElsewhere
            case Spending.USED_UP | Spending.CROWDED_OUT:
                is_crowded = spending is Spending.CROWDED_OUT
                self.is_crowded = self.is_crowded or is_crowded
                self.left[folder] = left if is_crowded else keep
                self.fresh_at = self.clock.monotonic() + FRESH_SECONDS  # the ledger may say otherwise by then
                return False
            case Spending.GRANTED:
                self.left[folder] = left - 1
                self.is_reserved = True
                return True

    async def spend_on_check(self) -> bool:
        """Take one to check whether the origin has changed; if none is left, request fresh ones for later."""
        if await self.spend(""):
            return True
        await self.request_renewal()
        return False

    async def request_renewal(self) -> None:
        """Request fresh ones, which come after FRESH_SECONDS."""
        if not self.is_renewal_requested:
            self.is_renewal_requested = True
            self.fresh_at = min(self.fresh_at, self.clock.monotonic() + FRESH_SECONDS)
            await self.repository.renew_budget(self.origin, FRESH_SECONDS)

    def reset(self) -> None:
        """Assume that the extra requests sent so far no longer count."""
        self.left.clear()
        self.is_crowded = False
        self.fresh_at = math.inf
        self.is_renewal_requested = False

    @asynccontextmanager
    async def learning(self) -> AsyncIterator[None]:
        """At the end, let the other workers learn the origin if they had to wait for us.

        A cancelled visit does not, because it must not wait for a database; the end of this worker does.
        """
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = caught
            raise
        finally:
            if not isinstance(error, asyncio.CancelledError):
                if not isinstance(error, LearnedElsewhere):
                    self.waiting_since = None
                if self.is_reserved:
                    self.is_reserved = False
                    await self.repository.end_learning(self.origin)

    async def wait_for_other_worker(self) -> None:
        """Wait a little for what another worker learns.

        Raises:
            HostUnavailable: the links of the origin have waited for MOST_WAIT_SECONDS, all together.
        """
        now = self.clock.monotonic()
        if self.waiting_since is None:
            self.waiting_since = now
        if now - self.waiting_since >= MOST_WAIT_SECONDS:
            minutes = MOST_WAIT_SECONDS / 60
            raise HostUnavailable(
                Reason.THROTTLED, f"another worker has been learning this origin for {minutes:.0f} minutes"
            )
        await self.clock.sleep(WAIT_SECONDS)


@dataclass(slots=True, weakref_slot=True)
class OriginState:
    """One origin. The visit that learns holds the lock; the others wait, and use what it learned."""

    origin: str  # scheme://host[:port]
    budget: ProbeBudget
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    trust: OriginTrust = OriginTrust.UNKNOWN
    rule: str | None = None
    is_settled: bool = False  # links may be asked for at the same time
    controlled_rule: str | None = None  # a control was made under this rule since learning began
    refusals: int = 0  # links in a row
    repeats: int = 0  # links in a row that gave the same bytes, which could not be examined
    rests: int = 0  # in a row
    resting_until: float = -math.inf  # monotonic seconds
    ledger_read_at: float | None = None  # monotonic seconds
    away_rule: str | None = None  # under which a redirect led to an image of another site last
    decoys: dict[str, set[str]] = field(default_factory=dict)  # folders (decoys.place_of), by digest
    has_loaded_good_links: bool = False
    _new_decoys: set[str] = field(default_factory=set)  # copies of them may be held
    _good_links: deque[KnownGoodLink] = field(default_factory=lambda: deque(maxlen=8))  # different bytes, last at end
    _first_digest: str | None = None  # of the first image since learning began
    _patience: int = REFUSALS_IN_A_ROW

    def may_ask_together(self) -> bool:
        """Return whether links may be asked for at the same time: settled, or redirecting to another site."""
        return self.is_settled or self.away_rule is not None

    # --- transitions

    def accept(self, link: KnownGoodLink) -> None:
        """A link gave an image: the origin is trusted."""
        self.trust = OriginTrust.TRUSTED
        self.refusals = self.rests = 0
        self._first_digest = self._first_digest or link.digest
        if link.digest != self._first_digest:
            self.is_settled = True
        if not self._good_links or self._good_links[-1].digest != link.digest:
            self._good_links.append(link)
            self.repeats = 0

    def refuse(self) -> None:
        """A link was refused: the origin is doubted, unless a check has confirmed it since its last image."""
        self.refusals += 1
        if self.trust is not OriginTrust.CONFIRMED:
            self.trust = OriginTrust.DOUBTED

    def confirm_rule(self) -> None:
        """A link that worked still works: the refused links are at fault. The next check comes later."""
        self.trust = OriginTrust.CONFIRMED
        self._patience = min(2 * self._patience, MOST_PATIENCE)
        self.refusals = self.repeats = 0

    def take_rule(self, rule: str | None) -> None:
        """Use the ledger's rule: another worker has learned it, or forgotten ours."""
        if rule != self.rule:
            self._learn_again(rule)

    def forget(self) -> None:
        """The origin has changed: nothing that was learned under the old rule counts."""
        self._learn_again(None)
        self._good_links.clear()
        self.has_loaded_good_links = True  # held links came under the old rule too

    def rest(self, now: float) -> float:
        """Nothing works any more: return the seconds for which to leave the origin alone, twice as many each time.

        Afterwards it has a fresh budget.
        """
        seconds = min(LONGEST_REST, FIRST_REST * 2.0**self.rests)
        self.trust = OriginTrust.RESTING
        self.rests += 1
        self.resting_until = now + seconds
        self.budget.reset()
        return seconds

    def _learn_again(self, rule: str | None) -> None:
        unlearned = OriginTrust.RESTING if self.rests else OriginTrust.UNKNOWN
        self.trust = unlearned if rule is None else OriginTrust.TRUSTED
        self.rule = rule
        self.budget.reset()
        self.is_settled = False
        self.controlled_rule = None
        self.refusals = self.repeats = 0
        self._patience = REFUSALS_IN_A_ROW
        self._first_digest = None

    # --- refusals and repeats

    def needs_check(self) -> bool:
        """Return whether so many links in a row were refused that the origin itself must be checked."""
        return self.refusals >= (self._patience if self._good_links else REFUSALS_WITHOUT_GOOD_LINK)

    def has_repeated_many(self) -> bool:
        """Return whether so many links in a row gave bytes that cannot be examined that the origin must be checked."""
        return self.repeats >= max(self._patience, REPEATS_IN_A_ROW)

    # --- decoys and good links

    def add_decoys(self, found: Mapping[str, Collection[str]]) -> None:
        """Remember what this or another worker has proven to be decoys: folders by digest."""
        for digest, folders in found.items():
            known = self.decoys.setdefault(digest, set())
            if not known.issuperset(folders):
                known.update(folders)
                self._new_decoys.add(digest)

    def is_decoy_at(self, place: str, digest: str) -> bool:
        """Return whether these bytes are a decoy of this place, or of all that lies below a folder above it."""
        return any(
            place.startswith(folder[:-1]) and " " not in place if folder.endswith("*") else place == folder
            for folder in self.decoys.get(digest, ())
        )

    def new_decoys(self) -> set[str]:
        """Return the decoys that became known since the last call."""
        new, self._new_decoys = self._new_decoys, set()
        return new

    def good_link(self, *, other_than: str | None = None, beside: str = "") -> KnownGoodLink | None:
        """Return the last link that worked, or that gave other bytes than this digest; one in this folder if any."""
        links = [link for link in reversed(self._good_links) if link.digest != other_than]
        return next((link for link in links if folder_of(link.url) == beside), next(iter(links), None))

    def load_good_links(self, links: Iterable[KnownGoodLink]) -> None:
        """Remember links that worked before this process began, the last held first."""
        self.has_loaded_good_links = True
        for link in links:
            if link.digest in self.decoys.keys() | {each.digest for each in self._good_links}:
                continue
            if len(self._good_links) == self._good_links.maxlen:
                break
            self._good_links.appendleft(link)
        self.is_settled = self.is_settled or len(self._good_links) > 1
