"""The operator's rows, as they point at copies: written together with their entries.

Where catalogue and ledger are one database, one transaction serves both. Where they are two, each has its own, and what
a kill between them leaves must be harmless: whoever writes rows chooses the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rehost.model import Copy, Format, Link
from rehost.ports import Catalogue, Clearing, Transaction, WriteBack


class Addresses(Protocol):
    """Keys as rows and public URLs (store/layout.py)."""

    def url(self, key: str) -> str:
        """Return the public URL of a copy."""
        ...

    def parse(self, key: str) -> tuple[str, int, Format] | None:
        """Return the row key, the position and the format that a key stands for, or None for a key of nobody's."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one source."""

    catalogue: Catalogue
    addresses: Addresses
    joint: bool  # the ledger is in the same database

    async def look(self, links: Sequence[Link]) -> Mapping[Link, str | None]:
        """Return what rows that hold these links still point at, where `point` tells it too late to be journaled."""
        return {} if self.joint else await self.catalogue.local_urls(links)

    async def point(
        self, copies: Sequence[tuple[Link, Copy]], transaction: Transaction = None
    ) -> Mapping[Link, str | None]:
        """Point rows that hold these links still at their copies; return those links, with the value before.

        In the ledger's `transaction` where that is the rows' too, in one of their own otherwise.
        """
        changes = [WriteBack(link, self.addresses.url(copy.key)) for link, copy in copies]
        if self.joint:
            return await self.catalogue.write_back(transaction, changes)
        return await self.catalogue.transact(lambda own: self.catalogue.write_back(own, changes))

    async def clear(
        self, copies: Sequence[tuple[Link, str]], transaction: Transaction = None
    ) -> Mapping[Link, str | None]:
        """Have rows point at nothing that lead to these keys; return their links, with the value before.

        In the ledger's `transaction` where that is the rows' too, in one of their own otherwise.
        """
        if not copies:
            return {}
        changes = [Clearing(link, self._path(key)) for link, key in copies]
        if self.joint:
            return await self.catalogue.clear(transaction, changes)
        return await self.catalogue.transact(lambda own: self.catalogue.clear(own, changes))

    def _path(self, key: str) -> str:
        return self.addresses.url(key).removeprefix(self.addresses.url(""))
