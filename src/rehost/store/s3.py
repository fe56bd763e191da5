"""The store in a bucket: the name of an object carries its digest, so that a key never changes its bytes.

That replaces what a disk does with locks and renames (store/local.py):

- A name is complete or absent: one PUT, which the server makes durable before it answers.
- A late worker can only write the same bytes again; the fence in the ledger refuses its row.
- Nothing is replaced, so nothing is set aside: `undo` deletes what was placed, `confirm` and `recover` do nothing.
- An object is deleted only while the ledger says that its link has another copy or none, and that no worker has leased
  it: `Guard` keeps it so until the object is gone. So no row points at nothing. What is in use stays a stray, which
  `rehost prune` finds later. The guard is let go while the server is away, so that nothing in the database waits.
- An object in the trash has a name of its own each time: emptying the trash deletes nothing that came meanwhile.

No guarantee rests on conditional requests, which some servers ignore silently. Below the prefix, `.rehost/` has what a
disk has there, except for work folders: marker, trash, quarantine, takedowns. The bucket's policy must not serve it.
Bodies wait in spools on a local disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.model import Bucket, Copy, Format
from rehost.store import gone
from rehost.store.base import Cause, FileIds, FileState, Gone, Guard, Placement, Trashed, Unconfirmed
from rehost.store.bucket import LISTED, BucketAwayError, BucketClient, Object
from rehost.store.filesystem import PRIVATE_FOLDER_MODE, as_store_errors, exclusive_lock, make_folders
from rehost.store.layout import is_key
from rehost.store.publish import HOME, MARKER, TRASH, Spools, WorkDir, create_workdir, take_over_abandoned

QUARANTINE = f"{HOME}/quarantine"
GONE = f"{HOME}/gone"
LONGEST_KEY = 1024  # bytes of a name, prefix included (S3's own limit)
IMMUTABLE = "public, max-age=31536000, immutable"  # RFC 8246
_OCTETS = "application/octet-stream"
_LOCKED_SECONDS = 10.0  # that a guard is held while the server does not answer; _TRIES times, with waits in between
_TRIES = 5


class S3Store:
    """Copies in a bucket; `async with` opens it. `store.base.Store` says what the methods promise."""

    def __init__(
        self,
        client: BucketClient,
        where: Bucket,
        spools: Path,
        *,
        clock: Clock,
        guard: Guard,
        min_free_bytes: int = 0,
        reads_only: bool = False,
    ) -> None:
        """Keep copies in a bucket.

        Args:
            client: reads and writes the bucket.
            where: the bucket.
            spools: a folder on a local disk for bodies, created if needed.
            clock: for the age of work folders.
            guard: says which objects may be deleted.
            min_free_bytes: spools are refused while the local disk has less.
            reads_only: nothing is created or changed; only what reads can be called.
        """
        self._client = client
        self._where = where
        self._folder = spools.absolute()
        self._clock = clock
        self._guard = guard
        self._reads_only = reads_only
        self._spools = Spools(self._folder, min_free_bytes)
        self._placed: set[str] = set()  # without confirmation
        self._identity = ""
        self._workdir: WorkDir | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        """Find or create the bucket's marker; make a work folder, and clean up after processes that have ended."""
        if self._reads_only:
            self._temporary = tempfile.TemporaryDirectory(prefix="rehost-")
            return self
        self._identity = await read_marker(self._client) or await self._write_marker()
        with as_store_errors(self._folder):
            self._workdir = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove the spools."""
        if self._temporary is not None:
            self._temporary.cleanup()
        if self._workdir is not None:
            self._workdir.remove_spools()
            with exclusive_lock(self._folder / "lock"):
                self._workdir.close()
        self._workdir = self._temporary = None

    @property
    def where(self) -> str:
        """Return the bucket as it is written in IMAGE_STORAGE_DIR."""
        return str(self._where)

    async def identity(self) -> str:
        """Return the id in the bucket's marker.

        Raises:
            StoreError: it is not the one with which the bucket was opened.
        """
        found = await read_marker(self._client)
        if found is None or found != self._identity:
            raise StoreError("{bucket} is no longer the store that it was: look what became of it.", bucket=self._where)
        return found

    # --- reading

    def spool(self) -> Path:
        """Return a new path for an untrusted body on the local disk.

        Raises:
            StoreError: the disk has less than `min_free_bytes` left.
        """
        if self._temporary is not None:
            return Path(self._temporary.name, secrets.token_hex(8))
        assert self._workdir is not None, "the store is not open"
        return self._spools.new(self._workdir)

    async def spool_copy(self, key: str) -> Path | None:
        """Return a spool with the bytes of a copy, or None if there is no such copy."""
        return await self._download(_checked(key))

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """Give a spool with the copy's bytes, which is removed at the end; nothing is there without a copy."""
        spool = await self._download(_checked(key))
        try:
            yield spool or self.spool()
        finally:
            if spool is not None:
                spool.unlink(missing_ok=True)

    async def keys(self) -> AsyncIterator[Sequence[str]]:
        """Yield all keys, in groups."""
        async for states in self.files():
            yield list(states)

    async def files(self) -> AsyncIterator[Mapping[str, FileState]]:
        """Yield all keys in groups, with their states; one request for each thousand."""
        async for group in self._client.list():
            yield {each.name: _state(each) for each in group if is_key(each.name)}

    async def states(self, keys: Collection[str]) -> Mapping[str, FileState]:
        """Return what the server says of these copies; one request for each."""
        found = await self._heads(key for key in keys if is_key(key))
        return {key: _state(each) for key, each in found.items()}

    async def file_ids(self, keys: Collection[str]) -> FileIds:
        """Return the entity tags of these copies."""
        return {key: each.etag for key, each in (await self._heads(map(_checked, keys))).items()}

    async def read_copies(self, keys: Collection[str], sizes: Collection[int]) -> Sequence[Copy]:
        """Return what these copies are that have one of these sizes; the others are not read."""
        found = await self._heads(keys) if sizes else {}
        return [await self._copy_of(each, key) for key, each in found.items() if each.size in sizes]

    def longest(self) -> tuple[int, int]:
        """Return how many bytes a name and a whole key can have."""
        most = LONGEST_KEY - len(f"{self._where.prefix}/{QUARANTINE}/")
        return most, most

    async def free_bytes(self) -> None:
        """Return None: a bucket has no limit that we could know."""

    # --- writing

    async def sync(self, spools: Sequence[Path]) -> None:
        """Look after the local disk: bytes become durable in `place`."""
        if spools and self._workdir is not None:
            with as_store_errors(self._folder):
                await asyncio.to_thread(self._workdir.touch)
                await asyncio.to_thread(self._spools.check_space)

    async def sync_copies(self, keys: Collection[str]) -> set[str]:
        """Return which of these copies exist: what exists is durable."""
        return set(await self.file_ids(keys))

    async def place(self, placements: Sequence[Placement]) -> None:
        """Store spools under their keys, and remove them.

        If one cannot be stored, the others may be there: no row points at them, and the next listing finds them.
        """
        for placement in placements:
            _checked(placement.key)
        self._placed.update(placement.key for placement in placements)
        for done in await asyncio.gather(*map(self._put, placements), return_exceptions=True):
            if isinstance(done, BaseException):
                raise done

    async def place_free(self, placements: Sequence[Placement]) -> set[str]:
        """Store spools under those of their keys that have no object."""
        there = await self.file_ids([placement.key for placement in placements])
        free = [placement for placement in placements if placement.key not in there]
        await self.place(free)
        await self.confirm([placement.key for placement in free])
        return {placement.key for placement in free}

    async def confirm(self, keys: Sequence[str]) -> None:
        """Forget that `undo` could delete these."""
        self._placed.difference_update(keys)

    async def undo(self, keys: Sequence[str]) -> None:
        """Delete those of these objects that this process has placed and that no row needs."""
        ours = self._placed.intersection(keys)
        self._placed -= ours
        await self._guarded(ours, self._delete_quickly)

    async def claim(self, key: str) -> bool:
        """Return whether there is such a copy; an object that a worker has leased is not deleted by others."""
        return await self._client.head(_checked(key)) is not None

    async def remove(self, file_ids: FileIds) -> None:
        """Delete the copies that are still the same objects."""
        await self._guarded(await self._same(file_ids), self._delete_quickly)

    async def trash(self, file_ids: FileIds, cause: Cause) -> None:
        """Move the copies that are still the same objects below `.rehost/trash`."""
        copies = [await self._copy_of(each, key) for key, each in (await self._same(file_ids)).items()]
        await self._move({copy.key: _new_in_trash(copy.digest, cause) for copy in copies})

    async def quarantine(self, file_ids: FileIds) -> None:
        """Move the copies that are still the same objects below `.rehost/quarantine`."""
        await self._move({key: f"{QUARANTINE}/{key}" for key in await self._same(file_ids)})

    async def unconfirmed(self) -> AsyncIterator[Sequence[Unconfirmed]]:
        """Yield nothing: nothing is set aside."""
        for _ in range(0):
            yield []

    async def recover(self, files: Sequence[Unconfirmed], held: Mapping[str, str | None]) -> None:
        """Do nothing: nothing is set aside."""

    # --- trash, quarantine, takedowns

    async def trashed(self) -> AsyncIterator[Sequence[Trashed]]:
        """Yield what is in the trash, in groups."""
        for cause in Cause:
            async for group in self._client.list(f"{HOME}/{TRASH}/{cause}"):
                yield [_trashed(each, cause) for each in group]

    async def spool_from_trash(self, digest: str, key: str | None = None) -> Path | None:
        """Return a spool with these bytes from the trash or the quarantine; None if they are not there."""
        names = [f"{QUARANTINE}/{key}"] if key is not None else []
        for cause in reversed(Cause):
            async for group in self._client.list(_folder_in_trash(digest, cause)):
                names += [each.name for each in group]
        for name in reversed(names):
            if (spool := await self._download(name)) is not None:
                if await asyncio.to_thread(_digest, spool) == digest:
                    return spool
                spool.unlink(missing_ok=True)
        return None

    async def delete_trashed(self, files: Sequence[Trashed]) -> None:
        """Delete these objects from the trash."""
        await self._delete([f"{HOME}/{TRASH}/{file.name}" for file in files])

    async def in_quarantine(self) -> AsyncIterator[Sequence[Copy]]:
        """Yield what is in quarantine, in groups."""
        async for group in self._client.list(QUARANTINE):
            heads = await self._heads(each.name for each in group)
            yield [await self._copy_of(each, name.removeprefix(f"{QUARANTINE}/")) for name, each in heads.items()]

    async def quarantined(self) -> tuple[int, int, int]:
        """Return how many objects are in quarantine, their bytes, and the same again: a bucket counts nothing else."""
        files = size = 0
        async for group in self._client.list(QUARANTINE):
            files, size = files + len(group), size + sum(each.size for each in group)
        return files, size, size

    async def delete_quarantined(self, files: Sequence[Copy]) -> None:
        """Delete these objects from the quarantine."""
        await self._delete([f"{QUARANTINE}/{file.key}" for file in files])

    async def mark_gone(self, marks: Sequence[Gone]) -> None:
        """Have servers say that these copies were taken down: one object for each key, takedown and digest."""
        lines = {_gone_name(each): f"{each.status} {each.takedown} {each.digest} {each.key}".encode() for each in marks}
        puts = (self._client.put(name, line) for name, line in lines.items())
        await asyncio.gather(*puts)

    async def unmark_gone(self, keys: Collection[str], takedown: int) -> None:
        """Take back what `mark_gone` did for these keys and this takedown."""
        for key in keys:
            async for group in self._client.list(f"{_gone_folder(key)}/{takedown}"):
                await self._delete([each.name for each in group])

    # --- parts

    async def _put(self, placement: Placement) -> None:
        extension = placement.key.rpartition(".")[2]
        [media_type] = [each.media_type for each in Format if each.value == extension] or [_OCTETS]
        with as_store_errors(self._folder):
            digest = placement.digest or await asyncio.to_thread(_digest, placement.spool)
            await self._client.put(
                placement.key, placement.spool, sha256=digest, media_type=media_type, caching=IMMUTABLE
            )
            placement.spool.unlink(missing_ok=True)

    async def _download(self, name: str) -> Path | None:
        spool = self.spool()
        with as_store_errors(self._folder):
            return spool if await self._client.read(name, spool) else None

    async def _heads(self, names: Iterable[str]) -> dict[str, Object]:
        wanted = sorted(set(names))
        found = await asyncio.gather(*map(self._client.head, wanted))
        return {name: each for name, each in zip(wanted, found, strict=True) if each is not None}

    async def _same(self, file_ids: FileIds) -> dict[str, Object]:
        now = await self._heads(map(_checked, file_ids))
        return {key: each for key, each in now.items() if each.etag == file_ids[key]}

    async def _move(self, names: Mapping[str, str]) -> None:
        """Give those of these objects that are not in use other names: key -> new name."""

        async def move(keys: Collection[str]) -> None:
            moves = (self._client.copy(key, names[key], patience=_LOCKED_SECONDS) for key in keys)
            await asyncio.gather(*moves)
            await self._delete_quickly(keys)

        await self._guarded(names, move)

    async def _guarded(self, keys: Collection[str], work: Callable[[Collection[str]], Awaitable[None]]) -> None:
        """Call `work` with those of these keys that are not in use; it waits for no server, which is done here."""
        for is_last in [False] * _TRIES + [True]:
            try:
                if keys:
                    await self._guard(keys, work)
            except BucketAwayError:
                if is_last:
                    raise
                await self.identity()
            else:
                return

    async def _delete_quickly(self, names: Collection[str]) -> None:
        await self._delete(names, patience=_LOCKED_SECONDS)

    async def _delete(self, names: Collection[str], patience: float | None = None) -> None:
        listed = list(names)
        for start in range(0, len(listed), LISTED):
            await self._client.delete(listed[start : start + LISTED], patience=patience)

    async def _copy_of(self, found: Object, key: str) -> Copy:
        """Return what an object is, which was written by somebody else if it has no digest."""
        digest = found.sha256
        if not digest and (spool := await self._download(found.name)) is not None:
            digest = await asyncio.to_thread(_digest, spool)
            spool.unlink(missing_ok=True)
        return Copy(key, digest, found.size)

    async def _write_marker(self) -> str:
        """Give the bucket an id, which is the same from all processes that open it for the first time at once."""
        identity = hashlib.sha256(self._client.address.encode()).hexdigest()[:32]
        await self._client.put(f"{HOME}/{MARKER}", identity.encode())
        return identity

    def _open(self) -> WorkDir:
        make_folders(self._folder, PRIVATE_FOLDER_MODE)
        with exclusive_lock(self._folder / "lock"):
            for each in take_over_abandoned(self._folder, self._clock.now()):
                each.remove_spools()
                each.close()
            workdir = create_workdir(self._folder)
        self._spools.check_space()
        return workdir


async def read_marker(client: BucketClient) -> str | None:
    """Return the id of the store in a bucket; None if it is none.

    Raises:
        StoreError: the bucket cannot be used.
    """
    found = await client.text(f"{HOME}/{MARKER}")
    return found.strip() or None if found else None


async def read_takedowns(client: BucketClient, key: str) -> Sequence[Gone]:
    """Return the takedowns of a key, the last one last.

    Raises:
        StoreError: the bucket cannot be used.
    """
    names = [each.name async for group in client.list(_gone_folder(key)) for each in group]
    lines = await asyncio.gather(*map(client.text, names))
    return sorted((gone.parse(line) for line in lines if line), key=lambda mark: mark.takedown)


def _checked(key: str) -> str:
    if not is_key(key):
        raise StoreError("{key!r} is not the name of a copy: something else has written it into the ledger.", key=key)
    return key


def _state(found: Object) -> FileState:
    return FileState(found.size, found.size, found.modified)


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_in_trash(digest: str, cause: Cause) -> str:
    return f"{HOME}/{TRASH}/{cause}/{digest[:2]}/{digest}"


def _new_in_trash(digest: str, cause: Cause) -> str:
    return f"{_folder_in_trash(digest, cause)}/{secrets.token_hex(8)}"


def _trashed(found: Object, cause: Cause) -> Trashed:
    digest = found.name.split("/")[-2]
    since = datetime.fromtimestamp(found.modified, UTC)
    return Trashed(found.name.removeprefix(f"{HOME}/{TRASH}/"), cause, digest, found.size, since)


def _gone_folder(key: str) -> str:
    name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    return f"{GONE}/{name[:2]}/{name}"


def _gone_name(mark: Gone) -> str:
    return f"{_gone_folder(mark.key)}/{mark.takedown}/{mark.digest or 'any'}"
