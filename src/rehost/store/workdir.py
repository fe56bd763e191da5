"""Where a process keeps what is not at rest yet: a folder of its own, locked for as long as it lives.

    root/.rehost/lock                     held while names change (names.py) and while workplaces come and go
    root/.rehost/quarantine/KEY           copies that proved to be decoys
    root/.rehost/work/MACHINE.KERNEL.PID.RANDOM/ one process's workplace
        lock                              held until the process ends, however it ends
        spool/                            untrusted bodies
        replaced/KEY                      what had a name before `place` gave it to another file

A workplace whose lock can be had belongs to nobody any more. A lock taken on another machine may not be seen on some
network file systems; a workplace from there counts as left only after a day without a sign of life.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from rehost import process_identity as identity
from rehost.errors import StoreError
from rehost.store.listing import walk

HOME = ".rehost"
ABROAD_LEFT_AFTER = timedelta(days=1)
LOCK_PATIENCE_SECONDS = 60.0
_LOCK_PAUSE_SECONDS = 0.02
_FOLDER_MODE = 0o700  # nobody else reads what is not proven, whoever serves the store's folder


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock file, against other processes and against other threads of this one; blocking, bounded.

    Raises:
        StoreError: another process has held it for too long.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        pause = threading.Event()
        for _ in range(int(LOCK_PATIENCE_SECONDS / _LOCK_PAUSE_SECONDS)):
            if _locked(descriptor):
                break
            pause.wait(_LOCK_PAUSE_SECONDS)
        else:
            raise StoreError(f"Another process has held {lock} for a minute: end it if it hangs (fuser -v {lock}).")
        yield
    finally:
        os.close(descriptor)


class WorkDir:
    """One process's folder; whoever has the object has its lock."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        """Take a locked folder; `close` lets go of the lock."""
        self.spools = folder / "spool"
        self.replaced = folder / "replaced"
        self._folder = folder
        self._descriptor = descriptor

    def live(self) -> None:
        """Give a sign of life, for those who cannot see our lock."""
        os.utime(self._descriptor)

    def drop_spools(self) -> None:
        """Remove every spool."""
        shutil.rmtree(self.spools, ignore_errors=True)

    def is_clear(self) -> bool:
        """Tell whether nothing is kept aside here."""
        return next(walk(self.replaced), None) is None

    def close(self) -> None:
        """Leave; the folder goes with us, unless something is kept aside in it."""
        try:
            if self.is_clear():
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            os.close(self._descriptor)


def settle_in(home: Path) -> WorkDir:
    """Return a new workplace of our own. The caller holds the store's lock."""
    folder = home / "work" / f"{_machine()}.{os.getpid()}.{secrets.token_hex(4)}"
    folder.mkdir(_FOLDER_MODE, parents=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _locked(descriptor):
        raise StoreError(f"{folder} cannot be locked: mount the store's file system with locks.")
    workplace = WorkDir(folder, descriptor)
    workplace.spools.mkdir(_FOLDER_MODE)
    workplace.replaced.mkdir(_FOLDER_MODE)
    return workplace


def take_over(home: Path, now: datetime) -> list[WorkDir]:
    """Return the workplaces of processes that are no more, locked by us now. The caller holds the store's lock."""
    found = [_take(folder, now) for folder in (home / "work").glob("*.*.*.*")]
    return [workplace for workplace in found if workplace is not None]


def _take(folder: Path, now: datetime) -> WorkDir | None:
    """Return a workplace if its process is no more."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    left = False
    try:
        age = now.timestamp() - os.fstat(descriptor).st_mtime
        ours = bool({*folder.name.split(".")[:2]} & {*_machine().split(".")})
        left = (ours or age > ABROAD_LEFT_AFTER.total_seconds()) and _locked(descriptor)
    finally:
        if not left:
            os.close(descriptor)
    return WorkDir(folder, descriptor) if left else None


def _locked(descriptor: int) -> bool:
    """Try to lock an open file; flock(2), which ends with the process."""
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _machine() -> str:
    """Return this machine's name and its running kernel's: either tells whether a lock would be seen here.

    The name outlives a restart, the kernel's number is shared by the containers of one machine.
    """
    kernel = re.sub(r"[^a-z0-9]", "", identity.kernel()) or "unknown"
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:60] or "unnamed"
    return f"{name}.{kernel}"
