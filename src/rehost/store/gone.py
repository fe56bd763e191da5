"""What the store itself says of copies that were taken down, so that servers without a database say it too.

A marker is `.rehost/gone/<2 digits>/<SHA-256 of the key>`, with a line for each takedown: status, number, digest and
key. It is durable before the copy is removed. A server answers with the status where the key has no file, and where
its file has the digest: a backup that was put back is not served.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rehost.store.base import Gone, Purged
from rehost.store.filesystem import PRIVATE_FOLDER_MODE, list_keys, make_folders

FOLDER = Path(".rehost", "gone")


def read(root: Path, key: str) -> Sequence[Gone]:
    """Return the takedowns of a key, the last one last; none where they cannot be read.

    Raises:
        OSError: the disk failed.
    """
    found = []
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for line in _path(root, key).read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            status, takedown, digest, name = line.split(" ", 3)
            found.append(Gone(name, digest, int(status), int(takedown)))
    return found


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


def same_bytes(root: Path, sizes: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield key, digest and size of all files below a folder that have one of these digests, of these sizes in bytes.

    Only files of such a size are read.
    """
    wanted = set(sizes.values())
    for key in list_keys(root):
        path = root / key
        with suppress(FileNotFoundError, PermissionError):
            size = path.stat().st_size
            if size in wanted and sizes.get(digest := _digest(path)) == size:
                yield key, digest, size


def purge(trash: Path, quarantine: Path, sizes: Mapping[str, int]) -> list[Purged]:
    """Delete the files with these digests from the trash and from the quarantine, and return them."""
    found = []
    for digest in sizes:
        for path in trash.glob(f"*/{digest[:2]}/{digest}*"):
            found.append(Purged("trash", path.relative_to(trash).as_posix(), digest, path.stat().st_size))
            path.unlink(missing_ok=True)
    for key, digest, size in same_bytes(quarantine, sizes):
        (quarantine / key).unlink(missing_ok=True)
        found.append(Purged("quarantine", key, digest, size))
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


def _digest(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
