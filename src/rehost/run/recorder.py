"""Outcomes become durable, in groups: bytes first, then ledger and rows in one transaction (invariants 1, 2, 4).

The order, and what a kill between two steps leaves behind:

1. spools, adopted files: synced   spools: swept by whoever comes next
2. digests that replace are noted  a promise in the ledger: the next visit finds either digest at the key
3. spools get their names, synced  files without a row: found at their place, or fetched again over them
4. ledger and rows, one commit     all is well; what was kept aside is let go of by whoever comes next
5. what was kept aside goes, or, where a row had changed meanwhile, comes back; decoys go to quarantine
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rehost.events import Recorded
from rehost.model import Copy, Deferred, Link, Outcome, Refused, Stored, Task
from rehost.ports import Ledger, Transaction
from rehost.run.rows import Rows
from rehost.store.base import FileIds, Placement, Store


class Safely(Protocol):
    """Who bears bugs of ours (run.py)."""

    async def __call__(self, what: str, tasks: Sequence[Task], work: Awaitable[set[int]]) -> set[int] | list[Deferred]:
        """Return what came of it, or what comes of each task instead."""
        ...


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records groups of outcomes of one source."""

    ledger: Ledger
    store: Store
    rows: Rows
    safely: Safely

    async def record(self, run: int, outcomes: Sequence[Outcome]) -> Recorded:
        """Make a group of outcomes durable and return what became of them.

        Raises:
            OperatorError: the store or the database cannot be used; nothing is recorded as failed for it.
        """
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        failed = sum(isinstance(outcome, Deferred | Refused) for outcome in outcomes)
        outcomes = await self._without_lost(_without_late(outcomes))
        placed = [outcome for outcome in outcomes if isinstance(outcome, Stored) and outcome.spool is not None]
        await self._place(placed)
        # Looked at while their links are ours: what has these names later may be somebody else's.
        former = {outcome.task.entry: await self.store.file_ids(_former_keys(outcome)) for outcome in placed}
        written, spoiled = await self._settle_safely(run, outcomes)
        await self._tidy(placed, written, former)
        bugs = sum(isinstance(outcome, Stored) and outcome.task.entry in spoiled for outcome in outcomes)
        overtaken = len(stored) - len(written) - bugs
        return Recorded(held=len(written), failed=failed + bugs, overtaken=overtaken, bugs=bugs)

    async def _without_lost(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Return the outcomes, adopted files made durable; without those whose file is gone: they are wanted again."""
        adopted = [outcome for outcome in outcomes if isinstance(outcome, Stored) and outcome.spool is None]
        if not adopted:
            return outcomes
        there = await self.store.sync_copies([outcome.copy.key for outcome in adopted])
        lost = {outcome.task.entry: outcome.task for outcome in adopted if outcome.copy.key not in there}
        await self.ledger.release(list(lost.values()))
        return [outcome for outcome in outcomes if outcome.task.entry not in lost]

    async def _place(self, placed: Sequence[Stored]) -> None:
        """Make the spools durable and give them their names."""
        if not placed:
            return
        await self.store.sync([outcome.spool for outcome in placed if outcome.spool])
        replacing = [outcome for outcome in placed if outcome.task.copy and outcome.task.copy.key == outcome.copy.key]
        if replacing:
            await self.ledger.transact(lambda transaction: self.ledger.pend(transaction, replacing))
        await self.store.place([Placement(outcome.spool, outcome.copy.key) for outcome in placed if outcome.spool])

    async def _settle_safely(self, run: int, outcomes: Sequence[Outcome]) -> tuple[set[int], set[int]]:
        """Record the outcomes; return the entries whose rows point at their copies now, and those that a bug cost.

        A bug of ours rolls the group back; each outcome is recorded by itself then, and the one that it lies in fails.
        """
        tasks = [outcome.task for outcome in outcomes]
        settled = await self.safely("record", tasks, self._settle(run, outcomes))
        if not isinstance(settled, list):
            return settled, set()
        if len(outcomes) > 1:
            each = [await self._settle_safely(run, [outcome]) for outcome in outcomes]
            return set().union(*(written for written, _ in each)), set().union(*(spoiled for _, spoiled in each))
        await self._settle(run, settled)
        return set(), {tasks[0].entry}

    async def _settle(self, run: int, outcomes: Sequence[Outcome]) -> set[int]:
        """Record the outcomes and write the rows; return the entries whose rows point at their copies now."""
        stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        seen = await self.rows.look([outcome.task.link for outcome in stored])

        async def work(transaction: Transaction) -> tuple[set[int], FileIds]:
            already = await self.ledger.settled(transaction, stored)
            ours = await self.ledger.confirm(transaction, [outcome.task for outcome in outcomes])
            confirmed = [outcome for outcome in outcomes if outcome.task.entry in ours]
            wanted = [outcome for outcome in stored if outcome.task.entry in ours]
            before = await self.rows.point(_copies(wanted), transaction) if self.rows.joint else seen
            decoys = await self._clear(transaction, run, confirmed)
            await self.ledger.settle(transaction, run, confirmed, before)
            return already | {outcome.task.entry for outcome in wanted if outcome.task.link in before}, decoys

        written, decoys = await self.ledger.transact(work)
        if decoys:
            await self.store.quarantine(decoys)
        if self.rows.joint:
            return written
        links = await self.rows.point(_copies([outcome for outcome in stored if outcome.task.entry in written]))
        changed = [each for each in stored if each.task.entry in written and each.task.link not in links]
        if changed:
            await self.ledger.transact(lambda transaction: self.ledger.retract(transaction, changed))
        return {outcome.task.entry for outcome in stored if outcome.task.link in links}

    async def _clear(self, transaction: Transaction, run: int, outcomes: Sequence[Outcome]) -> FileIds:
        """Clear rows that lead to decoys; return those files, as they are while nobody else can put them to use."""
        failed = [outcome for outcome in outcomes if isinstance(outcome, Deferred | Refused)]
        decoys = [(outcome.task.link, outcome.decoy) for outcome in failed if outcome.decoy is not None]
        if not decoys:
            return {}
        cleared = await self.rows.clear(decoys, transaction)
        await self.ledger.journal(transaction, run, [(link, before, None) for link, before in cleared.items()])
        return await self.store.file_ids({key for _, key in decoys})

    async def _tidy(self, placed: Sequence[Stored], written: set[int], former: Mapping[int, FileIds]) -> None:
        """Let go of what was kept aside, put back what a changed row still needs, remove what no row points at."""
        kept = [outcome for outcome in placed if outcome.task.entry in written]
        await self.store.confirm([outcome.copy.key for outcome in kept])
        await self.store.undo([outcome.copy.key for outcome in placed if outcome.task.entry not in written])
        await self.store.remove({key: seen for each in kept for key, seen in former[each.task.entry].items()})


def _without_late(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Return the outcomes without those of leases that had ended when this worker leased their links again."""
    last = {outcome.task.entry: outcome.task.fence for outcome in sorted(outcomes, key=lambda each: each.task.fence)}
    late = [outcome for outcome in outcomes if outcome.task.fence < last[outcome.task.entry]]
    for outcome in late:
        if isinstance(outcome, Stored) and outcome.spool is not None:
            outcome.spool.unlink(missing_ok=True)
    return [outcome for outcome in outcomes if outcome.task.fence == last[outcome.task.entry]] if late else outcomes


def _copies(stored: Sequence[Stored]) -> list[tuple[Link, Copy]]:
    return [(outcome.task.link, outcome.copy) for outcome in stored]


def _former_keys(outcome: Stored) -> set[str]:
    """Return the keys that are out of use once the outcome is recorded."""
    keys = {outcome.task.copy.key if outcome.task.copy else None, outcome.task.found}
    return {key for key in keys - {outcome.copy.key} if key is not None}
