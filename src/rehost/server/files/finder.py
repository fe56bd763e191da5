"""Finding copies to serve: only whole pictures inside the store, at the cost of one look at the disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rehost.server.files.response import Served
from rehost.store.layout import is_key

T = TypeVar("T")

MOST_KNOWN = 10_000  # some 3 MB

# as good as no copy: a dead or circular symbolic link, a folder, a socket, somebody's private file, a name too long
_NO_COPY = {
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.ENODEV),
}

HEAD_BYTES = 4096


class FileFinder:
    """The copies below one root; remembers what it has seen of the files that are asked for most."""

    def __init__(self, root: Path, media_type: Callable[[bytes], str | None]) -> None:
        """Serve files below `root` whose first HEAD_BYTES have a media type."""
        self._root = root
        self._media_type = media_type
        self._known: OrderedDict[str, Served] = OrderedDict()
        self._digests: OrderedDict[str, str] = OrderedDict()

    async def find(self, key: str) -> Served | None:
        """Return the copy of a key, None if there is nothing to be served.

        Raises:
            OSError: the disk does not answer properly.
        """
        if not is_key(key):
            return None
        return self._unchanged(key) or await asyncio.to_thread(self._look, key)

    async def digest(self, served: Served) -> str | None:
        """Return the SHA-256 of a copy, as 64 lower-case hexadecimal digits; None if another file has its name now."""
        known = self._digests.get(served.etag)
        if known is None:
            known = await asyncio.to_thread(_digest, served)
            if known is not None:
                _remember(self._digests, served.etag, known)
        return known

    def _unchanged(self, key: str) -> Served | None:
        """Return what is known of a file, if it is still the same one: a stat of what was looked at before."""
        known = self._known.get(key)
        if known is None:
            return None
        try:
            state = os.stat(known.path)  # noqa: PTH116 - a path as text
        except OSError:
            state = None
        if state is None or not is_same(known, state):
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return known

    def _look(self, key: str) -> Served | None:
        path = os.path.join(self._root, key)  # noqa: PTH118 - as text, which is what a server takes
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
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
        if media_type is None:
            return None
        served = Served(path, state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size, media_type)
        _remember(self._known, key, served)
        return served

    def _is_inside(self, descriptor: int, path: str) -> bool:
        """Tell whether an open file lies in the store under a name that may be served, symbolic links resolved."""
        try:
            real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - what is open, whatever the path is by now
        except OSError:
            real = os.path.realpath(path)
        root = os.path.join(os.path.realpath(self._root), "")  # noqa: PTH118 - with a slash at its end
        return real.startswith(root) and is_key(real.removeprefix(root))


def is_same(served: Served, state: os.stat_result) -> bool:
    """Tell whether a file is the one that was looked at."""
    now = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
    return now == (served.device, served.inode, served.modified_ns, served.size)


def open_same(served: Served) -> int | None:
    """Open a copy for reading; None if another file has its name by now."""
    try:
        descriptor = os.open(served.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if is_same(served, os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    return None


def _digest(served: Served) -> str | None:
    descriptor = open_same(served)
    if descriptor is None:
        return None
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - it is open already
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(known: OrderedDict[str, T], name: str, value: T) -> None:
    known[name] = value
    while len(known) > MOST_KNOWN:
        known.popitem(last=False)
