"""BMP and ICO: headers, and whether all rows that they announce exist."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rehost.images.formats import png
from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated

_FILE_HEADER = 14
_CORE_HEADER = 12
_HEADERS = range(16, 257)  # OS/2 2.x may shorten its 64 bytes to 16; the longest in use has 124
_RLE8, _RLE4 = 1, 2
_UNCOMPRESSED = frozenset({0, 3, 6})  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS
_DEPTHS = frozenset({1, 2, 4, 8, 16, 24, 32, 64})


@dataclass(frozen=True, slots=True)
class _Bitmap:
    """What the header of a bitmap says, in a file or in an icon."""

    header: int  # bytes
    width: int
    height: int  # rows; negative in the file if the top row comes first
    depth: int  # bits per pixel
    compression: int
    size: int  # bytes of compressed data, or 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, padded to a multiple of four."""
        return (self.width * self.depth + 31) // 32 * 4


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the BMP at byte 0; what follows its rows is ignored."""
    head = read_bytes(data, 0, _FILE_HEADER, "the header of a BMP")
    bitmap = _read_header(data, _FILE_HEADER)
    limits.check_area(bitmap.width, bitmap.height)
    pixels = int.from_bytes(head[10:14], "little")
    if pixels < _FILE_HEADER + bitmap.header:
        raise corrupt("a BMP whose rows begin within its header")
    if bitmap.compression in _UNCOMPRESSED:
        end = pixels + bitmap.row_bytes * bitmap.height
    elif bitmap.compression in (_RLE8, _RLE4):
        end = pixels + max(bitmap.size, 2)
    else:
        raise corrupt(f"a BMP with compression {bitmap.compression}, which decoders do not read")
    if end > len(data):
        raise truncated(data, f"a BMP of {end} bytes")
    return Dimensions(bitmap.width, bitmap.height)


def walk_icon(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the largest picture in the ICO at byte 0; its pictures are sizes of one, not frames."""
    count = int.from_bytes(read_bytes(data, 4, 2, "the header of an ICO"), "little")
    limits.check_frames(count)
    directory = read_bytes(data, 6, 16 * count, "the directory of an ICO")
    found: list[Dimensions] = []
    for size, offset in (struct.unpack_from("<II", directory, at + 8) for at in range(0, 16 * count, 16)):
        if offset + size > len(data):
            raise truncated(data, f"an ICO of {offset + size} bytes")
        found.append(_walk_icon_picture(data[offset : offset + size], limits))
    if not found:
        raise corrupt("an ICO without a picture")
    return max(found, key=lambda each: each.width * each.height)


def _walk_icon_picture(data: bytes, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of a PNG, or of a bitmap whose height counts both the colours and the mask."""
    if data.startswith(png.SIGNATURE):
        return png.walk(data, limits)
    bitmap = _read_header(data, 0)
    height = bitmap.height // 2
    limits.check_area(bitmap.width, height)
    if bitmap.header + bitmap.row_bytes * height > len(data):
        raise truncated(data, "a bitmap of an ICO")
    return Dimensions(bitmap.width, height)


def _read_header(data: Data, at: int) -> _Bitmap:
    """Read the bitmap header at offset `at`."""
    where = "the header of a bitmap"
    header = int.from_bytes(read_bytes(data, at, 4, where), "little")
    if header == _CORE_HEADER:
        width, height, _, depth = struct.unpack("<HHHH", read_bytes(data, at + 4, 8, where))
        compression = size = 0
    elif header in _HEADERS:
        raw = read_bytes(data, at + 4, header - 4, where).ljust(36, b"\0")
        width, height, _, depth, compression, size = struct.unpack_from("<iiHHII", raw)
    else:
        raise corrupt(f"a BMP header of {header} bytes")
    if depth not in _DEPTHS:
        raise corrupt(f"a BMP with {depth} bits per pixel")
    return _Bitmap(header, width, abs(height), depth, compression, size)
