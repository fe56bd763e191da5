"""Making bytes and names survive a loss of power, in groups.

A group is synced by one `syncfs`, which takes what other programs have written along; a handful of files is not worth
that wait. Measured (benchmarks/store_sync.py, 2 busy cores, ext4): 1,000 pictures of 400 KB in groups of 200 take 1.3 s
of wall and 0.7 s of CPU time by syncfs, 2.3 s and 1.2 s file by file.

A sync that has failed is not tried again: the kernel has dropped the pages and would call the second one a success
(fsync(2); PostgreSQL's "fsyncgate", 2018).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GROUP_WORTH_SYNCFS = 16

# Where syncfs reports what could not be written (since Linux 5.8, for a descriptor opened before it went wrong), by
# f_type (statfs(2)). Network and stacked file systems are synced file by file.
_SYNCFS_TYPES = {0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0xF2F52010: "f2fs", 0x01021994: "tmpfs"}
_SYNCFS_KERNEL = (5, 8)


class Durability:
    """Syncs files and folders below one root; blocking, for threads."""

    def __init__(self, root: Path) -> None:
        """Open the root; `close` closes it."""
        self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._whole = _reports_errors(self._libc, self._descriptor)

    def close(self) -> None:
        """Close the root."""
        os.close(self._descriptor)

    def is_whole(self, count: int) -> bool:
        """Tell whether `count` files are better synced by one syncfs than one by one."""
        return self._whole and count >= GROUP_WORTH_SYNCFS

    def sync_all(self) -> None:
        """Return when everything written to this file system so far is durable."""
        if self._libc.syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def sync_files(self, files: Sequence[Path]) -> None:
        """Return when the bytes of these files are durable."""
        for file in files:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def sync_those_there(self, files: Sequence[Path]) -> None:
        """Return when the bytes of those of these files are durable that are there."""
        for file in files:
            with suppress(FileNotFoundError, NotADirectoryError):
                self.sync_files([file])

    def sync_folders(self, folders: Sequence[Path]) -> None:
        """Return when the names in these folders are durable."""
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _reports_errors(libc: ctypes.CDLL, descriptor: int) -> bool:
    """Tell whether syncfs is there and can be relied on to report errors."""
    if not (hasattr(libc, "syncfs") and hasattr(libc, "fstatfs") and platform.system() == "Linux"):
        return False
    state = (ctypes.c_long * 64)()  # more than struct statfs is anywhere; it begins with f_type
    if libc.fstatfs(descriptor, state) != 0 or state[0] not in _SYNCFS_TYPES:
        return False
    numbers = platform.release().split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit()) >= _SYNCFS_KERNEL
