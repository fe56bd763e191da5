"""Events of a run, as data; progress display, log and dashboard listen to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rehost.model import Outcome, Reason


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A run has begun over this source; its number, one for all sources, is the one that `rehost undo` takes."""

    source: str
    run: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A run has its plan; all numbers count links."""

    source: str
    present: int  # links in the catalogue
    held: int  # have a copy; nothing to do
    due: int  # to be visited in this run
    later: int  # deferred or refused, and due later
    new: int = 0
    changed: int = 0
    vanished: int = 0
    lost: int = 0  # held, but the file is missing
    found: int = 0  # files that are in the store already, to be verified and adopted
    mended: int = 0  # rows whose local URL was written again without a request
    refused: int = 0  # rows that the database refused to write again


@dataclass(frozen=True, slots=True)
class Visited:
    """A visit has ended; its outcome is not recorded yet."""

    outcome: Outcome
    origin: str
    size: int  # bytes received over the network; 0 for an adopted or unchanged copy
    seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A group of outcomes has been recorded durably in files, ledger and rows."""

    held: int
    failed: int
    overtaken: int  # their rows changed during the visit; due again
    bugs: int = 0  # of `failed`: rehost itself failed while recording them
    refused: int = 0  # of `failed`: their pictures are stored, but the database refuses to write their rows
    refused_adopted: int = 0  # of `refused`: found in the store


@dataclass(frozen=True, slots=True)
class CopiesSuspected:
    """Held copies may be decoys: their links are visited again, and the copies stay until a second check agrees."""

    source: str
    host: str
    digest: str
    copies: int


@dataclass(frozen=True, slots=True)
class OriginLearned:
    """A Referer rule was learned, for the first time or again."""

    origin: str
    referer: str
    evidence: str


@dataclass(frozen=True, slots=True)
class OriginChanged:
    """An origin refuses requests that follow its rule: the rule is dropped, and learned again."""

    origin: str
    referer: str  # the rule
    evidence: str


@dataclass(frozen=True, slots=True)
class OriginPaused:
    """Requests to a host are paused."""

    host: str
    seconds: float
    evidence: str


@dataclass(frozen=True, slots=True)
class HostDeferred:
    """A host is paused for long, so all its due links wait for a later run."""

    host: str
    links: int
    reason: Reason
    evidence: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DatabaseAway:
    """A database does not answer; this is said again at each try."""

    place: str  # in words that begin a sentence
    seconds: float  # since the first failure


@dataclass(frozen=True, slots=True)
class DatabaseBack:
    """A database that was away answers again."""

    place: str
    seconds: float  # that it was away


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The run has ended; this is its summary."""

    source: str
    held: int  # stored in this run
    unchanged: int
    adopted: int  # of `held`: found on disk and verified without a request
    failed: dict[Reason, int] = field(default_factory=dict)
    overtaken: int = 0
    decoys: int = 0  # copies of this or earlier runs that turned out to be decoys: replaced, or quarantined
    size: int = 0  # bytes received
    seconds: float = 0.0
    later: int = 0  # due later
    next_due_seconds: float | None = None
    free_bytes: int | None = None
    total_held: int = 0  # in the ledger, after all runs
    total_present: int = 0
    interrupted: bool = False
    mended: int = 0  # rows whose local URL was written again without a request
    lost: int = 0  # files of held copies that were missing from the store
    rescued: int = 0  # dead links whose pictures were found elsewhere, after the run
    suspected: int = 0  # copies that came to be suspected of being decoys; those that turn out to be none stay
    sources: tuple[RunEnded, ...] = ()  # of a run over several sources: the summary of each, of which this is the sum
    paused: dict[str, int] = field(
        default_factory=dict
    )  # of `later`: links that wait for a pause, by host, origin or folder
    long_paused: tuple[str, ...] = ()  # of `paused`: for more than an hour


Event = (
    RunBegan
    | Planned
    | Visited
    | Recorded
    | CopiesSuspected
    | OriginLearned
    | OriginChanged
    | OriginPaused
    | HostDeferred
    | DatabaseAway
    | DatabaseBack
    | RunEnded
)
Listener = Callable[[Event], None]
"""Called in the event loop; must return at once and must not raise."""
