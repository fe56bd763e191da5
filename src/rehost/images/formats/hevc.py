"""HEVC in HEIC files: the units of a coded picture, each with its length before it (ISO/IEC 14496-15, section 8.3).

The decoder conceals what is missing and says nothing of it, so what can be seen without decoding is looked for here: a
part of the file that was never written is full of zeros, and no unit has three of them in a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rehost.images.formats.ground import Data, broken

_HEAD = 2  # bytes: ITU-T H.265, section 7.3.1.2
_NEVER = re.compile(rb"\0\0[\0-\2]|\0\Z")  # section 7.4.2.1: not within a unit, and no zero as its last byte


def check(data: Data, extents: Sequence[tuple[int, int]], length_bytes: int) -> None:
    """Return if units fill these pieces (offset, size) of the file, which are one item, to its end.

    Raises:
        VisitError: Permanent(CORRUPT).
    """
    if sum(size for _, size in extents) > len(data):  # they lie upon each other
        raise broken("an HEVC picture of more bytes than its file")
    item = b"".join(data[offset : offset + size] for offset, size in extents)
    at = 0
    while at < len(item):
        start = at + length_bytes
        at = start + int.from_bytes(item[at:start], "big")
        if at > len(item):
            raise broken("a unit of an HEVC picture that is longer than the picture")
        if at < start + _HEAD or item[start] & 0x80 or not item[start + 1] & 0x07:
            raise broken("what should be a unit of an HEVC picture is none")
        if _NEVER.search(item, start, at):
            raise broken("zeros within an HEVC picture, where there can be none")
