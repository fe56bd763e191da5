"""Folders of servers that tests start: gone with the test, or with the next one if its process was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEMORY = Path("/dev/shm")
LEAST_FREE = 4 << 30  # bytes; a container may have 64 MB


@contextmanager
def scratch_folder(name: str, *, in_memory: bool = False) -> Iterator[Path]:
    """Make a folder with a short path, as sockets need one (unix(7): 108 bytes), and remove it afterwards.

    Args:
        name: of what it is for.
        in_memory: take the tmpfs if it has room. ext4 without a journal takes half a millisecond to create a file
            after many were removed, and a database of PostgreSQL has three hundred.
    """
    parent = Path(tempfile.gettempdir())
    if in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= LEAST_FREE:
        parent = MEMORY
    prefix = f"rehost-{name}-"
    _remove_left(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(parent: Path, prefix: str) -> None:
    """Remove the folders of processes that have ended without doing so."""
    for folder in parent.glob(f"{prefix}*-*"):
        pid = folder.name.removeprefix(prefix).partition("-")[0]
        with suppress(ValueError, PermissionError):
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
