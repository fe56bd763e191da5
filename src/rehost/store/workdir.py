"""Where a process keeps its unfinished files: a folder of its own, locked for as long as the process lives.

    root/.rehost/lock                     held while keys change files (publish.py) and work folders come and go
    root/.rehost/quarantine/KEY           copies that turned out to be decoys
    root/.rehost/work/MACHINE.KERNEL.PID.RANDOM/ one process's work folder
        lock                              held until the process ends, however it ends
        spool/                            untrusted bodies
        replaced/KEY                      the file that had a key before `place` gave the key to another file

If the lock of a work folder can be had, its process has ended. On some network file systems a lock that another machine
holds is not visible: a work folder of another machine counts as abandoned only after a day without a sign of life.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from datetime import datetime, timedelta
from pathlib import Path

from rehost import process_identity
from rehost.errors import StoreError
from rehost.store.filesystem import PRIVATE_FOLDER_MODE, list_keys, open_lock, try_lock

HOME = ".rehost"
REMOTE_ABANDONED_AFTER = timedelta(days=1)


class WorkDir:
    """One process's work folder. Only the process that holds its lock has this object."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        """Take a folder whose lock we hold by `descriptor`; `close` releases it."""
        self.spools = folder / "spool"
        self.replaced = folder / "replaced"
        self._folder = folder
        self._descriptor = descriptor

    def touch(self) -> None:
        """Show machines that cannot see our lock that this process lives."""
        os.utime(self._descriptor)

    def remove_spools(self) -> None:
        """Remove every spool."""
        shutil.rmtree(self.spools, ignore_errors=True)

    def has_replaced_files(self) -> bool:
        """Return whether files are set aside here."""
        return next(list_keys(self.replaced), None) is not None

    def close(self) -> None:
        """Release the lock, and remove the folder unless files are set aside in it."""
        try:
            if not self.has_replaced_files():
                shutil.rmtree(self._folder, ignore_errors=True)
        finally:
            os.close(self._descriptor)


def create_workdir(home: Path) -> WorkDir:
    """Return a new work folder for this process. The caller holds the store's lock."""
    folder = home / "work" / f"{_machine()}.{os.getpid()}.{secrets.token_hex(4)}"
    folder.mkdir(PRIVATE_FOLDER_MODE, parents=True)
    descriptor = open_lock(folder / "lock")
    if not try_lock(descriptor):
        raise StoreError(f"{folder} cannot be locked: mount the store's file system with locks.")
    workdir = WorkDir(folder, descriptor)
    workdir.spools.mkdir(PRIVATE_FOLDER_MODE)
    workdir.replaced.mkdir(PRIVATE_FOLDER_MODE)
    return workdir


def take_over_abandoned(home: Path, now: datetime) -> list[WorkDir]:
    """Return the work folders of processes that have ended, locked by us. The caller holds the store's lock."""
    found = [_take_over(folder, now) for folder in (home / "work").glob("*.*.*.*")]
    return [workdir for workdir in found if workdir is not None]


def _take_over(folder: Path, now: datetime) -> WorkDir | None:
    """Return a work folder if its process has ended."""
    descriptor = open_lock(folder / "lock")
    taken = False
    try:
        age = now.timestamp() - os.fstat(descriptor).st_mtime
        same_machine = bool({*folder.name.split(".")[:2]} & {*_machine().split(".")})
        taken = (same_machine or age > REMOTE_ABANDONED_AFTER.total_seconds()) and try_lock(descriptor)
    finally:
        if not taken:
            os.close(descriptor)
    return WorkDir(folder, descriptor) if taken else None


def _machine() -> str:
    """Return the names of this machine and of its running kernel: if either is the same, locks are visible here.

    The machine's name outlives a restart; the containers of one machine share the kernel's number.
    """
    kernel = re.sub(r"[^a-z0-9]", "", process_identity.kernel()) or "unknown"
    name = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:60] or "unnamed"
    return f"{name}.{kernel}"
