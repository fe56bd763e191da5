"""The trash of a store on a disk: what was replaced or removed, by digest, until its grace time is over.

A file is `<trash>/<cause>/<first two digits>/<digest>`, and its time of modification says since when. Bytes that come
again renew that. A file that could not be read is called `unread-<random>`.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from rehost.store.base import Cause, Trashed
from rehost.store.filesystem import PRIVATE_FOLDER_MODE, make_folders

GROUP = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")


def discard(path: Path, trash: Path, cause: Cause) -> Path:
    """Move a file into the trash; return the folder in which it is now.

    Raises:
        OSError: the disk failed; the file is where it was.
    """
    digest = _digest(path) if path.is_file() else ""  # a pipe would wait for its writer
    name = f"{digest[:2]}/{digest}" if digest else f"un/unread-{secrets.token_hex(8)}"
    target = trash / cause / name
    make_folders(target.parent, PRIVATE_FOLDER_MODE)
    try:
        os.utime(path, follow_symlinks=False)
        is_ours = not path.is_symlink()
    except PermissionError:  # another user's file keeps its time
        is_ours = False
    if is_ours or not digest:
        path.rename(target)
        path.unlink(missing_ok=True)  # rename(2) does nothing if both are names of one file, put back from the trash
    else:
        copied = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
        shutil.copyfile(path, copied)
        copied.rename(target)
        path.unlink()
    return target.parent


def listed(trash: Path) -> Iterator[list[Trashed]]:
    """Yield what is in the trash, in groups."""
    group: list[Trashed] = []
    for cause in Cause:
        for path in (trash / cause).glob("*/*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                digest = path.name if _DIGEST.fullmatch(path.name) else ""
                since = datetime.fromtimestamp(state.st_mtime, UTC)
                group.append(Trashed(f"{cause}/{path.parent.name}/{path.name}", cause, digest, state.st_size, since))
            if len(group) == GROUP:
                yield group
                group = []
    if group:
        yield group


def find(trash: Path, digest: str, key: str | None = None) -> Path | None:
    """Return the file in the trash with these bytes, or one that had this key when it went into quarantine."""
    paths = [trash / cause / digest[:2] / digest for cause in Cause]
    if key is not None:
        quarantined = trash.with_name("quarantine") / key
        paths += [quarantined, *quarantined.parent.glob(f"{glob.escape(quarantined.name)}.*")]
    return next((path for path in paths if path.is_file() and _digest(path) == digest), None)


def delete(path: Path) -> None:
    """Delete what is at a path in the trash; a folder that had the name of a copy goes with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file; an empty text if it cannot be read."""
    with suppress(OSError), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
