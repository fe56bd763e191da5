"""What the store itself says of copies that were taken down, so that servers without a database say it too.

A marker is `.rehost/gone/<2 digits>/<SHA-256 of the key>`, with a line for each takedown: status, number, digest and
key. It is durable before the copy is removed. A server answers with the status where the key has no file, and where
its file has the digest: a backup that was put back is not served.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rehost.model import Copy
from rehost.store.base import Gone
from rehost.store.filesystem import PRIVATE_FOLDER_MODE, make_folders

FOLDER = Path(".rehost", "gone")


def read(root: Path, key: str) -> Sequence[Gone]:
    """Return the takedowns of a key, the last one last; none where they cannot be read.

    Raises:
        OSError: the disk failed.
    """
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        lines = _path(root, key).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        return [parse(line) for line in lines]
    return []


def parse(line: str) -> Gone:
    """Return what a line of a marker says."""
    status, takedown, digest, name = line.split(" ", 3)
    return Gone(name, digest, int(status), int(takedown))


def write(root: Path, marks: Sequence[Gone]) -> set[Path]:
    """Add marks, durably; return the folders that need a sync. The caller holds the store's lock."""
    return {folder for mark in marks for folder in _rewrite(root, mark.key, [*_others(root, mark.key, mark), mark])}


def erase(root: Path, keys: Collection[str], takedown: int) -> set[Path]:
    """Remove a takedown's marks of these keys; return the folders that need a sync. As `write`."""
    folders: set[Path] = set()
    for key in keys:
        if found := read(root, key):
            folders |= _rewrite(root, key, [each for each in found if each.takedown != takedown])
    return folders


def read_files(root: Path, keys: Iterable[str], sizes: Collection[int] | None = None) -> list[Copy]:
    """Return digest and size of the files below a folder that have these names; only of some sizes, if these are given.

    A file that is gone meanwhile, or cannot be read, is left out.
    """
    found = []
    for key in keys:
        with suppress(FileNotFoundError, PermissionError), (root / key).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if sizes is None or size in sizes:
                found.append(Copy(key, hashlib.file_digest(file, "sha256").hexdigest(), size))
    return found


def _others(root: Path, key: str, mark: Gone) -> list[Gone]:
    return [each for each in read(root, key) if (each.takedown, each.digest) != (mark.takedown, mark.digest)]


def _rewrite(root: Path, key: str, marks: Sequence[Gone]) -> set[Path]:
    path = _path(root, key)
    make_folders(path.parent, PRIVATE_FOLDER_MODE)
    if not marks:
        path.unlink(missing_ok=True)
        return {path.parent}
    lines = [f"{each.status} {each.takedown} {each.digest} {each.key}\n" for each in marks]
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with unfinished.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    return {path.parent, path.parent.parent, path.parent.parent.parent}


def _path(root: Path, key: str) -> Path:
    name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    return root / FOLDER / name[:2] / name
