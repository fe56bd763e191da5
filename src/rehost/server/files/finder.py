"""Finding copies to serve: only pictures inside the store, at the price of one stat for files seen before."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from rehost.server.files.response import ServedFile
from rehost.server.files.send import WHOLE_BYTES, chunk_bytes, read_cached, read_file
from rehost.store import gone
from rehost.store.layout import is_key

MAX_KNOWN_FILES = 10_000  # about 3 MB
MAX_KNOWN_DIGESTS = 50_000  # about 10 MB

# Errors that mean "no copy": a dangling or circular symbolic link, a folder, a socket, a private file, a long name.
_NO_COPY = {
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ENODEV),
}

HEAD_BYTES = 4096

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileFinder:
    """Finds the copies below one folder, and remembers the files that are requested most."""

    def __init__(self, root: Path, media_type: Callable[[bytes], str | None]) -> None:
        """Find files below `root`, which need not exist yet, whose first HEAD_BYTES have a media type."""
        self._root = root
        self._media_type = media_type
        self._files: LRUCache[str, ServedFile] = LRUCache(MAX_KNOWN_FILES)
        self._digests = Digests()
        self._reading = 0  # copies

    async def find(self, key: str, *, is_read: bool = False) -> ServedFile | None:
        """Return the copy of a key; None if there is nothing to serve.

        Raises:
            OSError: the disk failed.
        """
        cached = self._files.get(key)  # under keys only
        if cached is not None and ((is_read and cached.size <= WHOLE_BYTES) or _is_unchanged(cached)):
            return cached
        if not is_key(key):
            return None
        self._files.pop(key, None)
        found = await asyncio.to_thread(self._inspect, key)
        if found is not None:
            self._files[key] = found
        return found

    async def digest(self, file: ServedFile) -> str | None:
        """Return the SHA-256 of a copy in 64 lower-case hexadecimal digits; None if another file has its name now.

        Raises:
            OSError: the disk failed.
        """
        return await self._digests.get(file.identity, lambda: asyncio.to_thread(_digest, file))

    async def gone_status(self, key: str) -> int | None:
        """Return the status that says that the copy of a key was taken down; None if it was not.

        Raises:
            OSError: the disk failed.
        """
        if not is_key(key):
            return None
        found = await asyncio.to_thread(gone.read, self._root, key)
        return found[-1].status if found else None

    async def read(self, file: ServedFile, spans: Sequence[range]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of these spans in pieces that do not cross their borders.

        Raises:
            FileNotFoundError: another file, or none, has its name now.
            OSError: the disk failed, or the file is shorter than it was.
        """
        descriptor = open_same(file)
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "another file has its name", file.path)
        self._reading += 1
        size = chunk_bytes(self._reading)
        try:
            for span in spans:
                left = span
                while left:
                    chunk = await read_file(descriptor, left[:size])
                    yield chunk
                    left = left[len(chunk) :]
        finally:
            self._reading -= 1
            os.close(descriptor)

    @asynccontextmanager
    async def as_file(self, file: ServedFile) -> AsyncIterator[Path]:
        """Give the path of a copy."""
        yield Path(file.path)

    def _inspect(self, key: str) -> ServedFile | None:
        path = os.path.join(self._root, key)  # noqa: PTH118 - the server takes paths as text
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            if error.errno in _NO_COPY:
                return None
            raise
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or not self._is_inside(descriptor, path):
                return None
            media_type = self._media_type(os.pread(descriptor, HEAD_BYTES, 0))
        finally:
            os.close(descriptor)
        if media_type is None or self._is_taken_down(key, path):
            return None
        return ServedFile(path, _identity(state), state.st_mtime_ns // 10**9, state.st_size, media_type)

    def _is_taken_down(self, key: str, path: str) -> bool:
        """Return whether a file has the bytes that were taken down under its key: a backup was put back, say."""
        if not (marks := gone.read(self._root, key)):
            return False
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - the path is text
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return any(mark.digest == digest for mark in marks)

    def _is_inside(self, descriptor: int, path: str) -> bool:
        """Return whether an open file, symbolic links resolved, lies in the store under a name that may be served."""
        try:
            real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - the file that is open, even if it moved
        except OSError:
            real = os.path.realpath(path)
        root = os.path.join(os.path.realpath(self._root), "")  # noqa: PTH118 - with a slash at its end
        return real.startswith(root) and is_key(real.removeprefix(root))


class Digests:
    """The SHA-256 of copies by their identities: each is read once, and those that are requested most are kept."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: LRUCache[str, str] = LRUCache(MAX_KNOWN_DIGESTS)
        self._pending: dict[str, asyncio.Task[str | None]] = {}

    async def get(self, identity: str, read: Callable[[], Coroutine[Any, Any, str | None]]) -> str | None:
        """Return the digest of a copy, or what `read` returns or raises."""
        cached = self._known.get(identity)
        if cached is not None:
            return cached
        task = self._pending.get(identity)
        if task is None:  # requests for one copy at the same time read it once
            task = self._pending[identity] = asyncio.create_task(read())
            task.add_done_callback(partial(self._end, identity))
        found = await asyncio.shield(task)
        if found is not None:
            self._known[identity] = found
        return found

    def _end(self, identity: str, task: asyncio.Task[str | None]) -> None:
        del self._pending[identity]
        if not task.cancelled():
            task.exception()  # every client may have gone meanwhile


def open_same(file: ServedFile) -> int | None:
    """Open a copy for reading and return the descriptor; None if another file, or none, has its name now."""
    try:
        descriptor = os.open(file.path, _FLAGS)
    except OSError as error:
        if error.errno in _NO_COPY:
            return None
        raise
    if _is_same(file, os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    return None


def read_now(file: ServedFile) -> bytes:
    """Return all bytes of a copy if they can be read without waiting; none if not, or if another file has its name."""
    try:
        descriptor = open_same(file)
    except OSError:  # `read` tells why
        return b""
    if descriptor is None:
        return b""
    content = read_cached(descriptor, range(file.size))
    os.close(descriptor)
    return content if len(content) == file.size else b""


def _is_unchanged(file: ServedFile) -> bool:
    try:
        return _is_same(file, os.stat(file.path))  # noqa: PTH116 - the path is text
    except OSError:
        return False


def _is_same(file: ServedFile, state: os.stat_result) -> bool:
    return _identity(state) == file.identity


def _identity(state: os.stat_result) -> str:
    return f"{state.st_dev:x}-{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"


def _digest(file: ServedFile) -> str | None:
    descriptor = open_same(file)
    if descriptor is None:
        return None
    with open(descriptor, "rb", buffering=0) as stream:  # noqa: PTH123 - the file is open already
        return hashlib.file_digest(stream, "sha256").hexdigest()
