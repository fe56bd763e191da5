"""The operator's rows, whose local URL is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from rehost.model import Link
from rehost.ports.facts import (
    Clearing,
    LinkQuery,
    Restore,
    T,
    Transaction,
    WriteBack,
)


class Catalogue(Protocol):
    """One source: the operator's table, of which we read links and write one column."""

    name: str

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """As Ledger.transact, in the operator's database."""
        ...

    def links(self) -> LinkQuery:
        """Return the operator's links as a selectable."""
        ...

    def row(self, row_key: str) -> LinkQuery:
        """Return the links of the one row with this key: none where no key can be spelled so."""
        ...

    async def local_urls(self, links: Sequence[Link]) -> dict[Link, str | None]:
        """Return those of these links that their rows hold still, with the local URL there."""
        ...

    async def write_back(self, transaction: Transaction, changes: Sequence[WriteBack]) -> dict[Link, str | None]:
        """Set the local URL of every row that still holds its link's URL; return those links, with the value before.

        The one comparison is on the link's URL (invariant 2); rows that hold the value already count as written.
        """
        ...

    async def clear(self, transaction: Transaction, changes: Sequence[Clearing]) -> dict[Link, str | None]:
        """Have rows point at nothing that lead to these copies; return their links, with the value before."""
        ...

    async def restore(self, transaction: Transaction, changes: Sequence[Restore]) -> int:
        """Put the local URL back where nobody has changed the row since; return how many rows that were."""
        ...
