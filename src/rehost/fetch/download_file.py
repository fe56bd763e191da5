"""The file that a body is written to: bounded and hashed as it passes, never in memory.

Bytes go straight to the file descriptor, without a buffer: there is one writer, and its pieces are large.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehost.errors import OperatorError, StoreError, shortage
from rehost.http.errors import BodyTooLarge

_READ_BYTES = 1 << 20
_FILE_MODE = 0o644  # less the umask: a proven image keeps it, and other servers read it


class Spool:
    """One file of untrusted bytes, which belongs to this object until it is handed over."""

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
        """Move the file of an earlier attempt here, unread.

        Raises:
            StoreError: it cannot be moved.
        """
        with self.explained():
            other.rename(self.path)

    async def resume(self, size: int) -> bool:
        """Go on after the first `size` bytes of the file; return False, and change nothing, if it has fewer."""
        with self.explained():
            self._file = os.open(self.path, os.O_RDWR)
            if os.fstat(self._file).st_size < size:
                return False
            os.ftruncate(self._file, size)
            await asyncio.to_thread(self._rehash)
        self.size = size
        return True

    def start(self) -> None:
        """Start an empty file, in place of whatever was written so far."""
        self.close()
        with self.explained():
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        self.size = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes: a sink for `http.body.read_decoded`, to be called within `explained`.

        Raises:
            BodyTooLarge: they are more than the file may hold.
            OSError: the disk does not take them.
        """
        self.size += len(data)
        if self.size > self._max_bytes:
            raise BodyTooLarge(f"more than {self._max_bytes} bytes")
        self._hash.update(data)
        written = os.write(self._file, data)
        while written < len(data):  # a nearly full disk takes a part, then reports that it is full
            written += os.write(self._file, memoryview(data)[written:])

    def close(self) -> None:
        """Close the file, if it is open, and keep it."""
        if self._file >= 0:
            file, self._file = self._file, -1
            with self.explained():  # some file systems (NFS, quotas) report only here that they are full
                os.close(file)

    def remove(self) -> None:
        """Close and remove the file, if there is one."""
        self.close()
        with self.explained():
            self.path.unlink(missing_ok=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise an OSError as an OperatorError that says what to do: StoreError, or too many open files."""
        try:
            yield
        except OSError as error:
            raise _explanation(self.path, error) from error

    def _rehash(self) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        while data := os.read(self._file, _READ_BYTES):
            self._hash.update(data)


def _explanation(path: Path, error: OSError) -> OperatorError:
    return shortage(error) or StoreError(
        f"The spool {path} cannot be written: {error.strerror or error}. "
        "Make room or mend the storage folder (IMAGE_STORAGE_DIR), then run again: what is held stays held."
    )
