"""Moves to the trash what no row needs, and empties the trash of what has been there for its grace time.

No row needs a stray, which is a file at the place of a copy that is no link's copy, and a copy whose row is gone. A
file to which some row's column leads stays, whichever row that is. A kill loses nothing: the journal comes before the
file goes, and the next call removes a file whose copy the ledger has forgotten; a stray may have to wait for a day.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import unquote

from rehost.clock import Clock
from rehost.db import Connection
from rehost.errors import LedgerError
from rehost.ledger.copies import Copies, KnownCopy, Place
from rehost.model import Copy, Link
from rehost.run.run import Components
from rehost.run.visitor import digest_of
from rehost.store.base import Cause, Trashed
from rehost.upkeep.journal import Journal

GRACE = {Cause.REMOVED: timedelta(days=7), Cause.REPLACED: timedelta(days=30)}
MOST = 0.1
"""The share of all copies that may go at once; more than that is more often a mistake than a wish."""

FEW = 10  # files that may go at once, however few copies there are
YOUNG_SECONDS = 86_400.0  # a file that is no older may be about to be recorded
CANDIDATES = 5000  # files for which the rows are read at once
GROUP = 200  # files that are moved at once


@dataclass(slots=True)
class Amount:
    """Files and their bytes."""

    files: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count a file."""
        self.files += 1
        self.size += size


@dataclass(slots=True)
class Pruned:
    """What `rehost prune` found, and what it has done with it."""

    dry: bool
    strays: Amount = field(default_factory=Amount)  # files that are no link's copy
    copies: Amount = field(default_factory=Amount)  # of links whose rows are gone
    young: int = 0  # strays that are not a day old, and stay
    kept: int = 0  # changed meanwhile, or cannot be read, and stay
    held: int = 0  # copies that the ledger has
    stopped: bool = False  # too much would go at once: nothing was done
    expired: dict[str, Amount] = field(default_factory=dict)  # of the trash, by cause; deleted unless dry
    trash: dict[str, Amount] = field(default_factory=dict)  # what stays in it
    run: int | None = None  # that `rehost undo` takes

    @property
    def found(self) -> int:
        """Return how many files no row needs."""
        return self.strays.files + self.copies.files

    @property
    def share(self) -> float:
        """Return which share of all copies they are."""
        return self.found / max(1, self.held + self.strays.files)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file that no row needs."""

    place: Place
    size: int
    known: KnownCopy | None = None  # as the ledger has it; None for a stray

    @property
    def key(self) -> str:
        """Return the file's key."""
        return self.place[-1]


class Pruner:
    """Prunes one store, over all sources that have copies in it."""

    def __init__(
        self,
        sources: Sequence[Components],
        copies: Copies,
        journal: Journal,
        clock: Clock,
        stop: asyncio.Event,
        tell: Callable[[int], None] = lambda _files: None,
    ) -> None:
        """Take the parts of all sources; `tell` gets the number of files that were looked at, and may get it often."""
        self._sources = {each.recorder.catalogue.name: each for each in sources}
        self._ledger, self._store = sources[0].ledger, sources[0].store
        self._copies = copies
        self._journal = journal
        self._clock = clock
        self._stop = stop
        self._tell = tell
        self._looked_at = 0

    async def prune(self, *, dry: bool = True, grace: Mapping[Cause, timedelta] = GRACE, most: float = MOST) -> Pruned:
        """Return what no row needs, and unless `dry` move it to the trash and delete there what is due.

        Nothing is done if more than the share `most` of all copies would go. After a stop the next call goes on.

        Raises:
            LedgerError: a run is in progress.
            OperatorError: a database or the store cannot be used.
        """
        await self._check_leases()
        for name, source in self._sources.items():
            await self._ledger.sync.take_in(name, source.recorder.catalogue.links())
        pruned = Pruned(dry, held=await self._copies.count_all())
        async for orphan in self._orphans(pruned):
            (pruned.copies if orphan.known else pruned.strays).add(orphan.size)
        pruned.stopped = pruned.found > FEW and pruned.share > most
        if not dry and not pruned.stopped and not self._stop.is_set():
            await self._remove(pruned)
        await self.empty_trash(pruned, grace)
        pruned.run = self._journal.run
        await self._journal.end({})
        return pruned

    async def leased(self) -> Mapping[str, int]:
        """Return how many links are being visited, by source; nothing is pruned while there are any."""
        return {name: number for name in self._sources if (number := await self._ledger.due.leased(name))}

    async def _check_leases(self) -> None:
        for name, leased in (await self.leased()).items():
            raise LedgerError(
                "A run over {source} is in progress ({number} links are being visited): wait for its end, or stop "
                "it. Nothing was changed.",
                source=name,
                number=leased,
            )

    # --- what no row needs

    async def _orphans(self, pruned: Pruned) -> AsyncIterator[Orphan]:
        """Yield what no row needs; count in `pruned` the strays that are too young."""
        self._looked_at = pruned.young = 0
        candidates: list[Orphan] = []
        async for group in self._candidates(pruned):
            candidates += group
            if len(candidates) >= CANDIDATES:
                for each in await self._without_pointed(candidates):
                    yield each
                candidates = []
        for each in await self._without_pointed(candidates):
            yield each

    async def _candidates(self, pruned: Pruned) -> AsyncIterator[Sequence[Orphan]]:
        """Yield strays and copies whose rows are gone, whether or not some row's column leads to them."""
        async for keys in self._store.keys():
            if self._stop.is_set():
                return
            self._looked_at += len(keys)
            self._tell(self._looked_at)
            yield await self._strays(keys, pruned)
        cursor = 0
        while (group := await self._copies.without_rows(self._sources, cursor)) and not self._stop.is_set():
            cursor = group[-1].entry
            yield [Orphan(each.place, each.copy.size, each) for each in group]

    async def _strays(self, keys: Collection[str], pruned: Pruned) -> Sequence[Orphan]:
        places = {key: self._places(key) for key in keys}
        strays = await self._copies.strays([each for found in places.values() for each in found])
        orphans, forgotten = [], await self._copies.forgotten(strays)
        for key, state in (await self._store.states(sorted(strays))).items():
            if self._clock.now().timestamp() - state.modified < YOUNG_SECONDS and key not in forgotten:
                pruned.young += 1
            else:
                orphans.append(Orphan(places[key][0], state.size))
        return orphans

    def _places(self, key: str) -> Sequence[Place]:
        """Return the cells of which the file with this key could be the copy."""
        parsed = ((name, each.recorder.layout.parse(key)) for name, each in self._sources.items())
        return [(name, place[0], place[1], key) for name, place in parsed if place is not None]

    async def _without_pointed(self, orphans: Sequence[Orphan]) -> Sequence[Orphan]:
        """Return the files to which no row's column leads, under any prefix; rows without a link count too."""
        keys = {each.key for each in orphans}
        pointed: set[str] = set()

        def see(urls: Sequence[str]) -> None:
            for url in urls:
                pointed.update(keys.intersection(_keys_of(url)))

        if keys:
            for source in self._sources.values():
                await source.recorder.catalogue.read_local_urls(see)
        return [each for each in orphans if each.key not in pointed]

    # --- to the trash

    async def _remove(self, pruned: Pruned) -> None:
        group: list[Orphan] = []
        before = pruned.found
        pruned.strays, pruned.copies = Amount(), Amount()
        async for orphan in self._orphans(pruned):
            group.append(orphan)
            if len(group) >= GROUP:
                await self._move(group, pruned)
                group = []
            if self._stop.is_set():
                break
        await self._move(group, pruned)
        pruned.kept = max(0, before - pruned.found)

    async def _move(self, group: Sequence[Orphan], pruned: Pruned) -> None:
        """Move files to the trash that the ledger still does not need now that their identities are read."""
        if not group:
            return
        file_ids = await self._store.file_ids([each.key for each in group])
        strays = [each for each in group if each.known is None and each.key in file_ids]
        still = await self._copies.strays([place for each in strays for place in self._places(each.key)])
        found = [await self._copy(each) for each in strays if each.key in still]
        gone = [each for each in group if each.known is not None]
        runs = {each.place[0]: await self._journal.begin(each.place[0]) for each in group}
        ledger = self._ledger

        async def work(transaction: Connection) -> Mapping[Link, Copy]:
            forgotten = await self._copies.forget(transaction, [each.known for each in gone if each.known is not None])
            moved = dict(filter(None, found))
            moved |= {each.known.link: each.known.copy for each in gone if each.known and each.known.entry in forgotten}
            for source, run in runs.items():
                copies = {link: (copy, None) for link, copy in moved.items() if link.source == source}
                await ledger.history.add_changes(
                    transaction, run, [(each, None, None) for each in copies], copies=copies
                )
            return moved

        moved = await ledger.database.transact(work)
        keys = {copy.key for copy in moved.values()}
        await self._store.trash({key: seen for key, seen in file_ids.items() if key in keys}, Cause.REMOVED)
        for source in runs:
            await ledger.reconcile.forget_leftovers(source, sorted(keys))
        for each in group:
            if each.key in keys:
                (pruned.copies if each.known else pruned.strays).add(each.size)

    async def _copy(self, stray: Orphan) -> tuple[Link, Copy] | None:
        """Return a stray as the journal has it: of a link without a URL; None if it cannot be read."""
        source, row_key, position, key = stray.place
        try:
            async with self._store.as_file(key) as path:
                digest, size = await asyncio.to_thread(digest_of, path)
        except OSError:
            return None
        return Link(source, row_key, position, "", None, key), Copy(key, digest, size)

    # --- the trash

    async def empty_trash(self, pruned: Pruned, grace: Mapping[Cause, timedelta] = GRACE) -> None:
        """Count in `pruned` what is in the trash, and delete what is due, unless that is dry or was stopped.

        Raises:
            StoreError: the store cannot be used.
        """
        now = self._clock.now()
        pruned.expired, pruned.trash = ({str(cause): Amount() for cause in Cause} for _ in range(2))
        async for files in self._store.trashed():
            due: list[Trashed] = []
            for file in files:
                is_due = now - file.since >= grace[file.cause]
                (pruned.expired if is_due else pruned.trash)[file.cause].add(file.size)
                due += [file] if is_due else []
            if not pruned.dry and not pruned.stopped and not self._stop.is_set():
                await self._store.delete_trashed(due)


def _keys_of(url: str) -> Iterator[str]:
    """Yield every key to which a local URL could lead, under whichever prefix."""
    path = unquote(re.split(r"[?#]", url, maxsplit=1)[0], errors="surrogateescape")
    yield path
    for slash in re.finditer("/", path):
        yield path[slash.end() :]
