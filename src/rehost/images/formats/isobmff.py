"""AVIF, HEIC and JPEG 2000, whose files are made of boxes: is every box, item and tile-part complete?

ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (items and their properties), ISO/IEC 14496-15 (HEVC in files), AVIF 1.1,
ITU-T T.800, annexes A and I (JPEG 2000).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rehost.errors import VisitError
from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated

_BOX_HEAD = 8  # bytes: size and type
_TOP_LEVEL = frozenset(
    {
        *(b"ftyp", b"styp", b"meta", b"mdat", b"idat", b"moov", b"moof", b"mfra", b"sidx", b"free", b"skip", b"wide"),
        *(b"uuid", b"jP  ", b"jp2h", b"jp2c", b"jp2i", b"xml ", b"uinf", b"asoc", b"rreq", b"jpch", b"jplh", b"ftbl"),
    }
)
"""Types of boxes that follow others at the top level of a file; anything else counts as trailing bytes."""

_FULL_BOX = 4  # bytes: version and flags
_SAMPLE_ENTRY = 8  # version, flags and count before the entries of stsd
_VISUAL_DIMENSIONS = 24  # from the start of a visual sample entry to its width
_LENGTH_SIZE = 21  # from the start of hvcC
_CODED = frozenset({b"av01", b"hvc1"})  # items that are a picture of their own
_IN_FILE, _IN_IDAT, _ELSEWHERE = 0, 1, 2  # where the bytes of an item are; 2 means within another item

_HEVC_UNIT_HEAD = 2  # bytes: ITU-T H.265, section 7.3.1.2
_NEVER_IN_HEVC_UNIT = re.compile(rb"\0\0[\0-\2]|\0\Z")  # section 7.4.2.1: not within a unit, nor 0 as its last byte

# JPEG 2000 (ITU-T T.800, annex A)
_SOC_SIZ = b"\xff\x4f\xff\x51"
_FIRST_MARKER, _SOT, _EOC = 0xFF30, 0xFF90, 0xFFD9
_SOT_SEGMENT = 12  # bytes, with its marker


@dataclass(frozen=True, slots=True)
class _Box:
    """One box: its type and where its content is."""

    kind: bytes
    start: int
    end: int


@dataclass(slots=True)
class _Reader:
    """Reads big-endian numbers one after the other within one box."""

    data: Data
    at: int
    end: int

    def take(self, size: int) -> int:
        if self.at + size > self.end:
            raise corrupt("a box that is too short for its content")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the primary picture of an AVIF or HEIC, and the frames of its sequence if it has one."""
    boxes = {box.kind: box for box in _boxes(data, 0, len(data))}
    still = _walk_still(data, boxes[b"meta"], limits) if b"meta" in boxes else None
    sequence = _walk_sequence(data, boxes[b"moov"], limits) if b"moov" in boxes else None
    found = still or sequence
    if found is None:
        raise truncated(data, "an AVIF or HEIC, before its picture")
    limits.check_area(found.width, found.height)
    return Dimensions(found.width, found.height, sequence.frames if sequence else 1)


def _walk_still(data: Data, meta: _Box, limits: ImageLimits) -> Dimensions | None:
    """Return the dimensions of the primary item, if there is one, after checking that the bytes of every item exist."""
    parts = {box.kind: box for box in _boxes(data, meta.start + _FULL_BOX, meta.end)}
    if b"pitm" not in parts or b"iprp" not in parts:
        return None
    reader = _Reader(data, parts[b"pitm"].start, parts[b"pitm"].end)
    primary = reader.take(4 if _version(reader) else 2)
    extents = _item_extents(data, parts)
    properties = _item_properties(data, parts[b"iprp"])
    for item, kind in _item_types(data, parts.get(b"iinf")):
        if kind in _CODED and not extents.get(item):
            raise corrupt(f"a picture whose item {item} has no bytes")
        if kind == b"hvc1":
            check_hevc_units(data, extents[item], _length_bytes(data, properties.get(item, [])))
    sizes = _item_dimensions(data, properties, limits)
    if primary not in sizes:
        raise corrupt("a picture whose primary item has no dimensions")
    return sizes[primary]


def _version(reader: _Reader) -> int:
    return reader.take(_FULL_BOX) >> 24


def _item_types(data: Data, information: _Box | None) -> Iterator[tuple[int, bytes]]:
    """Yield the items and their types (ISO/IEC 14496-12, section 8.11.6; older versions of `infe` have no types)."""
    if information is None:
        return
    reader = _Reader(data, information.start, information.end)
    reader.take(4 if _version(reader) else 2)
    for entry in _boxes(data, reader.at, information.end):
        fields = _Reader(data, entry.start, entry.end)
        version = _version(fields)
        if entry.kind == b"infe" and version > 1:
            item = fields.take(2 if version == 2 else 4)  # noqa: PLR2004 - the versions differ only in this
            fields.take(2)
            yield item, fields.take(4).to_bytes(4, "big")


def _item_extents(data: Data, parts: Mapping[bytes, _Box]) -> dict[int, list[tuple[int, int]]]:
    """Return where the bytes of each item are in the file, as offset and size; without items that are elsewhere."""
    extents: dict[int, list[tuple[int, int]]] = {}
    if b"iloc" not in parts:
        return extents
    inner = parts.get(b"idat")
    for item, method, offset, length in _locations(_Reader(data, parts[b"iloc"].start, parts[b"iloc"].end)):
        start = offset
        if method == _IN_IDAT:
            if inner is None or offset + length > inner.end - inner.start:
                raise corrupt("a picture whose item does not fit into its box")
            start = inner.start + offset
        elif method == _IN_FILE and offset + length > len(data):
            raise truncated(data, f"a picture of {offset + length} bytes")
        if method in {_IN_FILE, _IN_IDAT} and length:
            extents.setdefault(item, []).append((start, length))
    return extents


def _item_properties(data: Data, container: _Box) -> dict[int, list[_Box]]:
    """Return the properties of each item (ipco, ipma)."""
    listing = _first(data, container, b"ipco")
    listed = list(_boxes(data, listing.start, listing.end)) if listing else []
    properties: dict[int, list[_Box]] = {}
    for association in _every(data, container, b"ipma"):
        for item, index in _associations(_Reader(data, association.start, association.end)):
            if 0 < index <= len(listed):
                properties.setdefault(item, []).append(listed[index - 1])
    return properties


def _item_dimensions(data: Data, properties: Mapping[int, list[_Box]], limits: ImageLimits) -> dict[int, Dimensions]:
    """Return the dimensions of the items (ispe, cropped by clap); the coded dimensions are held to the limits."""
    sizes: dict[int, Dimensions] = {}
    for item, listed in properties.items():
        of_kind = {each.kind: each for each in listed}
        if b"ispe" in of_kind:
            reader = _Reader(data, of_kind[b"ispe"].start + _FULL_BOX, of_kind[b"ispe"].end)
            sizes[item] = Dimensions(reader.take(4), reader.take(4))
            limits.check_area(sizes[item].width, sizes[item].height)
            if b"clap" in of_kind:
                sizes[item] = _cropped(sizes[item], _Reader(data, of_kind[b"clap"].start, of_kind[b"clap"].end))
    return sizes


def _cropped(coded: Dimensions, aperture: _Reader) -> Dimensions:
    """Return the visible part of a picture: its clean aperture (ISO/IEC 14496-12, section 12.1.4), if it fits."""
    width, width_per, height, height_per = (aperture.take(4) for _ in range(4))
    shown = Dimensions(width // (width_per or 1), height // (height_per or 1))
    fits = 0 < shown.width <= coded.width and 0 < shown.height <= coded.height
    return shown if fits else coded


def _length_bytes(data: Data, properties: Sequence[_Box]) -> int:
    """Return how many bytes hold the length of each unit (hvcC; ISO/IEC 14496-15, section 8.3.3.1)."""
    for each in properties:
        if each.kind == b"hvcC":
            return (_Reader(data, each.start + _LENGTH_SIZE, each.end).take(1) & 3) + 1
    raise corrupt("an HEVC picture without its configuration")


def _associations(reader: _Reader) -> Iterator[tuple[int, int]]:
    """Yield item and property number (ISO/IEC 23008-12, section 9.3)."""
    head = reader.take(_FULL_BOX)
    item_bytes, index_bytes = (4 if head >> 24 else 2), (2 if head & 1 else 1)
    for _ in range(reader.take(4)):
        item = reader.take(item_bytes)
        for _ in range(reader.take(1)):
            yield item, reader.take(index_bytes) & (0x7FFF if index_bytes > 1 else 0x7F)


def _locations(reader: _Reader) -> Iterator[tuple[int, int, int, int]]:
    """Yield the extents of the items: item, method, offset, length (ISO/IEC 14496-12, section 8.11.3)."""
    version, sizes = _version(reader), reader.take(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    wide = 4 if version > 1 else 2
    for _ in range(reader.take(wide)):
        item = reader.take(wide)
        method = reader.take(2) & 15 if version else _IN_FILE
        method = method if not reader.take(2) else _ELSEWHERE
        base = reader.take(base_bytes)
        count = reader.take(2)
        for _ in range(count if index_bytes + offset_bytes + length_bytes else min(count, 1)):  # others are identical
            reader.take(index_bytes)
            offset, length = reader.take(offset_bytes), reader.take(length_bytes)
            yield item, method, base + offset, length


def _walk_sequence(data: Data, movie: _Box, limits: ImageLimits) -> Dimensions | None:
    """Return the dimensions of the first track of pictures; its samples are in an mdat box, which was walked."""
    for track in _every(data, movie, b"trak"):
        media = _first(data, track, b"mdia")
        handler = media and _first(data, media, b"hdlr")
        if media and handler and data[handler.start + 8 : handler.start + 12] == b"pict":
            return _read_track(data, media, limits)
    return None


def _read_track(data: Data, media: _Box, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of a track by its sample table (ISO/IEC 14496-12, section 8.5)."""
    information = _first(data, media, b"minf")
    table = information and _first(data, information, b"stbl")
    samples = table and _first(data, table, b"stsz")
    described = table and _first(data, table, b"stsd")
    entry = described and next(_boxes(data, described.start + _SAMPLE_ENTRY, described.end), None)
    if not samples or not entry:
        raise corrupt("a sequence without its samples")
    frames = _Reader(data, samples.start + 8, samples.end).take(4)
    limits.check_frames(frames)
    dimensions = _Reader(data, entry.start + _VISUAL_DIMENSIONS, entry.end)
    return Dimensions(dimensions.take(2), dimensions.take(2), frames)


def check_hevc_units(data: Data, extents: Sequence[tuple[int, int]], length_bytes: int) -> None:
    """Check that units of HEVC, each after its length, fill these extents (offset, size) of one item to their end.

    The decoder conceals missing data without a report, so this looks for what is visible without decoding: a part of
    the file that was never written is full of zeros, and no unit has three of them in a row (14496-15, section 8.3).

    Raises:
        VisitError: Permanent(CORRUPT).
    """
    if sum(size for _, size in extents) > len(data):  # they overlap
        raise corrupt("an HEVC picture of more bytes than its file")
    item = b"".join(data[offset : offset + size] for offset, size in extents)
    at = 0
    while at < len(item):
        start = at + length_bytes
        at = start + int.from_bytes(item[at:start], "big")
        if at > len(item):
            raise corrupt("a unit of an HEVC picture that is longer than the picture")
        if at < start + _HEVC_UNIT_HEAD or item[start] & 0x80 or not item[start + 1] & 0x07:
            raise corrupt("an HEVC picture with other bytes where a unit should be")
        if _NEVER_IN_HEVC_UNIT.search(item, start, at):
            raise corrupt("an HEVC picture with zeros where it can have none")


def walk_jpeg2000(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the JPEG 2000 picture; what follows its codestream is ignored."""
    if data[:4] == _SOC_SIZ:
        return _walk_codestream(data, 0, len(data), limits)
    found: Dimensions | None = None
    for box in _boxes(data, 0, len(data)):  # to the last one: a file that ends within its metadata is truncated as well
        if box.kind == b"jp2c" and found is None:
            found = _walk_codestream(data, box.start, box.end, limits)
    if found is None:
        raise truncated(data, "a JPEG 2000, before its codestream")
    return found


def _walk_codestream(data: Data, start: int, end: int, limits: ImageLimits) -> Dimensions:
    """Walk from the size segment (section A.5.1) to the end of the codestream (section A.4)."""
    where = "the codestream of a JPEG 2000"
    if read_bytes(data, start, 4, where) != _SOC_SIZ:
        raise corrupt("a JPEG 2000 codestream without its size")
    _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", read_bytes(data, start + 4, 38, where))
    limits.check_area(right - left, bottom - top)
    at, tiles = start + 2, 0
    while True:
        marker = int.from_bytes(read_bytes(data, at, 2, where), "big")
        if marker == _SOT:
            tiles += 1
            at = _skip_tile_part(data, at, end)
        elif tiles:
            break
        elif marker < _FIRST_MARKER:
            raise corrupt("a JPEG 2000 header with other bytes between its segments")
        else:
            at += 2 + max(2, int.from_bytes(read_bytes(data, at + 2, 2, where), "big"))
    if marker != _EOC:
        raise corrupt("a JPEG 2000 without its end of codestream")
    return Dimensions(right - left, bottom - top)


def _skip_tile_part(data: Data, at: int, end: int) -> int:
    """Return the offset after a tile-part; one of length 0 extends to the end of the codestream (section A.4.2)."""
    length = int.from_bytes(read_bytes(data, at + 6, 4, "a tile-part of a JPEG 2000"), "big")
    if length == 0:
        if data[end - 2 : end] != _EOC.to_bytes(2, "big"):
            raise truncated(data, "the last tile-part of a JPEG 2000")
        return end - 2
    if length < _SOT_SEGMENT:
        raise corrupt(f"a JPEG 2000 tile-part of {length} bytes")
    if at + length > len(data):
        raise truncated(data, "a tile-part of a JPEG 2000")
    return at + length


def _boxes(data: Data, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes that fill `start` to `end` (ISO/IEC 14496-12, section 4.2).

    At the end of a file, bytes that cannot be a box are ignored. A box that extends beyond the end of the file is
    truncated, one that extends beyond the end of its parent is corrupt.
    """
    at = start
    while at < end:
        head = data[at : min(at + _BOX_HEAD, end)]
        if start == 0 < at and not _can_be_box(head):
            return
        if len(head) < _BOX_HEAD:
            raise _overrun(data, end, "the head of a box")
        size, kind, content = int.from_bytes(head[:4], "big"), head[4:], at + _BOX_HEAD
        if size == 1:
            size, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        elif size == 0:  # to the end of the file
            size = end - at
        if at + size < content:
            raise corrupt(f"a box {kind!r} of {size} bytes")
        if at + size > end:
            raise _overrun(data, end, f"its box {kind!r}")
        yield _Box(kind, content, at + size)
        at += size


def _first(data: Data, parent: _Box, kind: bytes) -> _Box | None:
    """Return the first box of a type in a parent that has no fields of its own."""
    return next((box for box in _boxes(data, parent.start, parent.end) if box.kind == kind), None)


def _every(data: Data, parent: _Box, kind: bytes) -> list[_Box]:
    """Return all boxes of a type in a parent that has no fields of its own."""
    return [box for box in _boxes(data, parent.start, parent.end) if box.kind == kind]


def _can_be_box(head: bytes) -> bool:
    """Return whether these bytes begin a top-level box, or are the first bytes of such a beginning."""
    return head[4:] in _TOP_LEVEL if len(head) == _BOX_HEAD else head[0] == 0


def _overrun(data: Data, end: int, what: str) -> VisitError:
    """Return the error for something that is longer than what contains it."""
    return truncated(data, what) if end >= len(data) else corrupt(f"{what} is longer than what contains it")
