"""BMP and ICO: headers, and whether all rows that they announce exist. Decoders do not report missing runs."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, replace

from rehost.errors import VisitError
from rehost.images.formats import png
from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated
from rehost.model import Reason

_FILE_HEADER = 14
_CORE_HEADER = 12
_HEADERS = range(16, 257)  # OS/2 2.x may shorten its 64 bytes to 16; the longest in use has 124
_RLE8, _RLE4 = 1, 2
_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2
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
    if bitmap.compression not in _UNCOMPRESSED:
        _walk_runs(data, pixels, bitmap)
    return Dimensions(bitmap.width, bitmap.height)


def _walk_runs(data: Data, at: int, bitmap: _Bitmap) -> None:
    """Check that runs fill the rows of a bitmap up to the last one ([MS-WMF], section 3.1.6); raise an error if not."""
    column = row = 0
    where = "the runs of a BMP"
    while row < bitmap.height - 1 or column < bitmap.width:
        (count, value), at = read_bytes(data, at, 2, where), at + 2
        if count:
            column += count
        elif value == _END_OF_LINE:
            column, row = 0, row + 1
        elif value == _END_OF_BITMAP:
            break
        elif value == _DELTA:
            (right, down), at = read_bytes(data, at, 2, where), at + 2
            column, row = column + right, row + down
        else:  # so many pixels as they are, padded to 16 bits
            size = value if bitmap.compression == _RLE8 else (value + 1) // 2
            column, at = column + value, at + len(read_bytes(data, at, size, where)) + size % 2
        if column > bitmap.width:
            raise corrupt("a BMP with a run beyond the end of its row")
    if row < bitmap.height - 1:
        raise corrupt(f"a BMP with runs for {row + 1} of {bitmap.height} rows")


def walk_icon(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the largest picture in the ICO at byte 0; its pictures are sizes of one, not frames."""
    count = int.from_bytes(read_bytes(data, 4, 2, "the header of an ICO"), "little")
    limits.check_frames(count)
    directory = read_bytes(data, 6, 16 * count, "the directory of an ICO")
    found, damage, largest = list[Dimensions](), None, 0
    for entry in range(0, 16 * count, 16):
        size, offset = struct.unpack_from("<II", directory, entry + 8)
        area = (directory[entry] or 256) * (directory[entry + 1] or 256)
        try:
            found.append(_walk_icon_picture(read_bytes(data, offset, size, "an ICO"), limits))
        except VisitError as error:
            damage, largest = damage or error, max(largest, area)
    if not found:
        raise damage or corrupt("an ICO without a picture")
    best = max(found, key=lambda each: each.width * each.height)
    if damage is not None and (damage.reason is Reason.TOO_LARGE or largest >= best.width * best.height):
        raise damage
    return replace(best, is_proven=False, damage=damage.evidence if damage else best.damage)


def essential_icon(data: Data) -> bytes:
    """Return an ICO without the entries of its directory that lead to no whole picture."""
    count = int.from_bytes(data[4:6], "little")
    entries = [data[6 + 16 * number : 22 + 16 * number] for number in range(count)]
    limits = ImageLimits(2**62, 2**62, 2**62)
    kept = []
    for entry in entries:
        size, offset = struct.unpack_from("<II", entry, 8)
        with suppress(VisitError):
            _walk_icon_picture(read_bytes(data, offset, size, "an ICO"), limits)
            kept.append((entry, data[offset : offset + size]))
    parts, at = [data[:4] + struct.pack("<H", len(kept))], 6 + 16 * len(kept)
    for entry, picture in kept:
        parts.append(entry[:8] + struct.pack("<II", len(picture), at))
        at += len(picture)
    return b"".join((*parts, *(picture for _, picture in kept)))


def _walk_icon_picture(data: bytes, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of a PNG, or of a bitmap whose height counts both the colours and the mask."""
    if data.startswith(png.SIGNATURE):
        found = png.walk(data, limits)
        if found.doubt is not None:
            raise found.doubt
        return found
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
