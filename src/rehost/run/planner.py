"""Catalogue x ledger x store -> what there is to do; what needs no request is mended here and now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rehost.events import Planned, RunEnded
from rehost.model import Copy, Link
from rehost.ports import Catalogue, Found, Ledger, Transaction
from rehost.run.rows import Rows
from rehost.store.base import Store


@dataclass(frozen=True, slots=True)
class Planner:
    """Finds out what one source needs."""

    ledger: Ledger
    store: Store
    rows: Rows

    @property
    def catalogue(self) -> Catalogue:
        """The source whose rows they are."""
        return self.rows.catalogue

    async def plan(self, run: int | None = None, *, retry: str | None = None) -> Planned:
        """Return what is due; the ledger knows it then.

        Args:
            run: number of the run that rows are mended for; None for one of its own, should there be any.
            retry: make links that failed for this reason due now; "all" for every reason.
        """
        source = self.catalogue.name
        async for files in self.store.unconfirmed():
            await self.store.recover(files, await self.ledger.held([file.key for file in files]))
        noted = await self.ledger.note(source, self.catalogue.links())
        compared = await self.ledger.compare(source, self._listing)
        if noted.redo or compared.redo:
            await self.ledger.forget_waits(source)
        elif retry is not None:
            await self.ledger.forget_waits(source, None if retry == "all" else retry)
        mended = await self._mend(source, run)
        await self._clear_up(source)
        tally = await self.ledger.tally(source)
        return Planned(
            source,
            present=noted.present,
            held=tally.held,
            due=tally.due,
            later=tally.later,
            new=noted.new,
            changed=noted.changed,
            vanished=noted.vanished,
            lost=compared.lost,
            found=compared.found,
            mended=mended,
        )

    async def _clear_up(self, source: str) -> None:
        """Remove files that killed runs have left and that nothing points at any more.

        What is a leftover still after it was looked at, and is the same file then, nobody has put to use meanwhile.
        """
        links = self.catalogue.links()
        if not (seen := set(await self.ledger.leftovers(source, links))):
            return
        file_ids = await self.store.file_ids(seen)
        leftovers = seen.intersection(await self.ledger.leftovers(source, links))
        await self.store.remove({key: file_ids[key] for key in leftovers if key in file_ids})
        await self.ledger.forget_leftovers(source, sorted(leftovers))

    async def _listing(self) -> AsyncIterator[Sequence[Found]]:
        """Yield the store's files that lie where a link's copy belongs."""
        async for keys in self.store.keys():
            parsed = ((key, self.rows.addresses.parse(key)) for key in keys)
            yield [Found(place[0], place[1], key) for key, place in parsed if place is not None]

    async def _mend(self, source: str, run: int | None) -> int:
        """Point the rows of held copies at them again where they do not; return how many rows that were."""
        mended, own = 0, None
        async for group in self.ledger.unpointed(source, self.catalogue.links()):
            if run is None:
                run = own = await self.ledger.begin_run(source)
            mended += await self._point(run, group)
        if own is not None:
            await self.ledger.end_run(own, RunEnded(source, held=0, unchanged=0, adopted=0, mended=mended))
        return mended

    async def _point(self, run: int, group: Sequence[tuple[Link, Copy]]) -> int:
        """Point a group of rows at the copies that are held still; return how many changed for it.

        Entries stay locked until the rows are written, in whichever database: no copy goes meanwhile.
        """
        url = self.rows.addresses.url
        if not self.rows.joint:  # what falls between two steps must be known to `undo`, or be nothing
            rows = [(link, link.local_url, url(copy.key)) for link, copy in group]
            await self.ledger.transact(lambda transaction: self.ledger.journal(transaction, run, rows))

        async def work(transaction: Transaction) -> int:
            held = dict(await self.ledger.lock_held(transaction, group))
            if not held:
                return 0
            before = await self.rows.point(list(held.items()), transaction)
            written = [(link, value, url(held[link].key)) for link, value in before.items()]
            if self.rows.joint:
                await self.ledger.journal(transaction, run, written)
            if before:
                await self.ledger.pointed(transaction, [(link, held[link]) for link in before])
            return sum(value != now for _, value, now in written)

        return await self.ledger.transact(work)
