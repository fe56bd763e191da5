"""Mends what verification found: a lost file from wherever its picture still is, a row by the URL of its copy.

Each copy is leased, and its row, its entry in the ledger and its file are read again, before anything changes. The
recorder of a run writes the result, so that a kill leaves what a kill of a run leaves. Damaged files go to the trash.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehost.attempt import VisitLog
from rehost.catalogue.table import Clearing, TableCatalogue
from rehost.clock import Clock
from rehost.db import Connection
from rehost.events import Listener, Visited
from rehost.hosts.scheduler import HostPaused
from rehost.ledger.copies import Copies, KnownCopy, RowOfNoCopy
from rehost.ledger.findings import Fault, Mend
from rehost.model import Copy, Deferred, Outcome, Reason, Refused, Stored, Task, Unchanged
from rehost.run.limits import Limits, bug_to_outcome
from rehost.run.run import Components, visit_link
from rehost.store.base import Cause
from rehost.store.layout import Layout
from rehost.upkeep.inspection import Inspector
from rehost.upkeep.journal import Journal
from rehost.upkeep.visits import HeldVisits

Rescue = Callable[[Task, VisitLog], Awaitable[Stored | None]]
"""Looks for a picture elsewhere than at its link."""

_IN_THE_WAY = {Fault.UNREADABLE, Fault.NOT_A_FILE}  # what cannot be set aside as a copy that is replaced


@dataclass(slots=True)
class Repair:
    """Mends the copies and rows of one source, under a run that begins with the first of them."""

    parts: Components
    catalogue: TableCatalogue
    layout: Layout
    copies: Copies
    inspector: Inspector
    journal: Journal
    limits: Limits
    clock: Clock
    listen: Listener
    stop: asyncio.Event
    rescue: Rescue | None = None
    _known: dict[int, KnownCopy] = field(default_factory=dict)
    _how: dict[int, Mend] = field(default_factory=dict)

    async def files(self, faulty: Sequence[KnownCopy]) -> dict[int, Mend]:
        """Mend the files of these copies; return how, by entry, for those that were mended.

        A copy that is leased by another worker, or whose row holds a URL that others wrote, is left as it is.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        self._known, self._how = {each.entry: each for each in faulty}, {}
        run = await self.journal.begin(self.catalogue.name)
        visits = HeldVisits(self.parts, self.limits, self.clock, self.listen, self.stop, run)
        await visits.visit(_once(sorted(self._known)), _as_it_is, visit=self._visit)
        return await self._proven()

    async def _proven(self) -> dict[int, Mend]:
        """Return how copies were mended, for those that are right now, or cleared."""
        now = await self.copies.again(self._how)
        proven = {}
        for entry, how in self._how.items():
            is_right = entry in now and (await self.inspector.inspect(now[entry])).fault is None
            if is_right or (entry not in now and how is Mend.CLEARED):
                proven[entry] = how
        return proven

    async def _visit(self, task: Task) -> Visited:
        """Return the outcome of a repair; a bug of ours leaves the copy as it is."""
        visited = await bug_to_outcome("repair", [task], self._mend(task))
        if isinstance(visited, list):
            return _unvisited(Unchanged(task, reason=Reason.BUG, evidence=visited[0].evidence))
        return visited

    async def _mend(self, task: Task) -> Visited:
        known = self._known[task.entry]
        if task.copy != known.copy or task.link.url != known.link.url:
            return _unvisited(Unchanged(task))  # another worker was faster
        seen = await self.inspector.inspect(known)
        if seen.fault is None:
            self._how[task.entry] = Mend.OTHERWISE
            return _unvisited(Unchanged(task))
        holds = await self.catalogue.local_urls([task.link])
        if task.link not in holds or not is_ours(holds[task.link], known, self.layout):
            return _unvisited(Unchanged(task))
        visited = await self._from_store(task, known) or await self._from_elsewhere(task, known)
        outcome = visited.outcome
        if isinstance(outcome, Stored) and outcome.copy.key == known.copy.key and seen.fault in _IN_THE_WAY:
            store = self.parts.store
            await store.trash(await store.file_ids([known.copy.key]), Cause.REPLACED)
        return visited

    async def _from_store(self, task: Task, known: KnownCopy) -> Visited | None:
        """Return the copy's own bytes, if the store still has them: at another key, in the trash or the quarantine."""
        store, digest = self.parts.store, known.copy.digest
        for key in await self.copies.keys_with(digest, known.entry):
            async with store.as_file(key) as path:
                spool = await self._proven_spool(path, digest)
            if spool is not None:
                return self._restored(task, known, spool, Mend.STORE)
        found = await store.spool_from_trash(digest, known.copy.key)
        if found is None:
            return None
        try:  # a spool of its own: what is in the trash keeps its file, whatever happens to the copy
            spool = await self._proven_spool(found, digest)
        finally:
            found.unlink(missing_ok=True)
        return None if spool is None else self._restored(task, known, spool, Mend.TRASH)

    async def _proven_spool(self, path: Path, digest: str) -> Path | None:
        spool = self.parts.store.spool()
        return spool if await asyncio.to_thread(_copy_proven, path, spool, digest) else None

    def _restored(self, task: Task, known: KnownCopy, spool: Path, how: Mend) -> Visited | None:
        if known.image is None:
            spool.unlink(missing_ok=True)
            return None
        self._how[task.entry] = how
        copy = Copy(known.copy.key, known.copy.digest, known.copy.size)
        outcome = Stored(task, copy, known.image, spool, known.final_url, known.validator, known.rescued)
        return _unvisited(outcome)

    async def _from_elsewhere(self, task: Task, known: KnownCopy) -> Visited:
        """Return what the origin has, or a rescuer; if neither has a picture, the outcome clears the row."""
        visited = await self._ask_origin(task)
        outcome = visited.outcome
        if isinstance(outcome, Stored):
            is_same = outcome.copy.digest == known.copy.digest
            self._how[task.entry] = Mend.ORIGIN if is_same else Mend.CHANGED
            return replace(visited, outcome=replace(outcome, task=task))
        if self.rescue is not None and (rescued := await self.rescue(task, VisitLog(task.host))) is not None:
            self._how[task.entry] = Mend.RESCUED
            return replace(visited, outcome=replace(rescued, task=task))
        assert isinstance(outcome, Deferred | Refused)  # it was visited as a link without a copy
        if outcome.reason is Reason.BUG:
            return replace(visited, outcome=Unchanged(task, reason=Reason.BUG, evidence=outcome.evidence))
        self._how[task.entry] = Mend.CLEARED
        return replace(visited, outcome=replace(outcome, task=task, decoy=None, lost=known.copy.key))

    async def _ask_origin(self, task: Task) -> Visited:
        """Visit the link as one without a copy: any picture that is proven is better than none."""
        try:
            lost = replace(task, copy=None, held_url=None, validator=None, found=None, pending=None)
            return await visit_link(self.parts.visitor, lost)
        except HostPaused:
            reason, evidence = Reason.THROTTLED, "requests to its host are paused"
            return _unvisited(Deferred(task, reason, evidence, self.parts.limiter.pause_seconds(task.host)))

    # --- rows

    async def rows(self, stale: Sequence[tuple[KnownCopy, str | None]]) -> set[int]:
        """Point rows, which hold these local URLs of ours or none, at their copies; return the entries of those."""
        run = await self.journal.begin(self.catalogue.name)
        await self.parts.planner.point(run, [(replace(each.link, local_url=value), each.copy) for each, value in stale])
        holds = await self.catalogue.local_urls([each.link for each, _ in stale])
        urls = {each.entry: self.layout.url(each.copy.key, each.copy.digest) for each, _ in stale}
        return {each.entry for each, _ in stale if holds.get(each.link) == urls[each.entry]}

    async def clear(self, rows: Sequence[RowOfNoCopy]) -> set[int]:
        """Clear rows that point at files that are not there and that no copy is; return the entries of those."""
        catalogue, history = self.catalogue, self.parts.ledger.history
        run = await self.journal.begin(catalogue.name)
        changes = [(each.link, each.link.local_url, catalogue.empty) for each in rows]
        if not catalogue.is_joint:  # before the rows change, as in Planner.point
            await self.parts.ledger.database.transact(lambda each: history.add_changes(each, run, changes, lost=True))

        async def work(transaction: Connection) -> set[int]:
            still = await self.copies.lock_rows_without_copy(transaction, rows)
            keys = {each.entry: self.layout.key_of_url(each.link.local_url or "") for each in rows}
            clearings = [
                Clearing(each.link, self.layout.url_path(key), each.link.local_url)
                for each in rows
                if each.entry in still and (key := keys[each.entry]) is not None
            ]
            cleared = await catalogue.clear(clearings, transaction)
            if catalogue.is_joint:
                done = [(link, before, catalogue.empty) for link, before in cleared.before.items()]
                await history.add_changes(transaction, run, done, lost=True)
            return {each.entry for each in rows if each.link in cleared.before}

        return await self.parts.ledger.database.transact(work)


def is_ours(value: str | None, known: KnownCopy, layout: Layout) -> bool:
    """Return whether a row's local URL is empty, what we wrote, or the one of this copy or of the one before it."""
    if not (value or "").strip(" ") or value == known.link.local_url:
        return True
    assert value is not None
    path = value.partition("?")[0]
    if path == layout.url(known.copy.key):
        return True
    return known.former_key is not None and path.endswith(f"/{layout.url_path(known.former_key)}")


def _unvisited(outcome: Outcome) -> Visited:
    return Visited(outcome, outcome.task.host, size=0, seconds=0.0, attempts=0)


async def _as_it_is(visited: Visited) -> Outcome:
    return visited.outcome


async def _once(entries: Sequence[int]) -> AsyncIterator[Sequence[int]]:
    yield entries


def _copy_proven(path: Path, spool: Path, digest: str) -> bool:
    """Copy a file into a spool; return whether the copy has these bytes; if not, no spool is left."""
    try:
        shutil.copyfile(path, spool)
        with spool.open("rb", buffering=0) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return True
    except OSError:  # another copy that cannot be read is no help; a full disk is noticed when the spool is synced
        pass
    spool.unlink(missing_ok=True)
    return False
