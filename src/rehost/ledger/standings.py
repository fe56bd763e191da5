"""What the ledger tells about links, hosts and runs, as data (`queries.py` asks for it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rehost.model import Format, Reason, State


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Where a source stands, in links that the catalogue has."""

    source: str
    states: Mapping[State, int]
    reasons: Mapping[Reason, int]  # of deferred and refused links
    due: int
    later: int
    leased: int  # by workers that live: what others had leased is due
    next_due_seconds: float | None
    size: int  # bytes of all held copies


@dataclass(frozen=True, slots=True)
class HostReport:
    """Where one host stands, over all workers."""

    host: str
    present: int
    held: int
    failed: int  # deferred or refused
    due: int
    allowance: int  # requests at once; 0 if nobody has said
    proven: bool
    pause_seconds: float
    evidence: str | None  # of the pause
    next_due_seconds: float | None  # until the first of its links that wait is due


@dataclass(frozen=True, slots=True)
class RootReport:
    """Where links stand whose URLs begin alike, up to the path."""

    root: str  # as the rows have it
    host: str
    present: int
    held: int
    failed: int  # deferred or refused
    due: int
    next_due_seconds: float | None  # until the first of those that wait is due


@dataclass(frozen=True, slots=True)
class LinkReport:
    """All that is known of one link now."""

    entry: int
    source: str
    row_key: str
    position: int
    url: str
    page_url: str | None
    host: str
    present: bool
    state: State
    attempts: int
    reason: Reason | None
    evidence: str | None
    due_at: datetime
    noted_at: datetime
    changed_at: datetime | None
    visited_at: datetime | None
    key: str | None
    digest: str | None
    size: int | None
    held_url: str | None
    final_url: str | None
    local_url: str | None
    format: Format | None
    width: int | None
    height: int | None
    frames: int | None
    held_at: datetime | None


@dataclass(frozen=True, slots=True)
class Twin:
    """Another link that holds the very same bytes."""

    source: str
    row_key: str
    position: int


class End(StrEnum):
    """How a visit ended, in a link's history."""

    HELD = "held"  # a whole picture came
    ADOPTED = "adopted"  # the picture lay in the store already; nobody was asked
    UNCHANGED = "unchanged"  # the origin said that the held copy is still right
    OVERTAKEN = "overtaken"  # a picture came, but the row held another link by then
    DEFERRED = "deferred"  # no picture, for a cause that passes
    REFUSED = "refused"  # no picture, for a cause that stays; or a held one that proved to be a decoy


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of a link's visit, or of several in a row that ended alike."""

    run: int  # the last one's
    first_at: datetime
    last_at: datetime
    times: int
    outcome: End
    reason: Reason | None
    evidence: str | None  # the last one's
    digest: str | None
    url: str  # that the link had


@dataclass(frozen=True, slots=True)
class Change:
    """One writing of a row's column."""

    run: int
    url: str
    before_url: str | None
    after_url: str | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run, of one process or of a crew; what is None is not known yet, or never was: it was killed."""

    run: int
    source: str
    host: str
    pid: int
    os_user: str
    version: str
    started_at: datetime
    ended_at: datetime | None
    undone_at: datetime | None
    workers: int  # processes of the command
    working: int  # those that have not ended, and have given a sign of life of late
    is_alive: bool  # any of them
    held: int | None
    unchanged: int | None
    adopted: int | None
    failed: int | None
    overtaken: int | None
    mended: int | None  # rows pointed at their copies again, without a request
    size: int | None
    seconds: float | None
    interrupted: bool | None
    reasons: Mapping[Reason, int]


@dataclass(frozen=True, slots=True)
class LinkFilter:
    """Which links to show; None asks for any."""

    source: str | None = None
    state: State | None = None
    reason: Reason | None = None
    host: str | None = None
    roots: Sequence[str] | None = None  # what their URLs begin with, up to the path, as `RootStanding` has it
    text: str | None = None  # part of the row's key or of the link, upper or lower case
    keys: Sequence[str] = ()  # rows that `text` found elsewhere (by their titles): shown as well


@dataclass(frozen=True, slots=True)
class Page:
    """Some links, and where the next page begins."""

    links: Sequence[LinkReport]
    next: int | None  # to be given as `after`; None at the end
