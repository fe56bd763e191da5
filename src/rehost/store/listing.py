"""Listing a store: every key, in bounded memory, without a stat per file.

One thread: the time is the kernel's (8 microseconds to open, read and close a folder), and threads that come back to
the interpreter that often cost more than they win (measured with a million folders on two cores: 15 s by one, 21 s by
two, 32 s by four; where all have to be read from the disk first it is the kernel's work still, 100 s by four).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rehost.store.layout import is_key

_NOT_OURS = "lost+found"  # at the root of ext file systems, for root's eyes only


def groups(root: Path, size: int) -> Iterator[list[str]]:
    """Yield the keys below `root`, `size` at a time."""
    keys = walk(root)
    while group := list(islice(keys, size)):
        yield group


def walk(root: Path) -> Iterator[str]:
    """Yield every key below `root`, in the order in which the disk has them."""
    return _below(str(root), "")


def _below(folder: str, prefix: str) -> Iterator[str]:
    """Yield the keys in a folder; one that has vanished meanwhile has none.

    The type of an entry comes with its name (d_type); only of a symbolic link it has to be asked for: one to a file
    counts, one to a folder is not followed.
    """
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            name = entry.name
            if not (name.isalnum() or is_key(name)) or (name == _NOT_OURS and not prefix):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{prefix}{name}/")
            elif entry.is_file():
                yield prefix + name
