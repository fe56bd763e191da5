"""The ledger as the pipeline knows it (ports.Ledger): every state change of a link is behind one of these methods.

`noting.py` and `comparing.py` hold the ledger against the catalogue and the store, `singling.py` does so for one link;
`leasing.py` hands links out, `settling.py` takes outcomes in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar, cast

from rehost.db import Connection, Database, LinkRows
from rehost.events import RunEnded
from rehost.ledger import burying, journal, pointing, retiring, unmasking
from rehost.ledger import due as waiting
from rehost.ledger import leases as leasing
from rehost.ledger import reconcile as comparing
from rehost.ledger import results as settling
from rehost.ledger import single as singling
from rehost.ledger import sync as noting
from rehost.ledger.runs import Runs, Worker
from rehost.model import Copy, Link, Outcome, Reason, Stored, Task
from rehost.ports import Compared, Entry, Found, LinkCounts, LinkQuery, Noted

T = TypeVar("T")


class SqlLedger:
    """The ledger in one database, as one worker sees it; the tables are there (`migrate`)."""

    def __init__(self, database: Database, *, worker: Worker, lease_seconds: float, url: Callable[[str], str]) -> None:
        """Take what a lease lasts, and how a copy's key becomes its public URL (`url("")` is what all begin with)."""
        self._database = database
        self._runs = Runs(database, worker)
        self._leases = leasing.LeaseManager(database, worker.name, lease_seconds)
        self._settling = settling.ResultWriter(database, url)
        self._url = url

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction of the ledger's database, again from its start after a short outage.

        Raises:
            LedgerError: the database stayed away for longer than is waited, or refuses.
        """
        return await self._database.transact(work)

    # --- the catalogue, the store and the ledger against each other

    async def note(self, source: str, links: LinkQuery) -> Noted:
        """Take in the catalogue's links, set-wise: new ones are wanted, changed ones are wanted anew and at once."""
        rows = cast("LinkRows", links)
        return await self._database.transact(
            lambda connection: noting.note(connection, self._database, source, rows), much=True
        )

    async def note_row(self, source: str, row_key: str, links: LinkQuery) -> None:
        """Take in the links of one row, as `note` does those of all: what it lacks is no longer present."""
        await singling.note_row(self._database, source, row_key, cast("LinkRows", links))

    async def entry(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return how one link stands; None if the catalogue did not have it when it was noted last."""
        return await self._database.read(lambda connection: singling.entry(connection, source, row_key, position))

    async def lose(self, source: str, row_key: str, position: int, key: str) -> None:
        """Want the link again whose copy at this key is not there."""
        await self.transact(lambda connection: singling.lose(connection, source, row_key, position, key))

    async def compare(self, source: str, listing: Callable[[], AsyncIterator[Sequence[Found]]]) -> Compared:
        """Hold the store's listing against the ledger, set-wise and in bounded memory."""
        return await comparing.compare(self._database, source, listing)

    def unpointed(self, source: str, links: LinkQuery) -> AsyncIterator[Sequence[tuple[Link, Copy]]]:
        """Yield, in groups, held links whose row points at nothing, or at what we wrote of old."""
        return pointing.unpointed(self._database, source, cast("LinkRows", links), self._url)

    async def lock_held(
        self, transaction: Connection, pairs: Sequence[tuple[Link, Copy]]
    ) -> Sequence[tuple[Link, Copy]]:
        """Lock the entries that hold these copies of these links still, to the transaction's end; return those."""
        return await pointing.lock_held(transaction, self._database, pairs)

    async def pointed(self, transaction: Connection, pairs: Sequence[tuple[Link, Copy]]) -> None:
        """Remember that the rows of these links point at these copies now."""
        await pointing.remember(transaction, self._database, pairs, self._url)

    async def journal(
        self, transaction: Connection, run: int, written: Sequence[tuple[Link, str | None, str | None]]
    ) -> None:
        """Remember, for `undo`, what a run wrote into rows: links, with the local URL before and after."""
        await journal.write(transaction, self._database, run, written)

    # --- files

    async def held(self, keys: Collection[str]) -> Mapping[str, str | None]:
        """Return the digests that the ledger holds for these keys, None where a worker is just at the link."""
        return await self._database.read(lambda connection: retiring.held(connection, self._database, keys))

    async def leftovers(self, source: str, links: LinkQuery) -> Sequence[str]:
        """Return keys of files that a commit has put out of use and that no row points at."""
        rows = cast("LinkRows", links)
        return await self._database.read(
            lambda connection: retiring.leftovers(connection, self._database, source, rows, self._url), much=True
        )

    async def forget_leftovers(self, source: str, keys: Sequence[str]) -> None:
        """Take it that these files are removed."""
        await self.transact(lambda connection: retiring.forget_leftovers(connection, self._database, source, keys))

    # --- what is due

    async def forget_waits(self, source: str, reason: str | None = None) -> int:
        """Make deferred and refused links (of one reason, or all) due now; return how many."""
        return await self._database.transact(
            lambda connection: waiting.forget_waits(connection, source, reason), much=True
        )

    async def forget_wait(self, source: str, row_key: str, position: int = 0) -> int:
        """Make one deferred or refused link due now; return how many that were: one or none."""
        return await self.transact(lambda connection: waiting.forget_wait(connection, source, row_key, position))

    async def tally(self, source: str) -> LinkCounts:
        """Return where the source stands now."""
        return await self._database.read(lambda connection: waiting.tally(connection, source), much=True)

    async def defer_host(self, source: str, host: str, reason: Reason, evidence: str, wait_seconds: float) -> int:
        """Defer all due links of one host, unvisited, set-wise; return how many."""
        return await self._database.transact(
            lambda connection: waiting.defer_host(connection, source, host, reason, evidence, wait_seconds), much=True
        )

    async def hosts(self, source: str) -> Sequence[str]:
        """Return the hosts that have links due now."""
        return await self._database.read(lambda connection: waiting.hosts(connection, source))

    # --- leases

    async def bury(self, is_gone: Callable[[str], bool]) -> int:
        """Free at once what workers held that are known to be gone; return how many links are due again for it."""
        return await self._database.transact(
            lambda connection: burying.bury(connection, self._database, is_gone), much=True
        )

    async def lease(self, source: str, host: str, limit: int) -> Sequence[Task]:
        """Lease up to `limit` due links of one host; those whose lease has ended are due too."""
        return await self._leases.lease(source, host, limit)

    async def lease_one(self, source: str, row_key: str, position: int) -> Task | None:
        """Lease this one link, if it is due and nobody else has it."""
        return await self._leases.lease_one(source, row_key, position)

    async def renew(self, tasks: Sequence[Task]) -> None:
        """Move the end of these leases on, where they are still ours."""
        await self._leases.renew(tasks)

    async def release(self, tasks: Sequence[Task]) -> None:
        """Give these leases back unvisited, where they are still ours."""
        await self._leases.release(tasks)

    async def confirm(self, transaction: Connection, tasks: Sequence[Task]) -> set[int]:
        """Lock these entries to the transaction's end; return the numbers of those whose lease is still ours."""
        return await self._leases.confirm(transaction, tasks)

    # --- outcomes

    async def settled(self, transaction: Connection, stored: Sequence[Stored]) -> set[int]:
        """Return the entries held with the very digests of these outcomes: a commit whose answer was lost."""
        return await self._settling.settled(transaction, stored)

    async def pend(self, transaction: Connection, stored: Sequence[Stored]) -> None:
        """Remember the digests that are about to take the place of held copies at the same keys."""
        await self._settling.pend(transaction, stored)

    async def settle(
        self, transaction: Connection, run: int, outcomes: Sequence[Outcome], written: Mapping[Link, str | None]
    ) -> None:
        """Record confirmed outcomes; a Stored whose link is not in `written` is wanted again when noted anew."""
        await self._settling.settle(transaction, run, outcomes, written)

    async def retract(self, transaction: Connection, stored: Sequence[Stored]) -> None:
        """Take back what was settled for rows that turned out to have changed; they are wanted when noted anew."""
        await self._settling.retract(transaction, stored)

    async def shared(self, source: str, digests: Sequence[str]) -> Mapping[tuple[str, str], Sequence[Link]]:
        """Return two links of each host, for each of these digests that is held under several of its links."""
        return await self._database.read(
            lambda connection: unmasking.shared(connection, self._database, source, digests)
        )

    async def unmask(
        self,
        transaction: Connection,
        run: int,
        source: str,
        host: str,
        digest: str,
        *,
        evidence: str,
        wait_seconds: float,
    ) -> Sequence[tuple[Link, Copy]]:
        """Refuse, as decoys, held links of a host with this digest, a group at a time; return whose copies those were.

        To be called until nothing is returned. The rows of what is returned are to be cleared in the same transaction,
        its copies go to quarantine after the commit.
        """
        return await unmasking.unmask(
            transaction, self._database, run, source, host, digest, evidence=evidence, wait_seconds=wait_seconds
        )

    # --- runs

    async def begin_run(self, source: str, crew: int | None = None) -> int:
        """Record that a run starts, with who and where; return its number."""
        return await self._runs.begin(source, crew)

    async def end_run(self, run: int, ended: RunEnded) -> None:
        """Record how a run ended."""
        await self._runs.end(run, ended)
