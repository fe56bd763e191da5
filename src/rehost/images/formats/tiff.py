"""TIFF and BigTIFF: the chain of directories, and whether the strips or tiles of each page exist (TIFF 6.0)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Literal

from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated

_WIDTH, _HEIGHT = 256, 257
# (offsets, byte counts): strips, tiles, and the one JPEG stream of old files (section 22)
_LOCATIONS = ((273, 279), (324, 325), (513, 514))
# The fields that make the picture: dimensions, samples, compression, colours. Others may be damaged without harm.
_NEEDED = frozenset(
    {
        *(_WIDTH, _HEIGHT, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 332, 338, 339, 347),
        *range(512, 522),  # JPEG in old files
        *range(529, 533),  # YCbCr
        *(tag for pair in _LOCATIONS for tag in pair),
    }
)
# field type -> bytes of a value (section 2; BigTIFF)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# the types that are integers; viewers accept signed ones as well
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class _Variant:
    """What differs between TIFF and BigTIFF, and between the byte orders."""

    order: Literal["little", "big"]
    prefix: str  # of the format of a struct
    word: str  # an offset or a count of values, as a struct's format
    word_bytes: int
    count_bytes: int  # of the number of entries in a directory
    entry_bytes: int

    def number(self, raw: bytes) -> int:
        return int.from_bytes(raw, self.order)


def _variant(data: Data) -> _Variant:
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    prefix = "<" if order == "little" else ">"
    if data[2:4] in (b"+\0", b"\0+"):
        return _Variant(order, prefix, "Q", word_bytes=8, count_bytes=8, entry_bytes=20)
    return _Variant(order, prefix, "I", word_bytes=4, count_bytes=2, entry_bytes=12)


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the first page, with the number of pages as frames."""
    variant = _variant(data)
    at, pages, seen = variant.number(_read(data, variant.word_bytes, variant.word_bytes)), [], set[int]()
    while at and at not in seen:
        seen.add(at)
        limits.check_frames(len(seen))
        fields, at = _directory(data, at, variant)
        pages.append(_page(data, fields, limits))
    if not pages:
        raise corrupt("a TIFF without a page")
    return Dimensions(pages[0].width, pages[0].height, len(pages))


def _directory(data: Data, at: int, variant: _Variant) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the fields that matter here, and the offset of the next directory (section 2)."""
    count = variant.number(_read(data, at, variant.count_bytes))
    at += variant.count_bytes
    end = at + count * variant.entry_bytes
    raw = _read(data, at, count * variant.entry_bytes + variant.word_bytes)
    fields: dict[int, tuple[int, ...]] = {}
    for entry in range(0, end - at, variant.entry_bytes):
        tag, kind, values = struct.unpack_from(f"{variant.prefix}HH{variant.word}", raw, entry)
        if tag in _NEEDED and kind in _SIZES and tag not in fields:
            value = raw[entry + variant.entry_bytes - variant.word_bytes : entry + variant.entry_bytes]
            fields[tag] = _values(data, kind, values, value, variant)
    return fields, variant.number(raw[end - at :])


def _values(data: Data, kind: int, count: int, value: bytes, variant: _Variant) -> tuple[int, ...]:
    """Return the values of a field if they are numbers: from the entry if they fit, otherwise from where it points."""
    size = _SIZES[kind] * count
    raw = value[:size] if size <= variant.word_bytes else _read(data, variant.number(value), size)
    return struct.unpack(f"{variant.prefix}{count}{_NUMBERS[kind]}", raw) if kind in _NUMBERS else ()


def _page(data: Data, fields: dict[int, tuple[int, ...]], limits: ImageLimits) -> Dimensions:
    """Return the dimensions of a page, after checking that the bytes of its picture exist."""
    try:
        found = Dimensions(fields[_WIDTH][0], fields[_HEIGHT][0])
    except (KeyError, IndexError):
        raise corrupt("a TIFF page without dimensions") from None
    limits.check_area(found.width, found.height)
    end = max((offset + size for offset, size in _locations(fields)), default=None)
    if end is None:
        raise corrupt("a TIFF page without a picture")
    if end > len(data):
        raise truncated(data, f"a TIFF of {end} bytes")
    return found


def _locations(fields: dict[int, tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """Yield offset and size of all strips and tiles; the size is 0 if it is missing."""
    for offsets, counts in _LOCATIONS:
        if offsets in fields:
            starts, sizes = fields[offsets], fields.get(counts, ())
            if not starts or min(starts + sizes) < 0:
                raise corrupt("a TIFF page whose picture is nowhere")
            yield from zip(starts, chain(sizes, repeat(0)), strict=False)


def _read(data: Data, at: int, size: int) -> bytes:
    return read_bytes(data, at, size, "a directory or field of a TIFF")
