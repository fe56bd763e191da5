"""A body on its way to disk: bounded and hashed as it passes, never in memory.

Bytes go straight to the file descriptor: a spool has one writer, who writes in large pieces.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehost.errors import OperatorError, Permanent, StoreError, shortage
from rehost.model import Reason

_READ_BYTES = 1 << 20
_FILE_MODE = 0o644  # less the umask: what is proven keeps it, and other servers read it


class Spool:
    """One file, not trusted; the name is this object's until it is handed over."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size = 0  # bytes
        self._max_bytes = max_bytes
        self._file = -1
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 of what has been written, in hexadecimal digits."""
        return self._hash.hexdigest()

    def take_over(self, other: Path) -> None:
        """Make the file of an earlier attempt ours, unread.

        Raises:
            StoreError: it cannot be moved.
        """
        with _explained(self.path):
            other.rename(self.path)

    async def reread(self, size: int) -> bool:
        """Go on after the first `size` bytes of the file; return False, and change nothing, if it has fewer."""
        with _explained(self.path):
            self._file = os.open(self.path, os.O_RDWR)
            if os.fstat(self._file).st_size < size:
                return False
            os.ftruncate(self._file, size)
            await asyncio.to_thread(self._rehash)
        self.size = size
        return True

    def start(self) -> None:
        """Begin an empty file, in place of whatever was written so far."""
        self.close()
        with _explained(self.path):
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        self.size = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            Permanent: TOO_LARGE.
            StoreError: the disk does not take them.
        """
        self.size += len(data)
        if self.size > self._max_bytes:
            raise Permanent(Reason.TOO_LARGE, f"more than {self._max_bytes} bytes")
        self._hash.update(data)
        try:
            written = os.write(self._file, data)
            while written < len(data):  # a nearly full disk takes a part, then says so
                written += os.write(self._file, memoryview(data)[written:])
        except OSError as error:
            raise _sentence(self.path, error) from error

    def close(self) -> None:
        """Close the file, if it is open; the name stays."""
        if self._file >= 0:
            file, self._file = self._file, -1
            with _explained(self.path):  # some file systems (NFS, quotas) say only here that they are full
                os.close(file)

    def remove(self) -> None:
        """Close and remove the file, if there is one."""
        self.close()
        with _explained(self.path):
            self.path.unlink(missing_ok=True)

    def _rehash(self) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        while data := os.read(self._file, _READ_BYTES):
            self._hash.update(data)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _sentence(path, error) from error


def _sentence(path: Path, error: OSError) -> OperatorError:
    return shortage(error) or StoreError(
        f"The spool {path} cannot be written: {error.strerror or error}. "
        "Make room or mend the storage folder (IMAGE_STORAGE_DIR), then run again: what is held stays held."
    )
