"""PNG and APNG: chunks with their checksums to IEND (PNG, third edition)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut, piece

_HEADER_BYTES = 13
_INDEXED = 3  # the colour type that needs a palette
SIGNATURE = b"\x89PNG\r\n\x1a\n"

# colour type -> bit depths (section 11.2.1)
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}


@dataclass(slots=True)
class _Seen:
    """What the chunks so far have said."""

    width: int = 0
    height: int = 0
    palette: bool = False
    palette_needed: bool = False
    data: bool = False
    announced: int = 0  # frames, by acTL
    controls: int = 0  # fcTL chunks


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the PNG that begins at byte 0; what follows IEND is ignored.

    Raises:
        VisitError: Transient(TRUNCATED) without IEND, Permanent otherwise.
    """
    seen, at, kind = _Seen(), len(SIGNATURE), b""
    with memoryview(data) as view:
        while kind != b"IEND":
            head = piece(data, at, 8, "a PNG chunk's head")
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if not kind.isalpha() or length >= 2**31:
                raise broken(f"a PNG chunk called {kind!r} of {length} bytes")
            end = at + 8 + length
            if end + 4 > len(data):
                raise cut(data, f"a PNG's {kind.decode()}")
            if zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                raise broken(f"a PNG's {kind.decode()} that its checksum does not fit")
            _take(seen, kind, data, at + 8, length, limits)
            at = end + 4
    if not seen.data or (seen.palette_needed and not seen.palette):
        raise broken("a PNG without its picture or its palette")
    return Dimensions(seen.width, seen.height, max(1, min(seen.announced, seen.controls)))


def _take(seen: _Seen, kind: bytes, data: Data, at: int, length: int, limits: ImageLimits) -> None:
    """Learn what one chunk says."""
    if not seen.width:
        if kind != b"IHDR" or length != _HEADER_BYTES:
            raise broken("a PNG that does not begin with a header")
        _header(seen, data[at : at + length], limits)
    elif kind == b"PLTE":
        seen.palette = True
    elif kind == b"IDAT":
        seen.data = seen.data or length > 0
    elif kind == b"acTL" and not seen.data:
        seen.announced = int.from_bytes(data[at : at + 4], "big")
        limits.count(seen.announced)
    elif kind == b"fcTL":
        seen.controls += 1


def _header(seen: _Seen, header: bytes, limits: ImageLimits) -> None:
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    limits.area(width, height)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise broken("a PNG header with values that do not exist")
    seen.width, seen.height, seen.palette_needed = width, height, colour == _INDEXED
