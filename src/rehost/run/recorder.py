"""Outcomes become durable, in groups: bytes first, then ledger and rows in one transaction (invariants 1, 2, 4).

The order, and what a kill after each step leaves behind:

1. spools and adopted files are synced        spools, which the next process removes
2. digests of replacements are announced      an announced digest: the next visit accepts either digest at the key
3. spools get their names, which are synced   files without a row: found at their place, or fetched again over them
4. ledger and rows change, in one commit      everything done; the next run moves what was set aside to the trash
5. what was set aside goes to the trash, or back where a row had changed meanwhile; decoys go to quarantine
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Self

from rehost.catalogue.table import Clearing, TableCatalogue, WriteBack, Written
from rehost.db import Connection
from rehost.events import Listener, Recorded
from rehost.hotlink.suspected_copies import SuspectedCopies
from rehost.ledger import Ledger
from rehost.model import (
    Deferred,
    Link,
    Mark,
    Outcome,
    Reason,
    Refused,
    RowRefusal,
    Stored,
    Task,
    Tombstone,
    Unchanged,
)
from rehost.run.limits import Limits, bug_to_none, bug_to_outcome, unless_stopped
from rehost.run.stats import RunStats
from rehost.store.base import Cause, FileIds, Placement, Store
from rehost.store.layout import Layout

_GROUPS_BEHIND = 10  # that may wait for the search for decoys before recording waits for it


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records groups of outcomes of one source."""

    ledger: Ledger
    store: Store
    catalogue: TableCatalogue
    layout: Layout

    async def record(self, run: int, outcomes: Sequence[Outcome]) -> Recorded:
        """Make a group of outcomes durable and return how many links are held, failed or overtaken now.

        Raises:
            OperatorError: the store or the database cannot be used; nothing is recorded as failed because of that.
        """
        outcomes = await self._without_taken_down(outcomes)
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        failed = sum(isinstance(outcome, Deferred | Refused) for outcome in outcomes)
        outcomes = await self._without_lost(_without_late(outcomes))
        placed = [outcome for outcome in outcomes if isinstance(outcome, Stored) and outcome.spool is not None]
        await self._place(placed)
        # Read while the leases are ours: later these names may have files of other workers.
        former = {outcome.task.entry: await self.store.file_ids(_former_keys(outcome)) for outcome in placed}
        written, spoiled = await self._write_despite_bugs(run, outcomes)
        await self._tidy(placed, written, former)
        bugs = sum(isinstance(outcome, Stored) and outcome.task.entry in spoiled for outcome in outcomes)
        overtaken = len(stored) - len(written.held) - len(written.refused) - bugs
        adopted = sum(each.spool is None and each.task.entry in written.refused for each in stored)
        refused = len(written.refused)
        return Recorded(
            held=len(written.held),
            failed=failed + bugs + refused,
            overtaken=overtaken,
            bugs=bugs,
            refused=refused,
            refused_adopted=adopted,
        )

    async def _without_lost(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Make adopted files durable; release the leases of those that are gone, and return the other outcomes."""
        adopted = [outcome for outcome in outcomes if isinstance(outcome, Stored) and outcome.spool is None]
        if not adopted:
            return outcomes
        there = await self.store.sync_copies([outcome.copy.key for outcome in adopted])
        lost = {outcome.task.entry: outcome.task for outcome in adopted if outcome.copy.key not in there}
        await self.ledger.leases.release(list(lost.values()))
        return [outcome for outcome in outcomes if outcome.task.entry not in lost]

    async def _without_taken_down(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Return the outcomes, with refusals in place of pictures that were taken down since they were fetched."""
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        found = await self.ledger.results.taken_down({(Mark.DIGEST, outcome.copy.digest) for outcome in stored})
        return [_refused(each, found) for each in outcomes] if found else outcomes

    async def _place(self, placed: Sequence[Stored]) -> None:
        """Make the spools durable and give them their names."""
        if not placed:
            return
        await self.store.sync([outcome.spool for outcome in placed if outcome.spool])
        replacing = [outcome for outcome in placed if outcome.task.copy and outcome.task.copy.key == outcome.copy.key]
        await self.ledger.results.announce_replacements(replacing)
        spools = [(outcome.spool, outcome.copy) for outcome in placed]
        await self.store.place([Placement(spool, copy.key, copy.digest) for spool, copy in spools if spool])

    async def _write_despite_bugs(self, run: int, outcomes: Sequence[Outcome]) -> tuple[_Written, set[int]]:
        """Record the outcomes; return what became of the pictures, and the entries that met a bug.

        A bug of ours rolls the group back. Then each outcome is recorded alone, and only the one with the bug fails.
        """
        tasks = [outcome.task for outcome in outcomes]
        written = await bug_to_outcome("record", tasks, self._write(run, outcomes))
        if not isinstance(written, list):
            return written, set()
        if len(outcomes) > 1:
            each = [await self._write_despite_bugs(run, [outcome]) for outcome in outcomes]
            held = set().union(*(written.held for written, _ in each))
            refused = set().union(*(written.refused for written, _ in each))
            return _Written(held, refused), set().union(*(spoiled for _, spoiled in each))
        await self._write(run, written)
        return _Written(set(), set()), {tasks[0].entry}

    async def _write(self, run: int, outcomes: Sequence[Outcome]) -> _Written:
        """Record the outcomes and write the rows; return what became of the pictures."""
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        ledger, is_joint = self.ledger, self.catalogue.is_joint
        # Rows of another database are written after the ledger, so what they hold has to be read before.
        seen = {} if is_joint else await self.catalogue.local_urls([outcome.task.link for outcome in stored])
        if not is_joint and (lost := _lost(outcomes)):  # so that a kill leaves nothing that undo cannot take back
            rows_of_lost = [(link, link.local_url, self.catalogue.empty) for link in lost]
            await ledger.database.transact(lambda each: ledger.history.add_changes(each, run, rows_of_lost, lost=True))

        async def work(transaction: Connection) -> tuple[_Written, FileIds, FileIds]:
            ours = await ledger.leases.confirm(transaction, [outcome.task for outcome in outcomes])
            late = [outcome for outcome in stored if outcome.task.entry not in ours]
            already = await ledger.results.already_recorded(transaction, late)
            confirmed = [outcome for outcome in outcomes if outcome.task.entry in ours]
            wanted = [outcome for outcome in stored if outcome.task.entry in ours]
            rows = Written(seen, {})
            if is_joint:
                rows = await self.catalogue.write_back(self._write_backs(wanted), transaction)
            results, decoys, damaged = await self._clear(transaction, run, confirmed)
            await ledger.results.record(transaction, run, results, rows.before, rows.refused)
            return _Written.of(wanted, rows, already), decoys, damaged

        written, decoys, damaged = await ledger.database.transact(work)
        if decoys:
            await self.store.quarantine(decoys)
        if damaged:
            await self.store.trash(damaged, Cause.REMOVED)
        if is_joint:
            return written
        ours = [outcome for outcome in stored if outcome.task.entry in written.held]
        rows = await self.catalogue.write_back(self._write_backs(ours))
        refused = [(each, rows.refused[each.task.link]) for each in ours if each.task.link in rows.refused]
        await ledger.results.refuse(refused)
        both = rows.before.keys() | rows.refused.keys()
        await ledger.results.revert([outcome for outcome in ours if outcome.task.link not in both])
        return _Written.of(ours, rows)

    def _write_backs(self, stored: Sequence[Stored]) -> list[WriteBack]:
        return [
            WriteBack(outcome.task.link, self.layout.url(outcome.copy.key, outcome.copy.digest)) for outcome in stored
        ]

    async def _clear(
        self, transaction: Connection, run: int, outcomes: Sequence[Outcome]
    ) -> tuple[Sequence[Outcome], FileIds, FileIds]:
        """Clear rows that lead to decoys and to lost copies; return the outcomes, and the files of either.

        The files are identified while no other worker can replace them. The decoy of a row that the database refuses
        to clear stays, because the row goes on pointing at it.
        """
        failed = [outcome for outcome in outcomes if isinstance(outcome, Deferred | Refused)]
        decoys = {outcome.task.link: outcome.decoy for outcome in failed if outcome.decoy is not None}
        lost = _lost(failed)
        if not decoys and not lost:
            return outcomes, {}, {}
        clearings = [Clearing(link, self.layout.url_path(key)) for link, key in decoys.items()]
        clearings += [Clearing(link, self.layout.url_path(key), link.local_url) for link, key in lost.items()]
        cleared = await self.catalogue.clear(clearings, transaction)
        history, empty = self.ledger.history, self.catalogue.empty
        rows = cleared.before.items()
        await history.add_changes(transaction, run, [(link, before, None) for link, before in rows if link in decoys])
        if self.catalogue.is_joint:
            of_lost = [(link, before, empty) for link, before in rows if link in lost]
            await history.add_changes(transaction, run, of_lost, lost=True)
        left = cleared.refused
        outcomes = [
            _uncleared(each.task, left[each.task.link]) if each.task.link in left else each for each in outcomes
        ]
        kept, damaged = ({key for link, key in keys.items() if link not in left} for keys in (decoys, lost))
        return outcomes, await self.store.file_ids(kept), await self.store.file_ids(damaged)

    async def _tidy(self, placed: Sequence[Stored], written: _Written, former: Mapping[int, FileIds]) -> None:
        """Move what was replaced to the trash, and bring back what a changed row still needs."""
        kept = [outcome for outcome in placed if outcome.task.entry in written.held]
        stay = written.held | written.refused
        await self.store.confirm([outcome.copy.key for outcome in placed if outcome.task.entry in stay])
        await self.store.undo([outcome.copy.key for outcome in placed if outcome.task.entry not in stay])
        removed = {key: seen for each in kept for key, seen in former[each.task.entry].items()}
        await self.store.trash(removed, Cause.REPLACED)


@dataclass(frozen=True, slots=True)
class _Written:
    """The entries whose pictures are recorded as held."""

    held: set[int]  # their rows point at them
    refused: set[int]  # the database refuses to write their rows

    @classmethod
    def of(cls, stored: Sequence[Stored], rows: Written[Link], already: set[int] | None = None) -> Self:
        held = (already or set()) | {each.task.entry for each in stored if each.task.link in rows.before}
        return cls(held, {each.task.entry for each in stored if each.task.link in rows.refused})


def _lost(outcomes: Sequence[Outcome]) -> dict[Link, str]:
    """Return the links whose copies are lost, with the keys of these."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Deferred | Refused)]
    return {outcome.task.link: outcome.lost for outcome in failed if outcome.lost is not None}


def _refused(outcome: Outcome, taken_down: Mapping[Tombstone, str]) -> Outcome:
    """Return the outcome, or what takes the place of a picture that was taken down; a copy of the link's own stays."""
    words = taken_down.get((Mark.DIGEST, outcome.copy.digest)) if isinstance(outcome, Stored) else None
    if words is None or not isinstance(outcome, Stored):
        return outcome
    if outcome.spool is not None:
        outcome.spool.unlink(missing_ok=True)
    if outcome.task.has_own_copy:
        return Unchanged(outcome.task, reason=Reason.TAKEN_DOWN, evidence=words)
    return Refused(outcome.task, Reason.TAKEN_DOWN, words, 0.0, outcome.task.found if outcome.spool is None else None)


def _uncleared(task: Task, refusal: RowRefusal) -> Deferred:
    words = f"its copy is a decoy or lost, but its row cannot be cleared: {refusal.evidence}"
    return Deferred(task, Reason.ROW_REFUSED, words, refusal.wait_seconds)


def _without_late(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Return the outcomes without those under a lease that had ended: this worker has leased the same link again."""
    last = {outcome.task.entry: outcome.task.fence for outcome in sorted(outcomes, key=lambda each: each.task.fence)}
    late = [outcome for outcome in outcomes if outcome.task.fence < last[outcome.task.entry]]
    for outcome in late:
        if isinstance(outcome, Stored) and outcome.spool is not None:
            outcome.spool.unlink(missing_ok=True)
    return [outcome for outcome in outcomes if outcome.task.fence == last[outcome.task.entry]] if late else outcomes


def _former_keys(outcome: Stored) -> set[str]:
    """Return the keys that are no longer used once the outcome is recorded."""
    keys = {outcome.task.copy.key if outcome.task.copy else None, outcome.task.found}
    return {key for key in keys - {outcome.copy.key} if key is not None}


class _Marker(Enum):
    """A signal between outcomes in the queue."""

    NOW = auto()  # nothing follows for now: record what is there
    END = auto()  # nothing follows


class RecordingPipeline:
    """Records the outcomes of one run in groups, then searches for decoys among what was recorded.

    The search asks origins and may have to wait for them, so it runs behind the recording. What it has not finished
    when a run is stopped is found again with the next outcomes of the same origin.
    """

    def __init__(
        self,
        recorder: Recorder,
        suspected_copies: SuspectedCopies,
        close: Callable[[Sequence[Task]], None],
        stats: RunStats,
        *,
        limits: Limits,
        stop: asyncio.Event,
        listen: Listener,
    ) -> None:
        """Take the parts; `close` gets the tasks whose outcomes are recorded, and `listen` each Recorded event.

        A stop cuts the search for decoys short.
        """
        self._recorder = recorder
        self._suspected_copies = suspected_copies
        self._close = close
        self._stats = stats
        self._limits = limits
        self._stop = stop
        self._listen = listen
        self._outcomes: asyncio.Queue[Outcome | _Marker] = asyncio.Queue(2 * limits.group)
        self._recorded: asyncio.Queue[Sequence[Outcome]] = asyncio.Queue(_GROUPS_BEHIND)

    async def put(self, outcome: Outcome) -> None:
        """Add an outcome; waits while two groups are waiting to be recorded."""
        await self._outcomes.put(outcome)

    async def end(self) -> None:
        """End `record` once what was put so far is recorded."""
        await self._outcomes.put(_Marker.END)

    async def flush(self) -> None:
        """Return once everything put so far is recorded and searched for decoys; after a stop, within seconds."""
        await self._outcomes.put(_Marker.NOW)
        await unless_stopped(self._join(), self._stop, grace_seconds=self._limits.drain_seconds)

    async def record(self, run: int) -> None:
        """Record what is put until `end`, and wait until it is searched for decoys; after a stop, only for seconds.

        Raises:
            OperatorError: the store or the database cannot be used.
        """
        is_last = False
        while not is_last:
            group, is_last = await self._next_group()
            if not group:
                continue
            recorded = await self._recorder.record(run, group)
            self._close([outcome.task for outcome in group])
            self._stats.add(recorded)
            self._listen(recorded)
            await unless_stopped(self._recorded.put(group), self._stop, grace_seconds=0.0)
            for _ in group:
                self._outcomes.task_done()
        await unless_stopped(self._recorded.join(), self._stop, grace_seconds=self._limits.drain_seconds)

    async def search_decoys(self) -> None:
        """Search every recorded group for decoys, until cancelled.

        Raises:
            OperatorError: the store or the database cannot be used.
        """
        while True:
            group = await self._recorded.get()
            for event in await bug_to_none("search for decoys", self._suspected_copies.find(group), self._stats) or ():
                self._stats.add(event)
                self._listen(event)
            self._recorded.task_done()

    async def _next_group(self) -> tuple[list[Outcome], bool]:
        """Return the next outcomes, as many as a group takes or arrive in its time; and whether they are the last."""
        group: list[Outcome] = []
        try:
            async with asyncio.timeout(None) as timeout:
                while len(group) < self._limits.group:
                    outcome = await self._outcomes.get()
                    if isinstance(outcome, _Marker):
                        self._outcomes.task_done()
                        return group, outcome is _Marker.END
                    if not group:
                        timeout.reschedule(asyncio.get_running_loop().time() + self._limits.group_seconds)
                    group.append(outcome)
        except TimeoutError:
            pass
        return group, False

    async def _join(self) -> None:
        await self._outcomes.join()
        await self._recorded.join()
