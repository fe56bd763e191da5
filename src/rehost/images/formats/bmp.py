"""BMP: headers, and whether all rows that they announce are there."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut, piece

_FILE_HEADER = 14
_CORE_HEADER = 12
_HEADERS = range(16, 257)  # OS/2 2.x may cut its 64 bytes to 16; the longest in use has 124
_RLE8, _RLE4 = 1, 2
_UNCOMPRESSED = frozenset({0, 3, 6})  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS
_DEPTHS = frozenset({1, 2, 4, 8, 16, 24, 32, 64})


@dataclass(frozen=True, slots=True)
class Bitmap:
    """What a bitmap's header says; a file and an icon have it in common."""

    header: int  # bytes
    width: int
    height: int  # rows; negative in the file where the first row is the top one
    depth: int  # bits of a pixel
    compression: int
    size: int  # bytes of compressed data, or 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, padded to a multiple of four."""
        return (self.width * self.depth + 31) // 32 * 4


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the BMP that begins at byte 0; what follows its rows is ignored.

    Raises:
        VisitError: Transient(TRUNCATED) where rows are missing, Permanent otherwise.
    """
    head = piece(data, 0, _FILE_HEADER, "a BMP's head")
    bitmap = read_header(data, _FILE_HEADER)
    limits.area(bitmap.width, bitmap.height)
    pixels = int.from_bytes(head[10:14], "little")
    if pixels < _FILE_HEADER + bitmap.header:
        raise broken("a BMP whose rows begin within its header")
    if bitmap.compression in _UNCOMPRESSED:
        end = pixels + bitmap.row_bytes * bitmap.height
    elif bitmap.compression in (_RLE8, _RLE4):
        end = pixels + max(bitmap.size, 2)
    else:
        raise broken(f"a BMP with compression {bitmap.compression}, which decoders do not read")
    if end > len(data):
        raise cut(data, f"a BMP of {end} bytes")
    return Dimensions(bitmap.width, bitmap.height)


def read_header(data: Data, at: int) -> Bitmap:
    """Read the bitmap header at that place.

    Raises:
        VisitError: Transient(TRUNCATED) where it is not all there, Permanent(CORRUPT) where it makes no sense.
    """
    header = int.from_bytes(piece(data, at, 4, "a BMP's head"), "little")
    if header == _CORE_HEADER:
        width, height, _, depth = struct.unpack("<HHHH", piece(data, at + 4, 8, "a BMP's head"))
        compression = size = 0
    elif header in _HEADERS:
        raw = piece(data, at + 4, header - 4, "a BMP's head").ljust(36, b"\0")
        width, height, _, depth, compression, size = struct.unpack_from("<iiHHII", raw)
    else:
        raise broken(f"a BMP header of {header} bytes")
    if depth not in _DEPTHS:
        raise broken(f"a BMP of {depth} bits a pixel")
    return Bitmap(header, width, abs(height), depth, compression, size)
