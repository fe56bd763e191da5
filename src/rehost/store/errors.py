"""What the disk says, in the operator's words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehost.errors import StoreError

_ADVICE = {
    errno.EDQUOT: "the disk quota is used up: raise it or free some space",
    errno.EROFS: "the file system is read-only: mount it writable; one that turned so by itself is failing (dmesg)",
    errno.EACCES: "permission denied: give the folder to the user who runs rehost, with write permission",
    errno.EPERM: "permission denied: give the folder to the user who runs rehost, with write permission",
    errno.EIO: "the disk fails (input/output error): see dmesg, move the store to a sound disk",
    errno.EMFILE: "too many open files: raise `ulimit -n`, or lower IMAGE_DOWNLOAD_CONCURRENCY",
    errno.ENFILE: "too many open files on this machine: raise fs.file-max",
    errno.ENOTDIR: "a file has the place of a folder: move the file away",
    errno.EEXIST: "a file has the place of a folder: move the file away",
    errno.EISDIR: "a folder has the name of a copy: move the folder away",
    errno.ENOENT: "it is gone: see what else deletes files in the store",
    errno.EXDEV: "it lies on another file system than the store: the store must be one file system",
    errno.ENOLCK: "the file system has no locks: mount it with locks, workers need them",
    errno.EOPNOTSUPP: "the file system cannot do this: use one that has locks and renames",
    errno.ESTALE: "the network file system has lost it: mount it again",
    errno.ENOTCONN: "the network file system is away: mount it again",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


def store_error(error: OSError, root: Path) -> StoreError:
    """Return what an OSError means for the operator: what, where, what to do."""
    where = error.filename2 or error.filename or root
    advice = _ADVICE.get(error.errno or 0) or (error.strerror or str(error))
    if error.errno == errno.ENOSPC:
        advice = _full(root)
    return StoreError(f"The store {root} cannot be used: {os.fsdecode(where)}: {advice}.")


@contextmanager
def faults(root: Path) -> Iterator[None]:
    """Raise what the disk says inside as a StoreError about the store at `root`."""
    try:
        yield
    except OSError as error:
        raise store_error(error, root) from error


def _full(root: Path) -> str:
    """Say what there is no space for: bytes or inodes; both come as ENOSPC."""
    try:
        state = os.statvfs(root)
    except OSError:
        state = None
    # By the time of the look spools may be gone again: what is scarcer is what there was none of.
    if state is not None and state.f_files and state.f_favail * state.f_blocks < state.f_bavail * state.f_files:
        return "the disk has no inodes left (df -i): delete files that nobody needs, or use another file system"
    return "the disk is full (df): free some space, or point IMAGE_STORAGE_DIR at another disk"
