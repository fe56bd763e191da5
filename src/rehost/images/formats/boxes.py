"""Boxes of ISO base media files, in which AVIF, HEIC and JPEG 2000 come (ISO/IEC 14496-12, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rehost.errors import VisitError
from rehost.images.formats.ground import Data, broken, cut

_HEAD = 8  # bytes: size and type
_OUTERMOST = frozenset(
    {
        *(b"ftyp", b"styp", b"meta", b"mdat", b"idat", b"moov", b"moof", b"mfra", b"sidx", b"free", b"skip", b"wide"),
        *(b"uuid", b"jP  ", b"jp2h", b"jp2c", b"jp2i", b"xml ", b"uinf", b"asoc", b"rreq", b"jpch", b"jplh", b"ftbl"),
    }
)
"""Types of boxes that stand behind others in a file; what has another is taken for trailing bytes."""


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
        head = data[at : min(at + _HEAD, end)]
        if start == 0 < at and not _may_begin(head):
            return
        if len(head) < _HEAD:
            raise _behind(data, end, "the head of a box")
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:], at + _HEAD
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


def first(data: Data, parent: Box, kind: bytes) -> Box | None:
    """Return the first box of that type in a parent that has no fields of its own."""
    return next((box for box in boxes(data, parent.start, parent.end) if box.kind == kind), None)


def every(data: Data, parent: Box, kind: bytes) -> list[Box]:
    """Return all boxes of that type in a parent that has no fields of its own."""
    return [box for box in boxes(data, parent.start, parent.end) if box.kind == kind]


def _may_begin(head: bytes) -> bool:
    """Return whether this is how a box begins that stands behind others in a file, or the first bytes of one."""
    return head[4:] in _OUTERMOST if len(head) == _HEAD else head[0] == 0


def _behind(data: Data, end: int, what: str) -> VisitError:
    """Return the error for something that does not fit into what it lies in."""
    return cut(data, what) if end >= len(data) else broken(f"{what} is longer than what it lies in")
