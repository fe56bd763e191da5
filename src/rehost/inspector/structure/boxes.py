"""Boxes of ISO base media files, in which AVIF, HEIC and JPEG 2000 come (ISO/IEC 14496-12, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rehost.errors import VisitError
from rehost.inspector.structure.ground import Data, broken, cut


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type and where its content lies."""

    kind: bytes
    start: int
    end: int


def boxes(data: Data, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes that fill `start` to `end`; at a file's end, bytes that cannot be a box are no part of it.

    Raises:
        VisitError: Transient(TRUNCATED) where a box goes on behind the file's end, Permanent(CORRUPT) where one goes on
            behind its parent's.
    """
    at = start
    while at < end:
        if at + 8 > end:
            raise _behind(data, end, "the head of a box")
        size, kind, content = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if end == len(data) and at and not (kind.isascii() and kind.decode().isprintable()):
            return
        if size == 1:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:  # to the end of the file
            size = end - at
        if at + size < content:
            raise broken(f"a box {kind!r} of {size} bytes")
        if at + size > end:
            raise _behind(data, end, f"its box {kind!r}")
        yield Box(kind, content, at + size)
        at += size


def first(data: Data, parent: Box, kind: bytes, skip: int = 0) -> Box | None:
    """Return the first box of that type in a parent whose own fields take `skip` bytes."""
    return next((box for box in boxes(data, parent.start + skip, parent.end) if box.kind == kind), None)


def every(data: Data, parent: Box, kind: bytes, skip: int = 0) -> list[Box]:
    """Return all boxes of that type in a parent whose own fields take `skip` bytes."""
    return [box for box in boxes(data, parent.start + skip, parent.end) if box.kind == kind]


def _behind(data: Data, end: int, what: str) -> VisitError:
    """Return the error for something that does not fit into what it lies in."""
    return cut(data, what) if end >= len(data) else broken(f"{what} is longer than what it lies in")
