"""What we remember of every link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from rehost.events import RunEnded
from rehost.model import Copy, Link, Outcome, Reason, Stored, Task
from rehost.ports.facts import (
    Compared,
    Entry,
    Found,
    LinkCounts,
    LinkQuery,
    Noted,
    T,
    Transaction,
)


class Ledger(Protocol):
    """What we remember of every link. Every state change of a link is one of these methods."""

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in one transaction of the ledger's database and return its result.

        After a short outage of the database it is run again from its start, so it must bear that: a commit whose
        answer was lost may have happened.

        Raises:
            LedgerError: the database stayed away for longer than is waited.
        """
        ...

    async def note(self, source: str, links: LinkQuery) -> Noted:
        """Take in the catalogue's links, set-wise: new ones are wanted, changed ones are wanted anew and at once."""
        ...

    async def note_row(self, source: str, row_key: str, links: LinkQuery) -> None:
        """Take in the links of one row, as `note` does those of all: what it lacks is no longer present."""
        ...

    async def entry(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return how one link stands; None if the catalogue did not have it when it was noted last."""
        ...

    async def lose(self, source: str, row_key: str, position: int, key: str) -> None:
        """Want the link again whose copy at this key is not there."""
        ...

    async def compare(self, source: str, listing: Callable[[], AsyncIterator[Sequence[Found]]]) -> Compared:
        """Hold the store's listing against the ledger, set-wise and in bounded memory.

        A held copy that is not listed is wanted again. A listed file of a link that has no copy, and has not changed
        since it was noted, is handed out as `Task.found`. After an outage of the database the store is listed anew.
        """
        ...

    def unpointed(self, source: str, links: LinkQuery) -> AsyncIterator[Sequence[tuple[Link, Copy]]]:
        """Yield, in groups, held links whose row points at nothing, or at what we wrote of old; with what it holds.

        A local URL that somebody else wrote is left alone.
        """
        ...

    async def lock_held(
        self, transaction: Transaction, pairs: Sequence[tuple[Link, Copy]]
    ) -> Sequence[tuple[Link, Copy]]:
        """Lock the entries that hold these copies of these links still, to the transaction's end; return those."""
        ...

    async def pointed(self, transaction: Transaction, pairs: Sequence[tuple[Link, Copy]]) -> None:
        """Remember that the rows of these links point at these copies now."""
        ...

    async def journal(
        self, transaction: Transaction, run: int, written: Sequence[tuple[Link, str | None, str | None]]
    ) -> None:
        """Remember, for `undo`, what a run wrote into rows: links, with the local URL before and after."""
        ...

    async def forget_waits(self, source: str, reason: str | None = None) -> int:
        """Make deferred and refused links (of one reason, or all) due now; return how many."""
        ...

    async def held(self, keys: Collection[str]) -> Mapping[str, str | None]:
        """Return the digests that the ledger holds for these keys, without those of which it holds nothing.

        None stands for a key whose link is leased: its digest may be another one in a moment.
        """
        ...

    async def leftovers(self, source: str, links: LinkQuery) -> Sequence[str]:
        """Return keys of files that a commit has put out of use, that no row points at, and that are to be removed."""
        ...

    async def forget_leftovers(self, source: str, keys: Sequence[str]) -> None:
        """Take it that these files are removed."""
        ...

    async def tally(self, source: str) -> LinkCounts:
        """Return where the source stands now."""
        ...

    async def defer_host(self, source: str, host: str, reason: Reason, evidence: str, wait_seconds: float) -> int:
        """Defer all due links of one host, unvisited, set-wise; return how many."""
        ...

    async def begin_run(self, source: str, crew: int | None = None) -> int:
        """Record that a run starts, with who and where, as part of the run `crew` or by itself; return its number."""
        ...

    async def end_run(self, run: int, ended: RunEnded) -> None:
        """Record how a run ended."""
        ...

    async def hosts(self, source: str) -> Sequence[str]:
        """Return the hosts that have links due now."""
        ...

    async def bury(self, is_gone: Callable[[str], bool]) -> int:
        """Free at once what workers held that are known to be gone; return how many links are due again for it."""
        ...

    async def lease(self, source: str, host: str, limit: int) -> Sequence[Task]:
        """Lease up to `limit` due links of one host; those whose lease has ended are due too."""
        ...

    async def lease_one(self, source: str, row_key: str, position: int) -> Task | None:
        """Lease this one link, if it is due and nobody else has it."""
        ...

    async def renew(self, tasks: Sequence[Task]) -> None:
        """Move the end of these leases on, where they are still ours."""
        ...

    async def release(self, tasks: Sequence[Task]) -> None:
        """Give these leases back unvisited, where they are still ours."""
        ...

    async def confirm(self, transaction: Transaction, tasks: Sequence[Task]) -> set[int]:
        """Lock these entries to the transaction's end; return the numbers of those whose lease is still ours."""
        ...

    async def settled(self, transaction: Transaction, stored: Sequence[Stored]) -> set[int]:
        """Return the entries held with the very digests of these outcomes: a commit whose answer was lost."""
        ...

    async def pend(self, transaction: Transaction, stored: Sequence[Stored]) -> None:
        """Remember the digests that are about to take the place of held copies at the same keys."""
        ...

    async def settle(
        self, transaction: Transaction, run: int, outcomes: Sequence[Outcome], written: Mapping[Link, str | None]
    ) -> None:
        """Record confirmed outcomes; a Stored whose link is not in `written` becomes wanted: its row changed meanwhile.

        `written` maps links to the local URL that the row had before, for `undo`.
        """
        ...

    async def retract(self, transaction: Transaction, stored: Sequence[Stored]) -> None:
        """Take back what was settled for rows that turned out to have changed; they are wanted when noted anew."""
        ...

    async def shared(self, source: str, digests: Sequence[str]) -> Mapping[tuple[str, str], Sequence[Link]]:
        """Return two links of each host, for each of these digests that is held under several of its links."""
        ...

    async def unmask(
        self,
        transaction: Transaction,
        run: int,
        source: str,
        host: str,
        digest: str,
        *,
        evidence: str,
        wait_seconds: float,
    ) -> Sequence[tuple[Link, Copy]]:
        """Refuse, as decoys, held links of a host with this digest, a group at a time; return whose copies those were.

        Links that have changed since lose such a copy, and go on waiting. To be called until nothing is returned. Their
        rows are to be cleared in the same transaction, the copies go to quarantine after the commit.
        """
        ...
