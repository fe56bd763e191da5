"""The store on a disk: spools beside the copies, sync in groups, rename, sync the folders.

What a kill leaves behind at each step of recording a group, and what happens to it:

- Before `place`: spools in a work folder whose process has ended. The next `open` removes them. Every key has the file
  that it had.
- During `place`, one file after the other: before the rename, the old file has a second name in `replaced/`, which the
  recovery removes. After the rename, the key has the new file and the old one is in `replaced/`, as
- after `place`, before the commit: the row still points at the key, whose new bytes are whole and synced. The ledger
  holds the old digest, and the old bytes are in `replaced/`: `recover` brings them back. A key that had no file before
  has one that no row points at: the listing finds it, and it is verified and adopted, or fetched again.
- After the commit, before `confirm`: the ledger holds another digest than that of the file in `replaced/`, which
  `recover` moves to the trash.
- After a commit that found the row changed, before `undo`: the ledger still holds the old digest, and `recover` brings
  the old file back.

So `recover` needs one fact: the digest that the ledger holds for a key. Without it, every key still has a whole
picture. Nothing in `replaced/` needs a sync: a file there that a power loss has damaged has no digest that is held.

A worker whose lease has ended may place its file under the same key as its successor. Keys change files under one lock
(publish.py), and `undo` brings back only what its own `place` replaced, if its own file is still there. So the key ends
with the bytes of the worker that commits, or, after a kill, with those that `recover` finds right. A successor that
adopts the file of a late worker claims it first, so that the late worker's `undo` leaves it alone. `remove` and
`quarantine` act only on the file that was identified while no other worker could place one there.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.model import Copy, KnownStore
from rehost.store import gone, publish, trash
from rehost.store.base import Cause, FileIds, FileState, Gone, Placement, Trashed, Unconfirmed
from rehost.store.filesystem import (
    PRIVATE_FOLDER_MODE,
    Durability,
    as_store_errors,
    exclusive_lock,
    link_or_copy,
    list_keys_in_groups,
    make_folders,
)
from rehost.store.layout import LONGEST_KEY, LONGEST_NAME, is_key
from rehost.store.publish import (
    HOME,
    TRASH,
    Spools,
    WorkDir,
    check_identity,
    create_workdir,
    free_bytes,
    read_marker,
    take_over_abandoned,
    write_marker,
)

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
LISTING_GROUP = 1000
QUARANTINE = "quarantine"
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's own are (stat(2))
_FILE_MODE = 0o644  # less the umask: other servers may read the copies


def check_marker(root: Path, known: Sequence[KnownStore]) -> None:
    """Check that a folder is one of the stores that the ledger knows, the one in use first, if it knows any.

    Raises:
        StoreError: the folder is missing, or is no store, or another one.
    """
    with as_store_errors(root), suppress(PermissionError):  # a server's user may not see the marker
        check_identity(read_marker(root), os.fspath(root), known, is_there=root.exists())


@dataclass(frozen=True, slots=True)
class _Opened:
    """What exists between `__aenter__` and `__aexit__`."""

    identity: str
    durability: Durability
    workdir: WorkDir
    abandoned: list[WorkDir]  # of processes that have ended, with files set aside
    names: publish.NameRegistry


class LocalStore:
    """Copies in a folder; `async with` opens it. `store.base.Store` says what the methods promise."""

    def __init__(self, root: Path, *, clock: Clock, min_free_bytes: int = 0, reads_only: bool = False) -> None:
        """Keep copies below `root`, created if needed; refuse spools while the disk has less than `min_free_bytes`.

        With `reads_only` nothing is created or changed; only what reads can be called.
        """
        self._root = root.absolute()
        self._home = self._root / HOME
        self._clock = clock
        self._reads_only = reads_only
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._spools = Spools(self._root, min_free_bytes)
        self._failed_sync: StoreError | None = None  # such a sync cannot be repeated
        self._opened: _Opened | None = None

    async def __aenter__(self) -> Self:
        """Create the folder and a work folder in it; clean up after processes that have ended."""
        try:
            self._opened = None if self._reads_only else await self._run(self._open)
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove the spools; leave what is set aside for `recover`."""
        if self._opened is not None:
            await self._run(self._close)
        self._threads.shutdown(wait=False)
        self._opened = None

    def spool(self) -> Path:
        """Return a new path for an untrusted body.

        Raises:
            StoreError: the disk has less than `min_free_bytes` left. What is in flight can still be recorded.
        """
        return self._spools.new(self._parts.workdir)

    async def spool_copy(self, key: str) -> Path | None:
        """Return a spool with the bytes of a copy, a second name for its file if possible; None if there is none."""
        spool, path = self.spool(), self.path(key)
        # What a symbolic link leads to is not the store's: it gets no name here, nor the mode of a copy.
        duplicate: Callable[[Path, Path], object] = shutil.copyfile if path.is_symlink() else link_or_copy
        try:
            await self._run(duplicate, path, spool)
        except StoreError:
            if path.exists():
                raise
            return None
        return spool

    def path(self, key: str) -> Path:
        """Return where the copy with this key is, whether or not it exists."""
        if not is_key(key):
            raise StoreError(
                "{key!r} is not the name of a copy: something else has written it into the ledger.", key=key
            )
        return self._root / key

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """Give the path of a copy, whether or not it exists."""
        yield self.path(key)

    async def states(self, keys: Collection[str]) -> Mapping[str, FileState]:
        """Return what the file system says of these copies; of a symbolic link, what it leads to."""
        paths = {key: self.path(key) for key in keys if is_key(key)}
        return await self._run(_states, paths) if paths else {}

    async def files(self) -> AsyncIterator[Mapping[str, FileState]]:
        """Yield all keys in groups, with their states."""
        async for keys in self.keys():
            yield await self.states(keys)

    async def keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield all keys in groups of up to a thousand; the next group is read while one is used."""
        groups = list_keys_in_groups(self._root, LISTING_GROUP)
        ahead = asyncio.ensure_future(self._run(next, groups, None))
        try:
            while (group := await ahead) is not None:
                ahead = asyncio.ensure_future(self._run(next, groups, None))
                yield group
        finally:
            ahead.cancel()

    async def sync(self, spools: Sequence[Path]) -> None:
        """Return once the bytes of these spools are durable."""
        if spools:
            await self._run(self._parts.workdir.touch)
            await self._run(self._spools.check_space)
            await self._sync(self._parts.durability.sync_files, spools)

    async def sync_copies(self, keys: Collection[str]) -> set[str]:
        """Return which of these copies exist, once their bytes and names are durable."""
        if not (paths := [self.path(key) for key in keys]):
            return set()
        await self._sync(self._parts.durability.sync_existing, paths)
        existing = set(await self.file_ids(keys))
        await self._sync_folders(self._parts.names.folders_above(self.path(key) for key in existing))
        return existing

    async def place(self, placements: Sequence[Placement]) -> None:
        """Give synced spools their keys and make the names durable.

        If one key cannot be given, no key has changed. If the names cannot be made durable, all keys have changed;
        `recover` corrects that when the store is opened again.
        """
        for placement in placements:
            self.path(placement.key)
        if placements:
            await self._sync_folders(await self._run(self._parts.names.place, placements))

    async def place_free(self, placements: Sequence[Placement]) -> set[str]:
        """Give synced spools those of their keys that have no file; return these."""
        for placement in placements:
            self.path(placement.key)
        placed, folders = await self._run(self._parts.names.place_free, placements)
        await self._sync_folders(folders)
        return placed

    async def confirm(self, keys: Sequence[str]) -> None:
        """Move what `place` set aside for these keys to `.rehost/trash`."""
        if keys:
            await self._sync_folders(await self._run(self._parts.names.confirm, keys))

    async def undo(self, keys: Sequence[str]) -> None:
        """Bring back what `place` set aside for these keys; remove files that replaced nothing."""
        if keys:
            await self._sync_folders(await self._run(self._parts.names.undo, keys))

    async def file_ids(self, keys: Collection[str]) -> FileIds:
        """Return what identifies the files that have these keys now."""
        paths = {key: self.path(key) for key in keys}
        return await self._run(publish.file_ids, paths) if paths else {}

    async def claim(self, key: str) -> bool:
        """Give the file with this key a new identity, so that the process that placed it can no longer undo it."""
        self.path(key)
        return await self._run(self._parts.names.claim, key)

    async def remove(self, file_ids: FileIds) -> None:
        """Remove the copies that are still the same files, and the folders that this empties."""
        if file_ids:
            await self._sync_folders(await self._run(self._parts.names.remove, file_ids))

    async def trash(self, file_ids: FileIds, cause: Cause) -> None:
        """Move the copies that are still the same files to `.rehost/trash`."""
        if file_ids:
            await self._sync_folders(await self._run(self._parts.names.trash, file_ids, cause))

    async def trashed(self) -> AsyncIterator[Sequence[Trashed]]:
        """Yield what is in the trash, in groups."""
        groups = trash.listed(self._home / TRASH)
        while (group := await self._run(next, groups, None)) is not None:
            yield group

    async def spool_from_trash(self, digest: str, key: str | None = None) -> Path | None:
        """Return a spool with these bytes from the trash or the quarantine, a second name for the file if possible."""
        found = await self._run(trash.find, self._home / TRASH, digest, key)
        if found is None:
            return None
        spool = self.spool()
        await self._run(link_or_copy, found, spool)
        return spool

    async def delete_trashed(self, files: Sequence[Trashed]) -> None:
        """Delete these files from the trash."""
        for file in files:
            await self._run(trash.delete, self._home / TRASH / file.name)

    async def mark_gone(self, marks: Sequence[Gone]) -> None:
        """Have servers say that these copies were taken down, durably."""
        if marks:
            await self._sync_folders(await self._run(self._with_lock, gone.write, self._root, marks))

    async def unmark_gone(self, keys: Collection[str], takedown: int) -> None:
        """Take back what `mark_gone` did for these keys and this takedown."""
        if keys:
            await self._sync_folders(await self._run(self._with_lock, gone.erase, self._root, keys, takedown))

    async def read_copies(self, keys: Collection[str], sizes: Collection[int]) -> Sequence[Copy]:
        """Return what the files of these keys are that have one of these sizes."""
        return await self._run(gone.read_files, self._root, keys, sizes) if sizes else []

    async def in_quarantine(self) -> AsyncIterator[Sequence[Copy]]:
        """Yield what is in quarantine, in groups."""
        groups = list_keys_in_groups(self._home / QUARANTINE, LISTING_GROUP)
        while (names := await self._run(next, groups, None)) is not None:
            yield await self._run(gone.read_files, self._home / QUARANTINE, names)

    async def delete_quarantined(self, files: Sequence[Copy]) -> None:
        """Delete these files from the quarantine."""
        for file in files:
            await self._run((self._home / QUARANTINE / file.key).unlink, missing_ok=True)

    def _with_lock(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        with exclusive_lock(self._home / "lock"):
            return work(*arguments, **named)

    async def quarantine(self, file_ids: FileIds) -> None:
        """Move the copies that are still the same files below `.rehost/quarantine`, where the operator can see them."""
        if file_ids:
            await self._sync_folders(await self._run(self._parts.names.move, file_ids, self._home / QUARANTINE))

    async def quarantined(self) -> tuple[int, int, int]:
        """Return how many files are in quarantine, their bytes, and how many of the disk's bytes they take up."""
        return await self._run(publish.total, self._home / QUARANTINE)

    async def unconfirmed(self) -> AsyncIterator[Sequence[Unconfirmed]]:
        """Yield in groups what processes that ended early had set aside."""
        for abandoned in self._parts.abandoned:
            found = publish.find_unconfirmed(self._root, abandoned, self._parts.abandoned)
            while (group := await self._run(next, found, None)) is not None:
                if group:
                    yield group

    async def recover(self, files: Sequence[Unconfirmed], held: Mapping[str, str | None]) -> None:
        """Bring back the files whose digest the ledger still holds, and move the others to the trash."""
        await self._sync_folders(await self._run(self._parts.names.recover, files, held))

    @property
    def where(self) -> str:
        """Return the folder."""
        return os.fspath(self._root)

    async def identity(self) -> str:
        """Return the id in the store's marker.

        Raises:
            StoreError: it is not the one with which the store was opened: it is no longer there.
        """
        found = await self._run(read_marker, self._root)
        if found is None or found != self._parts.identity:
            raise StoreError("{root} is no longer the store that it was: mount it again.", root=self._root)
        return found

    async def free_bytes(self) -> int:
        """Return how many bytes a user without privileges can still write."""
        return await self._run(free_bytes, self._root)

    def longest(self) -> tuple[int, int]:
        """Return how many bytes a name and a whole key can have in this folder, on its file system."""
        name = os.pathconf(self._root, "PC_NAME_MAX")
        path = os.pathconf(self._root, "PC_PATH_MAX") - len(os.fsencode(self._parts.workdir.replaced)) - len("/\0")
        return name if name > 0 else LONGEST_NAME, min(LONGEST_KEY, path)

    @property
    def _parts(self) -> _Opened:
        assert self._opened is not None, "the store is not open"
        return self._opened

    def _open(self) -> _Opened:
        created = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        make_folders(self._root)
        make_folders(self._home, PRIVATE_FOLDER_MODE)
        with exclusive_lock(self._home / "lock"):
            abandoned = take_over_abandoned(self._home, self._clock.now())
            workdir = create_workdir(self._home)
            identity = write_marker(self._home)
        unresolved = [each for each in abandoned if each.has_replaced_files()]
        for each in abandoned:
            each.remove_spools()
            if each not in unresolved:
                each.close()
        self._spools.check_space()
        names = publish.NameRegistry(self._root, self._home / "lock", workdir.replaced, _FILE_MODE & ~_umask())
        durability = Durability(self._root)
        durability.sync_folders([self._home, self._root, *(folder.parent for folder in created)])
        return _Opened(identity, durability, workdir, unresolved, names)

    def _close(self) -> None:
        parts = self._parts
        parts.workdir.remove_spools()
        with exclusive_lock(self._home / "lock"):
            for workdir in (parts.workdir, *parts.abandoned):
                workdir.close()
        parts.durability.close()

    async def _sync_folders(self, folders: Collection[Path]) -> None:
        if folders:
            await self._sync(self._parts.durability.sync_folders, list(folders))

    async def _sync(self, one_by_one: Callable[[Sequence[Path]], None], paths: Sequence[Path]) -> None:
        """Sync a group the cheaper way; never again after one failure (see Durability)."""
        if self._failed_sync is not None:
            raise StoreError(*self._failed_sync.messages) from self._failed_sync
        try:
            if self._parts.durability.prefers_syncfs(len(paths)):
                await self._run(self._parts.durability.sync_all)
            else:
                await asyncio.gather(*(self._run(one_by_one, paths[start::THREADS]) for start in range(THREADS)))
        except StoreError as error:
            self._failed_sync = error
            raise

    async def _run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run blocking work in a thread; an OSError becomes a StoreError."""
        with as_store_errors(self._root):
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments, **named))


def _states(paths: Mapping[str, Path]) -> Mapping[str, FileState]:
    states = {}
    for key, path in paths.items():
        with suppress(OSError):  # one that cannot be read is found by reading it
            state = os.stat(path)  # noqa: PTH116 - of a million files
            if stat.S_ISREG(state.st_mode):
                states[key] = FileState(state.st_size, state.st_blocks * _BLOCK_BYTES, state.st_mtime)
    return states


def _umask() -> int:
    """Return the process's umask, without changing it where the system can tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1], 8) for line in status.splitlines() if line.startswith("Umask:"))
    except (OSError, StopIteration):
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
