"""Finding copies in a bucket to serve, and reading them in parts.

What is known of an object counts for KNOWN_SECONDS: for so long it is still served where it was taken down meanwhile.
Its bytes come in parts of bounded size, each by a request of its own, because a slow client would otherwise keep a
connection to the bucket open for minutes. No request waits longer than BUCKET_SECONDS for the bucket.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from cachetools import LRUCache

from rehost.clock import Clock
from rehost.server.files.copies import SIGNED_SECONDS
from rehost.server.files.finder import HEAD_BYTES, MAX_KNOWN_FILES, Digests
from rehost.server.files.response import ServedFile
from rehost.server.resources import BUCKET_SECONDS
from rehost.store.bucket import BucketClient, Object
from rehost.store.layout import is_key
from rehost.store.s3 import read_takedowns

T = TypeVar("T")

KNOWN_SECONDS = 60.0
MIN_PART_BYTES, MAX_PART_BYTES = 64 * 1024, 512 * 1024
ALL_PARTS_BYTES = 8 * 1024**2  # of all responses, one part of each
LOCAL_FILES = 4  # at a time

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Known:
    file: ServedFile
    until: float  # monotonic time
    sha256: str  # as the object says; "" if it does not
    media_type: str  # as the bucket sends it


class ObjectFinder:
    """Finds the copies in one bucket, and remembers those that are requested most."""

    def __init__(self, client: BucketClient, media_type: Callable[[bytes], str | None], clock: Clock) -> None:
        """Find objects whose first HEAD_BYTES have a media type."""
        self._client = client
        self._media_type = media_type
        self._clock = clock
        self._known: LRUCache[str, _Known] = LRUCache(MAX_KNOWN_FILES)
        self._digests = Digests()
        self._reading = 0  # copies
        self._local_files = asyncio.Semaphore(LOCAL_FILES)

    async def find(self, key: str, *, is_read: bool = False) -> ServedFile | None:  # noqa: ARG002 - no use here
        """Return the copy of a key; None if there is nothing to serve.

        Raises:
            StoreError: the bucket cannot be used.
            TimeoutError: the same.
        """
        if not is_key(key):
            return None
        known = self._known.get(key)
        if known is not None and self._clock.monotonic() < known.until:
            return known.file
        found = await _soon(self._client.part(key, 0, HEAD_BYTES))
        seen = self._examine(key, *found) if found is not None else None
        if seen is not None and (known is None or known.file.identity != seen.file.identity):
            seen = None if await self._is_taken_down(seen) else seen
        if seen is None:
            self._known.pop(key, None)
            return None
        self._known[key] = seen
        return seen.file

    async def digest(self, file: ServedFile) -> str | None:
        """Return the SHA-256 of a copy: what the object says, otherwise that of its bytes, which are then read.

        Raises:
            StoreError: the bucket cannot be used.
            TimeoutError: the same.
        """
        known = self._known.get(file.path)
        if known is not None and known.sha256 and known.file.identity == file.identity:
            return known.sha256
        return await self._digests.get(file.identity, lambda: self._read_digest(file))

    async def gone_status(self, key: str) -> int | None:
        """Return the status that says that the copy of a key was taken down; None if it was not.

        Raises:
            StoreError: the bucket cannot be used.
            TimeoutError: the same.
        """
        marks = await _soon(read_takedowns(self._client, key)) if is_key(key) else []
        return marks[-1].status if marks else None

    async def locate(self, file: ServedFile, method: str) -> str:
        """Return a URL of the bucket under which anybody can read a copy for SIGNED_SECONDS.

        It is empty where the bucket would send it as something else than it is.

        Raises:
            StoreError: the bucket cannot be used.
            TimeoutError: the same.
        """
        known = self._known.get(file.path)
        if known is None or known.media_type != file.media_type:
            return ""
        verb: Literal["GET", "HEAD"] = "HEAD" if method == "HEAD" else "GET"
        return await _soon(self._client.sign(file.path, SIGNED_SECONDS, verb))

    async def read(self, file: ServedFile, spans: Sequence[range]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of these spans in pieces that do not cross their borders.

        Raises:
            FileNotFoundError: another object, or none, has its name now.
            StoreError: the bucket cannot be used.
            TimeoutError: the same.
        """
        self._reading += 1
        size = max(MIN_PART_BYTES, min(ALL_PARTS_BYTES // self._reading, MAX_PART_BYTES))
        try:
            for span in spans:
                left = span
                while left:
                    found = await _soon(self._client.part(file.path, left.start, min(size, len(left))))
                    if found is None or _identity(found[0]) != file.identity:
                        self._known.pop(file.path, None)
                        raise FileNotFoundError(errno.ENOENT, "another object has its name", file.path)
                    yield found[1]
                    left = left[len(found[1]) :]
        finally:
            self._reading -= 1

    @asynccontextmanager
    async def as_file(self, file: ServedFile) -> AsyncIterator[Path]:
        """Give a file on the local disk with the bytes of a copy, which is removed at the end.

        Raises:
            OSError: another object, or none, has its name now, or the file cannot be written.
            StoreError: the bucket cannot be used.
        """
        async with self._local_files:
            with tempfile.NamedTemporaryFile(prefix="rehost-", buffering=0) as local:
                async for chunk in self.read(file, [range(file.size)]):
                    local.write(chunk)
                yield Path(local.name)

    def _examine(self, key: str, found: Object, head: bytes) -> _Known | None:
        media_type = self._media_type(head)
        if media_type is None:
            return None
        file = ServedFile(key, _identity(found), int(found.modified), found.size, media_type, is_on_disk=False)
        sha256 = found.sha256 if _DIGEST.fullmatch(found.sha256) else ""
        return _Known(file, self._clock.monotonic() + KNOWN_SECONDS, sha256, found.media_type)

    async def _is_taken_down(self, seen: _Known) -> bool:
        """Return whether an object has the bytes that were taken down under its key: a backup was put back, say."""
        if not (marks := await _soon(read_takedowns(self._client, seen.file.path))):
            return False
        digest = seen.sha256 or await self.digest(seen.file)
        return any(mark.digest == digest for mark in marks)

    async def _read_digest(self, file: ServedFile) -> str | None:
        digest = hashlib.sha256()
        try:
            async for chunk in self.read(file, [range(file.size)]):
                digest.update(chunk)
        except FileNotFoundError:
            return None
        return digest.hexdigest()


async def _soon(answer: Awaitable[T]) -> T:
    """Return what a request to the bucket returns.

    Raises:
        TimeoutError: it took longer than BUCKET_SECONDS.
    """
    async with asyncio.timeout(BUCKET_SECONDS):
        return await answer


def _identity(found: Object) -> str:
    return f"{found.etag}-{found.modified:.0f}-{found.size:x}"
