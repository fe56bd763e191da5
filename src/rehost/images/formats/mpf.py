"""Multi-Picture Format: where a JPEG's further pictures lie, such as a phone's gain map (CIPA DC-007, section 5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

SIGNATURE = b"MPF\0"

_ENTRIES_TAG = 0xB002
_ENTRY = 16  # bytes: attributes, size, offset, two dependent pictures


def pictures(segment: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset (from the place behind SIGNATURE) and size of each further picture that an APP2 segment lists.

    It has one list; more of them could lie over the same bytes, each as long as the segment.
    A list that makes no sense yields nothing: viewers pass over it as well.
    """
    index = segment[len(SIGNATURE) :]
    order = "<" if index[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", index, 4)
        (count,) = struct.unpack_from(f"{order}H", index, directory)
        for entry in range(count):
            tag, _, size, place = struct.unpack_from(f"{order}HHII", index, directory + 2 + 12 * entry)
            if tag == _ENTRIES_TAG:
                for at in range(place, place + size, _ENTRY):
                    _, length, offset = struct.unpack_from(f"{order}III", index, at)
                    if offset:  # the first picture's is 0, whatever its place
                        yield offset, length
                return
    except struct.error:
        return
