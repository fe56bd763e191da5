"""TIFF and BigTIFF: the chain of directories, and whether the strips or tiles of each page are there (TIFF 6.0)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut

_WIDTH, _HEIGHT = 256, 257
# (offsets, byte counts): strips, tiles, and the one JPEG stream of old (section 22)
_PLACES = ((273, 279), (324, 325), (513, 514))
# What makes the picture: dimensions, samples, compression, colours. Any other field may be damaged without harm to it.
_NEEDED = frozenset(
    {
        *(_WIDTH, _HEIGHT, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 332, 338, 339, 347),
        *range(512, 522),  # JPEG of old
        *range(529, 533),  # YCbCr
        *(tag for pair in _PLACES for tag in pair),
    }
)
# field type -> bytes of a value (section 2; BigTIFF)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# the types that are whole numbers; signed ones are read by viewers as well
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What differs between TIFF and BigTIFF, and between the byte orders."""

    order: str
    big: bool

    @property
    def word(self) -> str:
        return "Q" if self.big else "I"

    @property
    def word_bytes(self) -> int:
        return 8 if self.big else 4

    @property
    def count_bytes(self) -> int:
        return 8 if self.big else 2

    @property
    def entry_bytes(self) -> int:
        return 20 if self.big else 12

    def number(self, raw: bytes) -> int:
        return int.from_bytes(raw, "little" if self.order == "<" else "big")


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the first page, with the number of pages as frames.

    Raises:
        VisitError: Transient(TRUNCATED) where a directory, strip or tile is missing, Permanent otherwise.
    """
    order = "<" if data[:2] == b"II" else ">"
    shape = _Shape(order, big=data[2:4] in (b"+\0", b"\0+"))
    at, pages, seen = shape.number(_piece(data, 8 if shape.big else 4, shape.word_bytes)), [], set[int]()
    while at and at not in seen:
        seen.add(at)
        limits.count(len(seen))
        fields, at = _directory(data, at, shape)
        pages.append(_page(data, fields, limits))
    if not pages:
        raise broken("a TIFF without a page")
    return Dimensions(pages[0].width, pages[0].height, len(pages))


def _directory(data: Data, at: int, shape: _Shape) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the fields that matter here, and the place of the next directory (section 2)."""
    count = shape.number(_piece(data, at, shape.count_bytes))
    at += shape.count_bytes
    end = at + count * shape.entry_bytes
    raw = _piece(data, at, count * shape.entry_bytes + shape.word_bytes)
    fields: dict[int, tuple[int, ...]] = {}
    for entry in range(0, end - at, shape.entry_bytes):
        tag, kind, values = struct.unpack_from(f"{shape.order}HH{shape.word}", raw, entry)
        if tag in _NEEDED and kind in _SIZES and tag not in fields:
            value = raw[entry + shape.entry_bytes - shape.word_bytes : entry + shape.entry_bytes]
            fields[tag] = _values(data, kind, values, value, shape)
    return fields, shape.number(raw[end - at :])


def _values(data: Data, kind: int, count: int, value: bytes, shape: _Shape) -> tuple[int, ...]:
    """Return a field's values if they are numbers, from within the entry where they fit, else from where it points."""
    size = _SIZES[kind] * count
    raw = value[:size] if size <= shape.word_bytes else _piece(data, shape.number(value), size)
    return struct.unpack(f"{shape.order}{count}{_NUMBERS[kind]}", raw) if kind in _NUMBERS else ()


def _page(data: Data, fields: dict[int, tuple[int, ...]], limits: ImageLimits) -> Dimensions:
    """Return a page's extent, having looked that its picture's bytes are there."""
    try:
        extent = Dimensions(fields[_WIDTH][0], fields[_HEIGHT][0])
    except (KeyError, IndexError):
        raise broken("a TIFF page without dimensions") from None
    limits.area(extent.width, extent.height)
    end = max((offset + size for offset, size in _places(fields)), default=None)
    if end is None:
        raise broken("a TIFF page without a picture")
    if end > len(data):
        raise cut(data, f"a TIFF of {end} bytes")
    return extent


def _places(fields: dict[int, tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """Yield offset and size of all strips and tiles; a count that is missing says nothing about the end."""
    for offsets, counts in _PLACES:
        if offsets in fields:
            starts, sizes = fields[offsets], fields.get(counts, ())
            if not starts or min(starts + sizes) < 0:
                raise broken("a TIFF page whose picture lies nowhere")
            yield from zip(starts, chain(sizes, repeat(0)), strict=False)


def _piece(data: Data, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise cut(data, "a TIFF directory or one of its fields")
    return data[at : at + size]
