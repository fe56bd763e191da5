"""What the store asks of a file system: durable bytes and names, locks, folders, a listing, and what its errors mean.

A group of files is synced by one `syncfs`. That also writes what other programs have written, so a handful of files is
synced one by one. Measured (benchmarks/store_sync.py, 2 busy cores, ext4): 1,000 pictures of 400 KB in groups of 200
take 1.3 s and 0.7 s of CPU time by syncfs, 2.3 s and 1.2 s file by file.

The listing uses one thread: the kernel takes 8 microseconds to open, read and close a folder, and threads that return
to the interpreter that often cost more than they gain. Measured with a million folders on two cores: 15 s with one
thread, 21 s with two, 32 s with four. Where all folders have to come from the disk, four threads take 100 s, and
that time, too, is spent in the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from rehost.errors import StoreError, cause_of
from rehost.language import Message
from rehost.store.layout import is_key

SYNCFS_MIN_FILES = 16
PUBLIC_FOLDER_MODE = 0o755  # less the umask: other servers may read the copies
PRIVATE_FOLDER_MODE = 0o700  # unverified bytes: a web server that serves the store's folder must not read them
LOCK_TIMEOUT_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.02

# f_type (statfs(2)) of file systems where syncfs reports what could not be written, since Linux 5.8 and for descriptors
# opened before the error. Network and stacked file systems are synced file by file.
_SYNCFS_TYPES = {0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0xF2F52010: "f2fs", 0x01021994: "tmpfs"}
_SYNCFS_KERNEL = (5, 8)

_EXT_RECOVERY_FOLDER = "lost+found"  # at the root of ext file systems; only root may read it

# Errors of link(2) on file systems without hard links, with too many of them to one file, or for a file of another user
# (fs.protected_hardlinks).
_NO_HARD_LINK = {errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS}

ADVICE = {
    errno.EDQUOT: "the disk quota is used up: raise it or free some space",
    errno.EROFS: (
        "the file system is read-only: remount it read-write; if it became read-only by itself, the disk is probably "
        "failing (see dmesg)"
    ),
    errno.EACCES: "permission denied: make the folder writable for the user that runs rehost",
    errno.EPERM: "permission denied: make the folder writable for the user that runs rehost",
    errno.EIO: "the disk is failing (input/output error): see dmesg, and move the store to another disk",
    errno.EMFILE: "too many open files: raise `ulimit -n`, or lower IMAGE_DOWNLOAD_CONCURRENCY",
    errno.ENFILE: "too many open files on this machine: raise fs.file-max",
    errno.ENOTDIR: "a file is where a folder should be: move the file away",
    errno.EEXIST: "a file is where a folder should be: move the file away",
    errno.EISDIR: "a folder has the name of a copy: move the folder away",
    errno.ENOENT: "the file is gone: find out what else deletes files in the store",
    errno.ENOSYS: "the folder does not exist and cannot be created: choose a folder on another file system",
    errno.EXDEV: "it is on another file system than the store: the store must be on one file system",
    errno.ENOLCK: "the file system does not support locks: mount it with locking enabled, because workers need it",
    errno.EOPNOTSUPP: "the file system does not support this: use one that has locks and renames",
    errno.ESTALE: "the network file system has lost it: mount it again",
    errno.ENOTCONN: "the network file system is not connected: mount it again",
    errno.ENAMETOOLONG: "the name is too long for this file system",
}


@contextmanager
def as_store_errors(root: Path) -> Iterator[None]:
    """Turn an OSError raised inside into a StoreError that says what is wrong, where, and what the operator can do."""
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename2 or error.filename or root)
        advice = Message(ADVICE[error.errno]) if error.errno in ADVICE else cause_of(error)
        if error.errno == errno.ENOSPC:
            advice = _advice_if_full(root)
        if where != str(root):
            advice = Message("{where}: {advice}", where=where, advice=advice)
        raise StoreError("The store {root} cannot be used: {advice}.", root=root, advice=advice) from error


def _advice_if_full(root: Path) -> Message:
    """Return which is exhausted, bytes or inodes: both are reported as ENOSPC."""
    try:
        state = os.statvfs(root)
    except OSError:
        state = None
    # Spools may have been removed since the error: so compare of which of the two a smaller share is left.
    if state is not None and state.f_files and state.f_favail * state.f_blocks < state.f_bavail * state.f_files:
        return Message(
            "the disk has no inodes left (df -i): delete files that are not needed, or use another file system"
        )
    return Message("the disk is full (df): free some space, or point IMAGE_STORAGE_DIR at another disk")


class Durability:
    """Syncs files and folders below one root. The methods block; call them in threads.

    A sync that has failed must not be repeated: the kernel has dropped the pages and would report success (fsync(2);
    PostgreSQL's "fsyncgate", 2018).
    """

    def __init__(self, root: Path) -> None:
        """Open the root; `close` closes it."""
        self._root = root
        self._descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._has_syncfs = _syncfs_reports_errors(self._libc, self._descriptor)

    def close(self) -> None:
        """Close the root."""
        os.close(self._descriptor)

    def prefers_syncfs(self, count: int) -> bool:
        """Return whether `count` files are better synced by one syncfs than one by one."""
        return self._has_syncfs and count >= SYNCFS_MIN_FILES

    def sync_all(self) -> None:
        """Return once everything that was written to this file system so far is durable."""
        if self._libc.syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def sync_files(self, files: Sequence[Path]) -> None:
        """Return once the bytes of these files are durable."""
        for file in files:
            _sync(file, os.O_RDONLY, os.fdatasync)

    def sync_existing(self, files: Sequence[Path]) -> None:
        """Return once the bytes of those of these files that exist are durable."""
        for file in files:
            with suppress(FileNotFoundError, NotADirectoryError):
                self.sync_files([file])

    def sync_folders(self, folders: Sequence[Path]) -> None:
        """Return once the names in these folders are durable; of a folder that was removed, that its name is gone.

        Any process may remove a folder when it has become empty, also the one that has just changed a name in it.
        """
        for each in folders:
            folder, is_synced = each, False
            while not is_synced:
                try:
                    _sync(folder, os.O_RDONLY | os.O_DIRECTORY, os.fsync)
                    is_synced = True
                except FileNotFoundError:
                    if folder == self._root:
                        raise
                    folder = folder.parent


def _sync(path: Path, flags: int, sync: Callable[[int], None]) -> None:
    descriptor = os.open(path, flags)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs_reports_errors(libc: ctypes.CDLL, descriptor: int) -> bool:
    """Return whether this system has syncfs and it reports errors for this file system."""
    if not (hasattr(libc, "syncfs") and hasattr(libc, "fstatfs") and platform.system() == "Linux"):
        return False
    state = (ctypes.c_long * 64)()  # larger than struct statfs is anywhere; it begins with f_type
    if libc.fstatfs(descriptor, state) != 0 or state[0] not in _SYNCFS_TYPES:
        return False
    numbers = platform.release().split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit()) >= _SYNCFS_KERNEL


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file against other processes and other threads of this one; wait for at most a minute.

    Raises:
        StoreError: another process has held the lock for all of that minute.
    """
    descriptor = open_lock(path)
    try:
        pause = threading.Event()
        for _ in range(int(LOCK_TIMEOUT_SECONDS / _LOCK_POLL_SECONDS)):
            if try_lock(descriptor):
                break
            pause.wait(_LOCK_POLL_SECONDS)
        else:
            raise StoreError(
                "Another process has held {path} for a minute: end it if it hangs (fuser -v {path}).", path=path
            )
        yield
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """Return a descriptor of a lock file, which is created if necessary."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def try_lock(descriptor: int) -> bool:
    """Lock an open file unless it is locked; return whether we have the lock. It ends with the process (flock(2))."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def make_folders(folder: Path, mode: int = PUBLIC_FOLDER_MODE) -> bool:
    """Create a folder and its missing parents; return whether this call created it, so that it is empty."""
    try:
        folder.mkdir(mode)
    except FileNotFoundError:
        if folder.parent.is_dir():
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), os.fspath(folder)) from None  # such as in /proc
        make_folders(folder.parent, mode)
        return make_folders(folder, mode)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def link_or_copy(file: Path, target: Path) -> None:
    """Give a file a second name or, on a file system without hard links, copy its bytes; a symbolic link stays one."""
    try:
        os.link(file, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        shutil.copyfile(file, target, follow_symlinks=False)


def remove_empty_folders(folder: Path, root: Path) -> Path:
    """Remove a folder below `root` and its parents as far as they are empty; return the lowest one that remains."""
    while folder != root:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            break
        folder = folder.parent
    return folder


def list_keys(folder: Path | str, prefix: str = "") -> Iterator[str]:
    """Yield `prefix` and the key of every file below a folder, in the order of the disk, without a stat per file.

    The type of an entry comes with its name (d_type), except for symbolic links: a link to a file counts as a file, a
    link to a folder is not followed. A folder that has just been removed has no keys.
    """
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            name = entry.name
            if not (name.isalnum() or is_key(name)) or (name == _EXT_RECOVERY_FOLDER and not prefix):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from list_keys(entry.path, f"{prefix}{name}/")
            elif _is_file(entry):
                yield prefix + name


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file, or a symbolic link to one."""
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:  # links that lead to each other
            return False
        raise


def list_keys_in_groups(root: Path, size: int) -> Iterator[list[str]]:
    """Yield the keys below `root`, `size` at a time."""
    keys = list_keys(root)
    while group := list(islice(keys, size)):
        yield group
