"""Check the files that a side has written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import workload


def both(*checks: Callable[[Path], str | None]) -> Callable[[Path], str | None]:
    """Return a check that returns the first error of two."""
    return lambda folder: next((wrong for check in checks if (wrong := check(folder))), None)


def digests(paths: Sequence[Path]) -> Counter[str]:
    """Return the digests of the pictures at the origin."""
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def pictures(folder: Path) -> list[Path]:
    """Return the pictures below a folder."""
    kinds = {f".{kind}" for kind, _ in workload.SHARES} | {".jpeg"}
    return [path for path in folder.rglob("*") if path.suffix in kinds and path.is_file()]


def same_bytes(expected: Counter[str], folder: Path) -> str | None:
    """Return an error if the files are not byte for byte those of the origin."""
    wrong = sum((expected - digests(pictures(folder))).values())
    return f"{wrong} of {expected.total()} pictures are missing" if wrong else None


def as_many(count: int, folder: Path) -> str | None:
    """Return an error if there are not as many pictures as links, for sides that encode again."""
    found = len(pictures(folder))
    return None if found >= count else f"{found} of {count} pictures"
