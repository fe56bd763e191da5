"""What processes that are no more had kept aside: put back or let go, as the ledger says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from rehost.store.base import Unconfirmed
from rehost.store.listing import groups
from rehost.store.publish import NameRegistry, file_id
from rehost.store.workdir import WorkDir

_GROUP = 200


def find(root: Path, left: WorkDir, busy: Callable[[str], bool]) -> Iterator[list[Unconfirmed]]:
    """Yield what a left workplace has kept, in groups; what needs no question is settled on the way.

    A key that is `busy`, because a living process has just placed something there, is left to another time.
    """
    for keys in groups(left.replaced, _GROUP):
        found = (_look(root, left, key) for key in keys if not busy(key))
        yield [leftover for leftover in found if leftover is not None]


def _look(root: Path, left: WorkDir, key: str) -> Unconfirmed | None:
    kept = left.replaced / key
    seen = file_id(root / key)
    if seen is not None and seen == file_id(kept):  # killed before the rename: one file with two names
        kept.unlink()
        return None
    return Unconfirmed(key, _digest(kept), kept, seen)


def _digest(kept: Path) -> str:
    """Return the SHA-256 of a file; nothing where it is gone."""
    try:
        with kept.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def settle(names: NameRegistry, leftovers: Sequence[Unconfirmed], held: Mapping[str, str | None]) -> set[Path]:
    """Put back what the ledger holds, let go of the rest; return the folders that need a sync.

    What a worker is just at (None) stays aside: it may be about to commit the bytes that have the name now.
    """
    folders: set[Path] = set()
    for leftover in leftovers:
        if leftover.key in held and held[leftover.key] is None:
            continue
        if held.get(leftover.key) == leftover.digest:
            folders |= names.put_back(leftover.key, leftover.set_aside, leftover.current)
        leftover.set_aside.unlink(missing_ok=True)
    return folders


def busy_in(work: Path, left: Collection[WorkDir]) -> Callable[[str], bool]:
    """Return a test for keys of which a living process keeps something aside."""
    theirs = {workplace.replaced for workplace in left}

    def busy(key: str) -> bool:
        return any(
            os.path.lexists(folder / "replaced" / key) for folder in work.iterdir() if folder / "replaced" not in theirs
        )

    return busy
