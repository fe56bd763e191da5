"""What happened, as data: said once by whoever knows it; anyone may listen (progress bar, log, metrics, page)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rehost.model import Outcome, Reason


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A run has its number, by which it can be undone."""

    source: str
    run: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A run knows what there is to do, in links."""

    source: str
    present: int  # links that the catalogue has
    held: int  # held already, nothing to do
    due: int  # to be visited in this run
    later: int  # deferred or refused, due at a later time: left alone
    new: int = 0
    changed: int = 0
    vanished: int = 0
    lost: int = 0  # held, but the file was gone
    found: int = 0  # files that lay in the store already, to be proven and adopted
    mended: int = 0  # rows whose local URL was set again without a request


@dataclass(frozen=True, slots=True)
class Visited:
    """A link's turn is over; the outcome is not recorded yet."""

    outcome: Outcome
    origin: str
    size: int  # bytes received over the network; 0 for an adopted or unchanged copy
    seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A group of outcomes is durable: files, ledger and rows."""

    held: int
    failed: int
    overtaken: int  # their rows changed meanwhile; wanted again
    bugs: int = 0  # of `failed`, pictures that rehost itself failed at when they were recorded


@dataclass(frozen=True, slots=True)
class OriginLearned:
    """A Referer rule was learned, or learned anew."""

    origin: str
    referer: str
    evidence: str


@dataclass(frozen=True, slots=True)
class OriginChanged:
    """An origin refuses what it gave under its rule: the rule is forgotten, and learned anew."""

    origin: str
    referer: str  # the rule
    evidence: str


@dataclass(frozen=True, slots=True)
class OriginPaused:
    """A host is left alone for a while."""

    host: str
    seconds: float
    evidence: str


@dataclass(frozen=True, slots=True)
class HostDeferred:
    """All due links of a host that is left alone for long wait for a later run, unvisited in this one."""

    host: str
    links: int
    reason: Reason
    evidence: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run is over; the summary that the operator reads."""

    source: str
    held: int  # stored in this run
    unchanged: int
    adopted: int  # of `held`, proven on disk without a request
    failed: dict[Reason, int] = field(default_factory=dict)
    overtaken: int = 0
    unveiled: int = 0  # held copies, of this run or earlier ones, that turned out to be decoys: quarantined
    size: int = 0  # bytes received
    seconds: float = 0.0
    later: int = 0  # left alone: due at a later time
    next_due_seconds: float | None = None
    free_bytes: int | None = None
    total_held: int = 0  # in the ledger, all runs together
    total_present: int = 0
    interrupted: bool = False
    mended: int = 0  # rows whose local URL was set again without a request


Event = RunBegan | Planned | Visited | Recorded | OriginLearned | OriginChanged | OriginPaused | HostDeferred | RunEnded
Listener = Callable[[Event], None]
"""Called on the event loop; must return at once and must not raise."""
