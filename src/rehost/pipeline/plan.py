"""Catalogue x ledger x store -> what there is to do; what needs no request is mended here and now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rehost.events import Planned
from rehost.model import Format
from rehost.ports import Catalogue, Compared, Found, Ledger, Store, Transaction, WriteBack


class Addresses(Protocol):
    """Keys as rows and public URLs (store/layout.py)."""

    def url(self, key: str) -> str:
        """Return the public URL of a copy."""
        ...

    def parse(self, key: str) -> tuple[str, int, Format] | None:
        """Return the row key, the position and the format that a key stands for, or None for a key of nobody's."""
        ...


@dataclass(frozen=True, slots=True)
class Planner:
    """Finds out what one source needs."""

    catalogue: Catalogue
    ledger: Ledger
    store: Store
    addresses: Addresses

    async def plan(self, *, retry: str | None = None, list_store: bool = True) -> Planned:
        """Return what is due; the ledger knows it then.

        Args:
            retry: make links that failed for this reason due now; "all" for every reason.
            list_store: look which files are there; without it, lost ones go unnoticed until the next time.
        """
        source = self.catalogue.name
        await self._clear_up(source)
        noted = await self.ledger.note(source, self.catalogue.links())
        compared = Compared(lost=0, found=0)
        if list_store:
            compared = await self.ledger.compare(source, self._listing())
        if noted.redo or compared.redo:
            await self.ledger.forget_waits(source)
        elif retry is not None:
            await self.ledger.forget_waits(source, None if retry == "all" else retry)
        mended = await self._mend(source)
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
        """Mend what killed runs have left: names with the wrong bytes, files that nothing points at any more."""
        await self.store.resolve(self.ledger.held)
        if leftovers := await self.ledger.leftovers(source):
            await self.store.remove(leftovers)
            await self.ledger.forget_leftovers(source, leftovers)

    async def _listing(self) -> AsyncIterator[Sequence[Found]]:
        """Yield the store's files that lie where a link's copy belongs."""
        async for keys in self.store.keys():
            parsed = ((key, self.addresses.parse(key)) for key in keys)
            yield [Found(place[0], place[1], key) for key, place in parsed if place is not None]

    async def _mend(self, source: str) -> int:
        """Point the rows of held copies at them again where they point at nothing; return how many rows that were."""
        mended = 0
        async for group in self.ledger.unpointed(source, self.catalogue.links()):
            changes = [WriteBack(link, self.addresses.url(copy.key)) for link, copy in group]

            async def work(transaction: Transaction, changes: Sequence[WriteBack] = changes) -> int:
                return len(await self.catalogue.write_back(transaction, changes))

            mended += await self.catalogue.transact(work)
        return mended
