"""The store on a disk: spool beside the target, sync in groups, rename, sync the folders.

What a kill leaves behind at each step of recording a group, and what becomes of it:

- before `place`: spools in a workplace without a process. The next `open` removes them; every name has what it had.
- in `place`, a file at a time: before the rename the old file has a second name in `replaced/`, which the next `open`
  removes. After it, the name is the new file's and the old one is in `replaced/`, which is the same as
- after `place`, before the commit: the row points at the name still, which has the new bytes, whole and synced. The
  ledger holds the old digest (and expects the new one), the old bytes are in `replaced/`: `resolve` puts them back.
  A name that nobody had has a file without a row: the listing finds it, it is proven and adopted, or fetched over.
- after the commit, before `keep`: the ledger holds another digest than that of what is in `replaced/`: that goes.
- after a commit that found the row changed, before `undo`: the ledger holds the old digest still: that comes back.

So `resolve` needs one fact, the digest that the ledger holds for a key. Where nobody calls it, whatever has the name is
a whole picture all the same. Nothing in `replaced/` needs a sync of its own: what a loss of power takes from it has no
digest that the ledger holds.

A worker whose lease has ended may place its file at the same name as its successor. Names change under one lock
(names.py), and `undo` puts back only what its own `place` replaced, if its own file is still there: whoever commits,
the name ends with that one's bytes, or, after a kill, with what `resolve` finds right. A successor that adopts the file
of a late worker claims it first: then `undo` does not know it any more. What is removed or quarantined is so only if it
is the file that was seen while nobody else could place one there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.store import listing as walk
from rehost.store import recovery as leftovers
from rehost.store.base import FileIds, Placement, Unconfirmed
from rehost.store.errors import faults
from rehost.store.fsync import Durability
from rehost.store.layout import is_key
from rehost.store.publish import NameRegistry, file_ids_of, make_folders
from rehost.store.workdir import HOME, WorkDir, exclusive, settle_in, take_over

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
LISTING_GROUP = 1000
_FILE_MODE = 0o644  # less the umask: other servers read them


@dataclass(frozen=True, slots=True)
class _Opened:
    """What there is between `__aenter__` and `__aexit__`."""

    durability: Durability
    workplace: WorkDir
    left: list[WorkDir]  # of processes that are no more, with something kept aside
    names: NameRegistry


class LocalStore:
    """Copies in a folder; `async with` opens it. See store.base.Store for what the methods promise."""

    def __init__(self, root: Path, *, clock: Clock, min_free_bytes: int = 0) -> None:
        """Hold copies below `root`, which is made if need be; hand out no spool below `min_free_bytes` of free disk."""
        self._root = root.absolute()
        self._home = self._root / HOME
        self._clock = clock
        self._min_free = min_free_bytes
        self._numbers = count(1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._short: str | None = None  # why there are no spools any more
        self._failed: StoreError | None = None  # a sync that cannot be tried again
        self._opened: _Opened | None = None

    async def __aenter__(self) -> Self:
        """Make the folder and a workplace in it; clear up after processes that are no more."""
        try:
            self._opened = await self._run(self._open)
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave; spools go, what is kept aside stays for `resolve`."""
        await self._run(self._close)
        self._threads.shutdown(wait=False)
        self._opened = None

    def spool(self) -> Path:
        """Return a fresh path for an untrusted body."""
        if self._short is not None:
            raise StoreError(self._short)
        return self._parts.workplace.spools / str(next(self._numbers))

    async def spool_copy(self, key: str) -> Path | None:
        """Return a spool with the bytes of a copy, None if it is not there; the copy stays as it is."""
        spool, path = self.spool(), self.path(key)
        try:
            await self._run(os.link, path, spool)
        except StoreError:
            if path.exists():
                raise
            return None
        return spool

    def path(self, key: str) -> Path:
        """Return where the copy of that key lies.

        Raises:
            StoreError: the key would lead out of the store; no layout makes such a key.
        """
        if not is_key(key):
            raise StoreError(f"{key!r} is no name in a store: something else has written it into the ledger.")
        return self._root / key

    async def keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield all keys, in groups of up to a thousand, in no order; while one is used the next one is read."""
        groups = walk.groups(self._root, LISTING_GROUP)
        ahead = asyncio.ensure_future(self._run(next, groups, None))
        try:
            while (group := await ahead) is not None:
                ahead = asyncio.ensure_future(self._run(next, groups, None))
                yield group
        finally:
            ahead.cancel()

    async def sync(self, spools: Sequence[Path]) -> None:
        """Return when these files' bytes are durable."""
        if spools:
            await self._run(self._look_around)
            await self._sync(self._parts.durability.sync_files, spools)

    async def sync_copies(self, keys: Collection[str]) -> set[str]:
        """Return which of these copies are there; their bytes and names are durable then, whoever wrote them."""
        if not (paths := [self.path(key) for key in keys]):
            return set()
        await self._sync(self._parts.durability.sync_those_there, paths)
        there = set(await self.file_ids(keys))
        await self._sync_folders(self._parts.names.above(self.path(key) for key in there))
        return there

    async def place(self, placements: Sequence[Placement]) -> None:
        """Give synced spools their names and make the names durable.

        Where a name cannot be given, none has changed. Where names cannot be made durable they have, and `resolve`
        mends that when the store is opened again.
        """
        for placement in placements:
            self.path(placement.key)
        if placements:
            await self._sync_folders(await self._run(self._parts.names.place, placements))

    async def confirm(self, keys: Sequence[str]) -> None:
        """Let go of what `place` kept aside for these keys."""
        if keys:
            await self._run(self._parts.names.confirm, keys)

    async def undo(self, keys: Sequence[str]) -> None:
        """Put back what `place` kept aside for these keys; remove what had nothing before it."""
        if keys:
            await self._sync_folders(await self._run(self._parts.names.undo, keys))

    async def file_ids(self, keys: Collection[str]) -> FileIds:
        """Return what the files at these keys are recognised by now."""
        paths = {key: self.path(key) for key in keys}
        return await self._run(file_ids_of, paths) if paths else {}

    async def claim(self, key: str) -> bool:
        """Give the file at that key another mark, so that who placed it does not know it for theirs any more."""
        self.path(key)
        return await self._run(self._parts.names.claim, key)

    async def remove(self, file_ids: FileIds) -> None:
        """Remove copies that are still the same, and folders that are empty then."""
        if file_ids:
            await self._sync_folders(await self._run(self._parts.names.remove, file_ids))

    async def quarantine(self, file_ids: FileIds) -> None:
        """Move copies that are still the same below `.rehost/quarantine`, where the operator can look at them."""
        if file_ids:
            await self._sync_folders(await self._run(self._parts.names.move, file_ids, self._home / "quarantine"))

    async def free_bytes(self) -> int:
        """Return how many bytes an ordinary user may still write."""
        return await self._run(_free_bytes, self._root)

    async def unconfirmed(self) -> AsyncIterator[Sequence[Unconfirmed]]:
        """Yield in groups what processes that ended early had set aside; what needs no question is settled here."""
        for left in self._parts.left:
            busy = leftovers.busy_in(self._home / "work", self._parts.left)
            found = leftovers.find(self._root, left, busy)
            while (group := await self._run(next, found, None)) is not None:
                if group:
                    yield group

    async def recover(self, files: Sequence[Unconfirmed], held: Mapping[str, str | None]) -> None:
        """Bring back the files whose digest the ledger still holds, and discard the others."""
        await self._sync_folders(await self._run(leftovers.settle, self._parts.names, files, held))

    @property
    def _parts(self) -> _Opened:
        assert self._opened is not None, "the store is not open"
        return self._opened

    def _open(self) -> _Opened:
        made = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        make_folders(self._root)
        make_folders(self._home, 0o700)
        with exclusive(self._home / "lock"):
            left = take_over(self._home, self._clock.now())
            workplace = settle_in(self._home)
        for place in left:
            place.drop_spools()
        self._measure()
        kept = [place for place in left if not place.is_clear()]
        for place in left:
            if place not in kept:
                place.close()
        names = NameRegistry(self._root, self._home / "lock", workplace.replaced, _FILE_MODE & ~_umask())
        durability = Durability(self._root)
        durability.sync_folders([self._home, self._root, *(folder.parent for folder in made)])
        return _Opened(durability, workplace, kept, names)

    def _close(self) -> None:
        parts = self._parts
        parts.workplace.drop_spools()
        with exclusive(self._home / "lock"):
            for place in (parts.workplace, *parts.left):
                place.close()
        parts.durability.close()

    def _look_around(self) -> None:
        """Give a sign of life, and look how much the disk has left."""
        self._parts.workplace.live()
        self._measure()

    def _measure(self) -> None:
        """Note whether the disk has too little left for more spools; what is in flight is still recorded."""
        free = _free_bytes(self._root)
        self._short = None
        if free < self._min_free:
            self._short = (
                f"The disk of the store {self._root} has {free:,} bytes left, less than IMAGE_MIN_FREE_BYTES "
                f"({self._min_free:,}): free some space, or lower that setting."
            )

    async def _sync_folders(self, folders: Collection[Path]) -> None:
        if folders:
            await self._sync(self._parts.durability.sync_folders, list(folders))

    async def _sync(self, one_by_one: Callable[[Sequence[Path]], None], paths: Sequence[Path]) -> None:
        """Sync a group the cheaper way; after one failure never again (durable.py)."""
        if self._failed is not None:
            raise StoreError(str(self._failed)) from self._failed
        try:
            if self._parts.durability.is_whole(len(paths)):
                await self._run(self._parts.durability.sync_all)
            else:
                await asyncio.gather(*(self._run(one_by_one, paths[start::THREADS]) for start in range(THREADS)))
        except StoreError as error:
            self._failed = error
            raise

    async def _run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run blocking work in a thread; what the disk says becomes a StoreError."""
        with faults(self._root):
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*arguments, **named))


def _free_bytes(root: Path) -> int:
    state = os.statvfs(root)
    return state.f_bavail * state.f_frsize


def _umask() -> int:
    """Return the process's umask, without changing it where the system can tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1], 8) for line in status.splitlines() if line.startswith("Umask:"))
    except (OSError, StopIteration):
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
