"""The contract of a store: where copies rest, under which names, and what a crash may leave behind.

A copy enters a store in three steps, in groups: `sync` makes the bytes durable, `place` gives them their names and sets
aside the files that had these names, and, once the database transaction has ended, `confirm` moves what was set aside
to the trash or `undo` brings it back. tests/contracts/store.py is the suite that every store passes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from rehost.model import Copy

FileIds = Mapping[str, object]
"""Key -> what identifies the file that has this key now. Keys without a file are left out. Only the store reads the
values: they say later whether a key still has the same file."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A verified, synced spool and the key that it is to have."""

    spool: Path
    key: str
    digest: str = ""  # SHA-256 in hexadecimal, where it is known


@dataclass(frozen=True, slots=True)
class FileState:
    """What a listing says of a copy's file."""

    size: int  # bytes
    disk_size: int  # bytes that it takes up
    modified: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A file that `place` set aside in a process that ended before it called `confirm` or `undo`."""

    key: str
    digest: str  # SHA-256 in hexadecimal; "" if the file has gone meanwhile
    set_aside: Path  # for the store alone
    current: object | None  # for the store alone: what identifies the file that has the key now


class Cause(StrEnum):
    """Why a file is in the trash."""

    REPLACED = "replaced"  # another file has its key, or its row another key
    REMOVED = "removed"  # no row needed it


@dataclass(frozen=True, slots=True)
class Trashed:
    """A file in the trash."""

    name: str  # for the store alone
    cause: Cause
    digest: str  # SHA-256 in hexadecimal; "" if the file could not be read
    size: int  # bytes
    since: datetime


@dataclass(frozen=True, slots=True)
class Gone:
    """What servers say of a copy that was taken down."""

    key: str
    digest: str  # of the copy
    status: int  # of the response: 410 or 451
    takedown: int  # its number in the ledger


class Guard(Protocol):
    """Says which files may be deleted, where no lock of the store does."""

    async def __call__(self, keys: Collection[str], work: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """Call `work` with those of these keys that no entry names and whose links no worker has leased.

        None of that changes until `work` has ended. It may be called again after an outage of the database.
        """
        ...


class Store(Protocol):
    """Copies at rest, by key.

    A key is a relative path with an extension, made by `layout.Layout`. It is complete or absent at any time, for any
    reader, whatever is killed when (invariant 3). Several processes, on several machines, may use one store at once.
    Every method may raise StoreError, which ends the run; after that, nothing is promised but invariant 3. Methods that
    take a collection accept an empty one, and keys without a file are no error.
    """

    @property
    def where(self) -> str:
        """Return where the copies are, as the operator knows it."""
        ...

    async def identity(self) -> str:
        """Return the id that the store has had since its first use.

        Raises:
            StoreError: it has none any more: it is not there.
        """
        ...

    def spool(self) -> Path:
        """Return a new path for an untrusted body, on the file system from which `place` takes it.

        The file does not exist yet. Spools that are left are removed when the store is closed, or opened after a crash.
        """
        ...

    async def spool_copy(self, key: str) -> Path | None:
        """Return a spool with the bytes of a copy, or None if there is no such copy; the copy stays as it is."""
        ...

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """Give a path at which the copy's bytes can be read until the context ends; nothing is there without a copy.

        Raises:
            StoreError: the text is no key, it could lead out of the store.
        """
        ...

    def longest(self) -> tuple[int, int]:
        """Return how many bytes a name and a whole key can have."""
        ...

    async def states(self, keys: Collection[str]) -> Mapping[str, FileState]:
        """Return what is known of these copies without reading them. What is no key, or has no file, is left out."""
        ...

    def files(self) -> AsyncIterator[Mapping[str, FileState]]:
        """Yield what `keys` yields, with their states."""
        ...

    def keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield all keys, in groups and in no particular order, without a system call for each.

        Spools, files in quarantine and hidden files have no key. Memory does not grow with the number of copies.
        """
        ...

    async def sync(self, spools: Sequence[Path]) -> None:
        """Return once the bytes of these spools are durable. A sync that has failed is never repeated."""
        ...

    async def sync_copies(self, keys: Collection[str]) -> set[str]:
        """Return which of these copies exist, once their bytes and names are durable, whichever process wrote them."""
        ...

    async def place(self, placements: Sequence[Placement]) -> None:
        """Give synced spools their keys, all or none, and return once the names are durable.

        Replaced files are set aside until `confirm` or `undo`.
        """
        ...

    async def place_free(self, placements: Sequence[Placement]) -> set[str]:
        """Give synced spools those of their keys that have no file, and return these once the names are durable."""
        ...

    async def confirm(self, keys: Sequence[str]) -> None:
        """Move what `place` set aside for these keys to the trash: the database points at the new files."""
        ...

    async def undo(self, keys: Sequence[str]) -> None:
        """Bring back what `place` set aside for these keys; remove files that replaced nothing.

        A key whose file another process has replaced or claimed since keeps that file.
        """
        ...

    async def file_ids(self, keys: Collection[str]) -> FileIds:
        """Return what identifies the files that have these keys now."""
        ...

    async def claim(self, key: str) -> bool:
        """Give the file with this key a new identity and return True; return False if there is no such file.

        The process that placed it can then no longer undo it, nor remove it by an older `file_ids`.
        """
        ...

    async def remove(self, file_ids: FileIds) -> None:
        """Remove the copies that are still the same files, and the folders that this empties."""
        ...

    async def trash(self, file_ids: FileIds, cause: Cause) -> None:
        """Move the copies that are still the same files to the trash, where they have no key and are never served."""
        ...

    def trashed(self) -> AsyncIterator[Sequence[Trashed]]:
        """Yield what is in the trash, in groups and in no particular order."""
        ...

    async def spool_from_trash(self, digest: str, key: str | None = None) -> Path | None:
        """Return a spool with these bytes from the trash, where they stay; None if they are not there any more.

        With a key, the files that had it when they went into quarantine are considered too.
        """
        ...

    async def delete_trashed(self, files: Sequence[Trashed]) -> None:
        """Delete these files from the trash, for good."""
        ...

    async def mark_gone(self, marks: Sequence[Gone]) -> None:
        """Have servers say that these copies were taken down, durably. They are served until they are removed."""
        ...

    async def unmark_gone(self, keys: Collection[str], takedown: int) -> None:
        """Take back what `mark_gone` did for these keys and this takedown."""
        ...

    async def read_copies(self, keys: Collection[str], sizes: Collection[int]) -> Sequence[Copy]:
        """Return what the files of these keys are that have one of these sizes, in bytes; the others are not read."""
        ...

    def in_quarantine(self) -> AsyncIterator[Sequence[Copy]]:
        """Yield what is in quarantine, in groups, by the names there; every file is read."""
        ...

    async def delete_quarantined(self, files: Sequence[Copy]) -> None:
        """Delete these files from the quarantine, for good."""
        ...

    async def quarantine(self, file_ids: FileIds) -> None:
        """Move the copies that are still the same files to where they have no key and are never served."""
        ...

    async def quarantined(self) -> tuple[int, int, int]:
        """Return how many files are in quarantine, their bytes, and how many of the disk's bytes they take up."""
        ...

    def unconfirmed(self) -> AsyncIterator[Sequence[Unconfirmed]]:
        """Yield in groups what processes that ended early had set aside; `recover` is due for each.

        Keys that a living process has just placed are left for a later run. Call it before the first `place`.
        """
        ...

    async def recover(self, files: Sequence[Unconfirmed], held: Mapping[str, str | None]) -> None:
        """Bring back the files whose digest the ledger still holds, and move the others to the trash.

        Args:
            files: a group that `unconfirmed` yielded.
            held: key -> digest in the ledger; None while a worker has leased the key's link, which leaves the file for
                a later run. Keys that the ledger does not hold are left out.
        """
        ...

    async def free_bytes(self) -> int | None:
        """Return how many bytes can still be written; None if there is no limit that we could know."""
        ...
