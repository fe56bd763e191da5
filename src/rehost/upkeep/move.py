"""Moves all copies to another store, while runs go on: first the bytes, then the keys and the rows.

What a kill after each step leaves behind; the next call goes on from there:

1. the move is recorded                           the former store is in use
2. copies are made, proved and remembered         up to a group that is not remembered: it is found, and not made again
3. the new store comes into use; runs end         no command works until the move is done
4. what runs changed since is copied as well      as 2
5. keys and rows change, a group at a time        each key and its row say the same, and both places have the bytes
6. the move is recorded as done                   the former place is left as it is

So a row points at a whole copy all along, at the former place or at the new one. The way back is a move to the former
place, which has all bytes still.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehost import process_identity as identity
from rehost.catalogue.table import Clearing, TableCatalogue
from rehost.clock import Clock
from rehost.db import Connection
from rehost.errors import StoreError, cause_of
from rehost.ledger import Ledger
from rehost.ledger.moves import Missing, Move, MoveCounts, Moves, Moving, Phase
from rehost.model import Copy, KnownStore, Mark
from rehost.store.base import Gone, Placement, Store
from rehost.store.filesystem import as_store_errors
from rehost.store.layout import Layout, with_digest

MOST_LISTED = 1000  # missing copies that a report names
_POLL_SECONDS = 0.5  # between two looks at what is being visited
_CHUNK_BYTES = 1 << 20
_TARGET_FAILED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})  # of the spool, not of the copy


@dataclass(slots=True)
class MoveReport:
    """What `rehost move-store` has done."""

    from_place: str
    to_place: str
    phase: str = ""  # moves.Phase
    copies: int = 0  # that the ledger has
    size: int = 0  # their bytes
    there: int = 0  # of these: at the new place
    copied: int = 0  # of these: by this call
    copied_size: int = 0  # bytes
    switched: int = 0  # keys and rows, by this call
    refused: int = 0  # rows that the database refuses to write; runs try again
    visited: int = 0  # links that are being visited: the move waits for these
    missing: int = 0
    dry: bool = False
    listed: list[Mapping[str, str]] = field(default_factory=list)  # of the missing ones: source, key, file, evidence

    def take(self, counts: MoveCounts) -> None:
        """Take the counts of the ledger."""
        self.copies, self.size, self.there = counts.copies, counts.size, counts.there
        self.missing = counts.missing


@dataclass(frozen=True, slots=True)
class Place:
    """A store, and how it names the copies of each source."""

    store: Store
    layouts: Mapping[str, Layout]


class Mover:
    """Moves the copies of all sources."""

    def __init__(
        self,
        ledger: Ledger,
        move: Move,
        catalogues: Mapping[str, TableCatalogue],
        origin: Store,
        target: Place,
        *,
        clock: Clock,
        stop: asyncio.Event,
        tell: Callable[[MoveReport], None] = lambda _report: None,
    ) -> None:
        """Take the parts of all sources that have copies; `tell` gets the report now and then."""
        self._ledger = ledger
        self._moves = Moves(ledger.database)
        self._move = move
        self._catalogues = catalogues
        self._origin, self._target = origin, target
        self._clock = clock
        self._stop = stop
        self._tell = tell
        self._report = MoveReport(move.from_place, move.to_place)
        self._has_digest = next(iter(target.layouts.values())).has_digest

    async def move(self, machine: str, *, accepts_loss: bool = False) -> MoveReport:
        """Move everything, or go on with that; after a stop, or if copies are missing, the report's phase says so.

        Args:
            machine: that uses the new store.
            accepts_loss: go on without the copies that the former place has not.

        Raises:
            OperatorError: a database or a store cannot be used.
        """
        for store in (self._origin, self._target.store):
            await self._recover(store)
        await self._moves.forget_missing()
        self._report.take(await self._moves.counts())
        await self._copy_all()
        self._report.take(await self._moves.counts())
        is_whole = accepts_loss or not self._report.missing or self._move.phase is Phase.SWITCHING
        if is_whole and not self._stop.is_set():
            await self._moves.switch(KnownStore(self._move.to_store, self._move.to_place, machine))
            await self._mark_gone()
            await self._switch()
            self._report.take(await self._moves.counts())
        listed = await self._moves.missing(MOST_LISTED)
        self._report.listed = [
            {"source": each.source, "key": each.row_key, "file": each.key, "evidence": each.evidence} for each in listed
        ]
        if is_whole and not self._stop.is_set():
            await self._moves.end()
        last = await self._moves.last()
        self._report.phase = str(last.phase) if last else ""
        return self._report

    async def _recover(self, store: Store) -> None:
        """Bring back what killed processes had set aside."""
        async for files in store.unconfirmed():
            await store.recover(files, await self._ledger.reconcile.held_digests([file.key for file in files]))

    # --- bytes

    async def _copy_all(self) -> None:
        """Copy what the new place lacks, until nothing is left or a stop."""
        last = 0
        while not self._stop.is_set() and (group := await self._moves.lacking(last)):
            last = group[-1].entry
            await self._copy([replace(each, to_key=self._to_key(each)) for each in group])
            self._tell(self._report)

    async def _copy(self, group: Sequence[Moving]) -> None:
        """Copy a group, but for what is there already, and remember it."""
        store = self._target.store
        _, most = store.longest()
        fitting = [each for each in group if len(each.to_key) <= most]
        found = await store.read_copies(
            {each.to_key for each in fitting}, {each.copy.size for each in fitting}
        )  # after a kill, or from an earlier move
        there = {(each.key, each.digest) for each in found}
        done = [each for each in fitting if (each.to_key, each.copy.digest) in there]
        made = [each for each in fitting if (each.to_key, each.copy.digest) not in there]
        spools = [store.spool() for _ in made]
        read = await asyncio.gather(*(self._read(each, spool) for each, spool in zip(made, spools, strict=True)))
        pairs = list(zip(made, spools, read, strict=True))
        right = [(each, spool) for each, spool, evidence in pairs if not evidence]
        await store.sync([spool for _, spool in right])
        await store.place([Placement(spool, each.to_key, each.copy.digest) for each, spool in right])
        await store.confirm([each.to_key for each, _ in right])
        wrong = [(each, evidence) for each, _, evidence in pairs if evidence]
        wrong += [(each, f"its name would have {len(each.to_key):,} bytes") for each in group if each not in fitting]
        still = await self._moves.unchanged([each for each, _ in wrong])
        missing = [Missing(each.entry, each.copy.digest, words) for each, words in wrong if each.entry in still]
        await self._moves.save(done + [each for each, _ in right], missing)
        await self._remove_taken_down([each for each, _ in right])
        self._report.there += len(done) + len(right)
        self._report.copied += len(right)
        self._report.copied_size += sum(each.copy.size for each, _ in right)

    async def _remove_taken_down(self, copied: Sequence[Moving]) -> None:
        """Remove again what was taken down meanwhile: the takedown may have looked here before."""
        digests = {each.copy.digest for each in copied}
        gone = await self._ledger.results.taken_down({(Mark.DIGEST, digest) for digest in digests})
        keys = {each.to_key for each in copied if (Mark.DIGEST, each.copy.digest) in gone}
        await self._target.store.remove(await self._target.store.file_ids(keys))

    async def _read(self, moving: Moving, spool: Path) -> str:
        """Write a copy's bytes into a spool; return what is wrong with them, in which case the spool is removed."""
        async with self._origin.as_file(moving.copy.key) as path:
            with as_store_errors(spool.parent):
                return await asyncio.to_thread(_copy_file, path, spool, moving.copy.digest)

    def _to_key(self, moving: Moving) -> str:
        return with_digest(moving.copy.key, moving.copy.digest, has_digest=self._has_digest)

    # --- keys and rows

    async def _switch(self) -> None:
        """Change keys and rows, until nothing is left to do and no worker visits a link that it leased before."""
        while not self._stop.is_set():
            await self._ledger.leases.release_dead_workers(identity.is_gone)
            await self._moves.end_expired()
            self._report.visited = await self._moves.leased()
            await self._copy_all()
            await self._rename_all()
            self._tell(self._report)
            if not self._report.visited:
                return
            await self._clock.sleep(_POLL_SECONDS)

    async def _rename_all(self) -> None:
        last = 0
        while not self._stop.is_set() and (group := await self._moves.copied(last)):
            last = group[-1].entry
            for name in self._catalogues:
                if theirs := [each for each in group if each.link.source == name]:
                    await self._rename(theirs)
            self._tell(self._report)

    async def _rename(self, group: Sequence[Moving]) -> None:
        """Change the keys of links of one source, and the rows that point at these copies, whatever link they hold.

        Rows of another database change first: a kill in between leaves rows that point at the new place already.
        """
        catalogue, layout = self._catalogues[group[0].link.source], self._target.layouts[group[0].link.source]
        urls = {each.entry: layout.url(each.to_key, each.copy.digest) for each in group}

        async def work(transaction: Connection) -> tuple[int, int]:
            renamed = await self._moves.rename(transaction, [(each, urls[each.entry]) for each in group])
            rows = [Clearing(each.link, layout.url_path(each.copy.key), to_url=urls[each.entry]) for each in renamed]
            written = await catalogue.clear(rows, transaction)
            copies = {each.link: Copy(each.to_key, each.copy.digest, each.copy.size) for each in renamed}
            refused = [(link, copies[link], refusal) for link, refusal in written.refused.items()]
            if refused:
                await self._ledger.reconcile.mark_refused(transaction, refused)
            return len(renamed), len(refused)

        switched, refused = await self._ledger.database.transact(work)
        self._report.switched += switched
        self._report.refused += refused

    async def _mark_gone(self) -> None:
        """Have servers of the new place say what was taken down."""
        for each in await self._ledger.takedowns.read():
            if each.allowed_at is None:
                async for keys in self._ledger.takedowns.values(each.takedown, Mark.KEY):
                    marks = [Gone(key, "-", each.status, each.takedown) for key in keys]
                    await self._target.store.mark_gone(marks)


@dataclass(frozen=True, slots=True)
class Emptying:
    """Deletes the copies at a former place."""

    store: Store
    layouts: Sequence[Layout]  # of all sources, there
    report: MoveReport
    stop: asyncio.Event
    tell: Callable[[MoveReport], None]

    async def check_rows(self, catalogue: TableCatalogue) -> None:
        """Check that no row leads to a copy there.

        Raises:
            StoreError: one does.
        """
        found: set[str] = set()

        def see(urls: Sequence[str]) -> None:
            keys = {key for url in urls for layout in self.layouts if (key := layout.key_of_url(url)) is not None}
            old = {key for key in keys if any(layout.parse(key) is not None for layout in self.layouts)}
            found.update(sorted(old)[: max(0, MOST_LISTED - len(found))])

        await catalogue.read_local_urls(see)
        if there := await self.store.states(found):
            raise StoreError(
                "Rows of {source} still lead to copies in {place}, such as {key}: start a run first, which points them "
                "at the new place. Nothing was deleted.",
                source=catalogue.name,
                place=self.report.from_place,
                key=min(there),
            )

    async def delete(self, *, dry: bool) -> None:
        """Delete the copies, or count them."""
        async for states in self.store.files():
            keys = [key for key in states if any(layout.parse(key) is not None for layout in self.layouts)]
            if self.stop.is_set():
                return
            if not dry:
                await self.store.remove(await self.store.file_ids(keys))
            self.report.copies += len(keys)
            self.report.size += sum(states[key].size for key in keys)
            self.tell(self.report)


def _copy_file(path: Path, spool: Path, digest: str) -> str:
    """Copy a file; return why it cannot be read, or that its SHA-256 is another one, and then remove the spool.

    Raises:
        OSError: the spool cannot be written.
    """
    seen = hashlib.sha256()
    with spool.open("xb") as target:
        try:
            with path.open("rb", buffering=0) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    seen.update(chunk)
                    target.write(chunk)
        except OSError as error:
            if error.errno in _TARGET_FAILED:
                raise
            evidence = str(cause_of(error))
        else:
            is_same = seen.hexdigest() == digest
            evidence = "" if is_same else f"its bytes have another digest, {seen.hexdigest()[:16]}"
    if evidence:
        spool.unlink()
    return evidence
