"""What the copies take up: ledger and store side by side, with every difference named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rehost.clock import Clock
from rehost.ledger.copies import Copies, Place
from rehost.ledger.usage import LedgerUsage, UsageQueries
from rehost.store.base import Cause, FileState, Store
from rehost.store.layout import Layout
from rehost.upkeep.prune import GRACE


@dataclass(slots=True)
class Files:
    """Files in the store."""

    files: int = 0
    size: int = 0  # bytes that they hold
    disk_size: int = 0  # bytes that they take up on the disk

    def add(self, state: FileState) -> None:
        """Count a file."""
        self.files += 1
        self.size += state.size
        self.disk_size += state.disk_size


@dataclass(slots=True)
class TrashUsage:
    """What lies in the trash for one cause."""

    files: int = 0
    size: int = 0  # bytes
    due: int = 0  # of these files: longer there than their grace time
    oldest: datetime | None = None


@dataclass(slots=True)
class StoreUsage:
    """What the store's folder has."""

    copies: Files = field(default_factory=Files)  # files that are a link's copy
    strays: Files = field(default_factory=Files)  # named like copies, but no link's
    found: Files = field(default_factory=Files)  # at the place of a link without a copy: a run will examine them
    others: Files = field(default_factory=Files)  # with other names
    missing: int = 0  # copies in the ledger whose files are not there
    resized: int = 0  # copies whose files have another size than the ledger says
    quarantine: Files = field(default_factory=Files)
    trash: dict[str, TrashUsage] = field(default_factory=dict)  # by cause
    free: int | None = None  # bytes; None if there is no limit that we could know


@dataclass(frozen=True, slots=True)
class Usage:
    """What `rehost usage` shows."""

    ledger: LedgerUsage
    store: StoreUsage | None  # None if it is not there
    problem: str | None = None  # what is wrong with it then
    full_in_days: float | None = None  # at that rate; None if nothing was stored


async def measure(
    queries: UsageQueries,
    copies: Copies,
    store: Store,
    layouts: Mapping[str, Layout],
    clock: Clock,
    tell: Callable[[int], None] = lambda _files: None,
) -> Usage:
    """Return what the copies take up; nothing is changed.

    Args:
        queries: about the ledger.
        copies: of the ledger.
        store: where the files are.
        layouts: by source.
        clock: for months and ages.
        tell: gets the number of files that were looked at.

    Raises:
        OperatorError: the ledger or the store cannot be read.
    """
    ledger = await queries.usage(clock.now())
    found = StoreUsage(free=await store.free_bytes(), quarantine=Files(*await store.quarantined()))
    looked_at = 0
    async for states in store.files():
        await _count(found, states, queries, copies, layouts)
        looked_at += len(states)
        tell(looked_at)
    found.missing = max(0, ledger.copies - found.copies.files)
    found.trash = await _trash(store, clock.now())
    rate = ledger.bytes_per_day
    return Usage(ledger, found, None, found.free / rate if rate and found.free is not None else None)


async def _count(
    found: StoreUsage,
    states: Mapping[str, FileState],
    queries: UsageQueries,
    copies: Copies,
    layouts: Mapping[str, Layout],
) -> None:
    sizes = await queries.sizes(states)
    places = {key: _places(layouts, key) for key in states if key not in sizes}
    strays = await copies.strays([each for found_there in places.values() for each in found_there])
    for key, state in states.items():
        if key in sizes:
            found.copies.add(state)
            found.resized += sizes[key] != state.size
        elif not places[key]:
            found.others.add(state)
        else:
            (found.strays if key in strays else found.found).add(state)


def _places(layouts: Mapping[str, Layout], key: str) -> list[Place]:
    parsed = ((name, layout.parse(key)) for name, layout in layouts.items())
    return [(name, place[0], place[1], key) for name, place in parsed if place is not None]


async def _trash(store: Store, now: datetime) -> dict[str, TrashUsage]:
    usage = {str(cause): TrashUsage() for cause in Cause}
    async for files in store.trashed():
        for file in files:
            each = usage[file.cause]
            each.files += 1
            each.size += file.size
            each.due += now - file.since >= GRACE[file.cause]
            each.oldest = min(each.oldest or file.since, file.since)
    return usage
