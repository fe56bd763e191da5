"""Compares catalogue, ledger and store to find what is due; mends at once what needs no request.

`rehost plan` calls `compare` with parts that change nothing of the operator's (wiring/databases.py), and a run calls
`plan`: both have their figures from the same code.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rehost.catalogue.table import Clearing, TableCatalogue, WriteBack
from rehost.db import Connection
from rehost.errors import StoreError
from rehost.events import Planned, RunEnded
from rehost.ledger import Ledger
from rehost.ledger.leases import LinkCounts
from rehost.ledger.reconcile import FoundFile
from rehost.model import Copy, Link
from rehost.store.base import Cause, Store
from rehost.store.layout import Layout

log = logging.getLogger(__name__)

FEW_LOST = 10
"""Copies that may be missing at once, of however few; of more than that, a tenth of what is held may be missing."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans runs over one source."""

    ledger: Ledger
    store: Store
    catalogue: TableCatalogue
    layout: Layout
    accepts_loss: bool = False  # however many copies are missing at once

    async def plan(self, run: int | None = None, *, retry: str | None = None) -> tuple[Planned, LinkCounts]:
        """Bring the ledger up to date with catalogue and store; return what is due, and where the source stands then.

        Args:
            run: number of the run that mends rows; None to begin one if there are any to mend.
            retry: make links that failed for this reason due now; "all" for every reason.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        await self.recover()
        found = await self.compare(run, retry=retry)
        await self._remove_leftovers(self.catalogue.name)
        return found

    async def compare(self, run: int | None = None, *, retry: str | None = None) -> tuple[Planned, LinkCounts]:
        """Do what `plan` does, but for files: none is changed.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        source = self.catalogue.name
        for cause, number, first in await self.catalogue.rows_left_out():
            log.warning("Rows left out, because %s: %d; the key of the first begins with %r.", cause, number, first)
        synced = await self.ledger.sync.take_in(source, self.catalogue.links())
        compared = await self.ledger.reconcile.compare(
            source, self._listing, _no_check if self.accepts_loss or synced.redo else self.check_loss
        )
        if synced.redo or compared.redo:
            await self.ledger.deferrals.forget_waits(source)
        elif retry is not None:
            await self.ledger.deferrals.forget_waits(source, None if retry == "all" else retry)
        mended, refused = await self._mend(source, run, unpointed=synced.unpointed)
        counts = await self.ledger.due.counts(source)
        planned = Planned(
            source,
            present=counts.present,
            held=counts.held,
            due=counts.due,
            later=counts.later,
            new=synced.new,
            changed=synced.changed,
            vanished=synced.vanished,
            lost=compared.lost,
            found=compared.found,
            mended=mended,
            refused=refused,
        )
        return planned, counts

    async def recover(self) -> None:
        """Bring back or discard the files that killed processes had set aside; to be called before the first `place`.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        async for files in self.store.unconfirmed():
            held = await self.ledger.reconcile.held_digests([file.key for file in files])
            await self.store.recover(files, held)

    async def _remove_leftovers(self, source: str) -> None:
        """Move files to the trash that killed runs have left and that no row points at.

        Another worker may reuse a key meanwhile. So the key has to be a leftover before and after its file's identity
        is read, and only that very file is removed.
        """
        rows, reconcile = self.catalogue.links(), self.ledger.reconcile
        if not (seen := set(await reconcile.leftovers(source, rows))):
            return
        file_ids = await self.store.file_ids(seen)
        leftovers = seen.intersection(await reconcile.leftovers(source, rows))
        await self.store.trash({key: file_ids[key] for key in leftovers if key in file_ids}, Cause.REPLACED)
        await reconcile.forget_leftovers(source, sorted(leftovers))

    async def _listing(self) -> AsyncIterator[Sequence[FoundFile]]:
        """Yield the store's files that are at the place of a link's copy."""
        async for keys in self.store.keys():
            parsed = ((key, self.layout.parse(key)) for key in keys)
            yield [FoundFile(place[0], place[1], key) for key, place in parsed if place is not None]

    def check_loss(self, lost: int, held: int) -> None:
        """Raise StoreError if so many copies are missing at once that the store may not be all there."""
        if lost > FEW_LOST and lost * 10 > held:
            raise StoreError(
                "{lost:,} of the {held:,} copies that the ledger has are missing from {folder}, more than a tenth: "
                "check that all of the store is there, and that `path` is what it was. If they are lost, a run with "
                "`--accept-loss` goes on without them: it clears their rows and fetches them again.",
                lost=lost,
                held=held,
                folder=self.store.where,
            )

    async def clear_lost(self, run: int) -> None:
        """Clear the rows that still point at copies whose files are missing, so that readers get the original link.

        Only what we wrote is cleared. `rehost undo` of this run brings it back once the files are there again.

        Raises:
            OperatorError: a database cannot be used.
        """
        ledger, catalogue, entry = self.ledger, self.catalogue, 0

        async def announce(transaction: Connection) -> None:
            rows = [(each.link, each.link.local_url, catalogue.empty) for each in group]
            await ledger.history.add_changes(transaction, run, rows, lost=True)

        async def work(transaction: Connection) -> None:
            lost = await ledger.reconcile.lock_lost(transaction, group)
            clearings = [Clearing(each.link, self.layout.url_path(each.key), each.link.local_url) for each in lost]
            cleared = await catalogue.clear(clearings, transaction)
            if catalogue.is_joint:
                rows = [(link, before, catalogue.empty) for link, before in cleared.before.items()]
                await ledger.history.add_changes(transaction, run, rows, lost=True)
            done = [each for each in lost if each.link not in cleared.refused]
            await ledger.reconcile.forget_local_urls(transaction, done)
            for link, refusal in cleared.refused.items():
                log.warning("row not cleared, file missing row=%r evidence=%r", link.row_key, refusal.evidence)

        while group := await ledger.reconcile.lost_copies(catalogue.name, entry):
            entry = group[-1].entry
            if not catalogue.is_joint:  # before the rows change, as in `point`
                await ledger.database.transact(announce)
            await ledger.database.transact(work)

    async def _mend(self, source: str, run: int | None, *, unpointed: bool) -> tuple[int, int]:
        """Point the rows of held copies at them again where they do not; return how many changed, and refused to."""
        mended, refused, own = 0, 0, None
        if await self.ledger.reconcile.lost_copies(source):
            if run is None:
                run = own = await self.ledger.runs.begin(source)
            await self.clear_lost(run)
        if unpointed:
            async for group in self.ledger.reconcile.stale_rows(source, self.catalogue.links()):
                if run is None:
                    run = own = await self.ledger.runs.begin(source)
                changed, left = await self.point(run, group)
                mended, refused = mended + changed, refused + left
        if own is not None:
            await self.ledger.runs.end(own, RunEnded(source, held=0, unchanged=0, adopted=0, mended=mended))
        return mended, refused

    async def point(self, run: int, group: Sequence[tuple[Link, Copy]]) -> tuple[int, int]:
        """Point a group of rows at the copies that are still held; return how many changed, and refused to.

        The entries stay locked until the rows are written, in either database: no copy is removed meanwhile.
        """
        url, history, reconcile = self.layout.url, self.ledger.history, self.ledger.reconcile
        is_joint = self.catalogue.is_joint
        if not is_joint:  # before the rows change, so that a kill in between leaves nothing that undo cannot take back
            rows = [(link, link.local_url, url(copy.key, copy.digest)) for link, copy in group]
            await self.ledger.database.transact(lambda transaction: history.add_changes(transaction, run, rows))

        async def work(transaction: Connection) -> tuple[int, int]:
            held = dict(await reconcile.lock_held(transaction, group))
            urls = {link: url(copy.key, copy.digest) for link, copy in held.items()}
            result = await self.catalogue.write_back([WriteBack(*pair) for pair in urls.items()], transaction)
            written = [(link, value, urls[link]) for link, value in result.before.items()]
            if is_joint:
                await history.add_changes(transaction, run, written)
            if written:
                await reconcile.mark_pointed(transaction, [(link, held[link]) for link in result.before])
            if result.refused:
                refused = [(link, held[link], refusal) for link, refusal in result.refused.items()]
                await reconcile.mark_refused(transaction, refused)
            return sum(value != now for _, value, now in written), len(result.refused)

        return await self.ledger.database.transact(work)


def _no_check(_lost: int, _held: int) -> None:
    """Accept any loss."""
