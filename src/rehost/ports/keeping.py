"""What is kept: copies in the store, local URLs in the operator's rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rehost.model import Link
from rehost.ports.facts import (
    Clearing,
    LinkQuery,
    Marks,
    Placement,
    Restore,
    T,
    Transaction,
    WriteBack,
)


class Store(Protocol):
    """Copies at rest. A name is complete or absent. Every method may raise StoreError."""

    def spool(self) -> Path:
        """Return a fresh path for an untrusted body, on the store's own file system."""
        ...

    async def spool_of(self, key: str) -> Path | None:
        """Return a spool with the bytes of a copy, None if it is not there; the copy stays as it is."""
        ...

    def path(self, key: str) -> Path:
        """Return where the copy of that key lies (it need not exist)."""
        ...

    def keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield all keys, in groups, without a stat per file; spools, quarantine and dotfiles are no keys."""
        ...

    async def sync(self, spools: Sequence[Path]) -> None:
        """Return when these files' bytes are durable."""
        ...

    async def sync_copies(self, keys: Collection[str]) -> set[str]:
        """Return which of these copies are there; their bytes and names are durable then, whoever wrote them."""
        ...

    async def place(self, placements: Sequence[Placement]) -> None:
        """Give synced spools their names and make the names durable; what had a name before is kept aside."""
        ...

    async def keep(self, keys: Sequence[str]) -> None:
        """Let go of what `place` kept aside for these keys: the new bytes stay."""
        ...

    async def undo(self, keys: Sequence[str]) -> None:
        """Put back what `place` kept aside for these keys; remove what had nothing before it."""
        ...

    async def marks(self, keys: Collection[str]) -> Marks:
        """Return what the files at these keys are recognised by now."""
        ...

    async def claim(self, key: str) -> bool:
        """Make the file at that key ours: whoever placed it and cannot record it any more does not take it back.

        Returns:
            whether there is such a file.
        """
        ...

    async def remove(self, marks: Marks) -> None:
        """Remove copies (and folders that are empty then) that are still the same; others have taken the place."""
        ...

    async def quarantine(self, marks: Marks) -> None:
        """Move copies that are still the same aside, where they are never served."""
        ...

    async def resolve(self, held: Callable[[Collection[str]], Awaitable[Mapping[str, str | None]]]) -> None:
        """Settle what killed processes had kept aside, by the digests that are held; before anything is placed.

        Where `held` returns None for a key, a worker is just at it: that is left to another time.
        """
        ...

    async def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        ...


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
