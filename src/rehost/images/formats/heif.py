"""AVIF and HEIC: boxes to the file's end, the primary item's dimensions, and whether every item's bytes are there.

ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (items and their properties), AVIF 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rehost.images.formats import hevc
from rehost.images.formats.boxes import Box, boxes, every, first
from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut

_FULL = 4  # version and flags of a full box
_SAMPLE_ENTRY = 8  # version, flags and count before the entries of stsd
_VISUAL_DIMENSIONS = 24  # from a visual sample entry's start to its width
_LENGTH_SIZE = 21  # from hvcC's start
_CODED = frozenset({b"av01", b"hvc1"})  # items that are a picture of their own
_IN_FILE, _IN_IDAT, _ELSEWHERE = 0, 1, 2  # how an item's place is told; 2 is: within another item


@dataclass(slots=True)
class _Reader:
    """Big-endian numbers, one after the other, within one box."""

    data: Data
    at: int
    end: int

    def take(self, size: int) -> int:
        if self.at + size > self.end:
            raise broken("a box that is too short for what it says")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the primary picture, with the frames of its sequence where it has one.

    Raises:
        VisitError: Transient(TRUNCATED) where bytes are missing, Permanent otherwise.
    """
    meta: Box | None = None
    movie: Box | None = None
    for box in boxes(data, 0, len(data)):
        meta = box if box.kind == b"meta" else meta
        movie = box if box.kind == b"moov" else movie
    still = _still(data, meta, limits) if meta else None
    sequence = _sequence(data, movie, limits) if movie else None
    extent = still or sequence
    if extent is None:
        raise cut(data, "a file before its picture")
    limits.area(extent.width, extent.height)
    return Dimensions(extent.width, extent.height, sequence.frames if sequence else 1)


def _still(data: Data, meta: Box, limits: ImageLimits) -> Dimensions | None:
    """Return the primary item's extent, if there is one, having looked that every item's bytes are there."""
    parts = {box.kind: box for box in boxes(data, meta.start + _FULL, meta.end)}
    if b"pitm" not in parts or b"iprp" not in parts:
        return None
    reader = _Reader(data, parts[b"pitm"].start, parts[b"pitm"].end)
    primary = reader.take(4 if _version(reader) else 2)
    places = _places(data, parts)
    properties = _properties(data, parts[b"iprp"])
    for item, kind in _kinds(data, parts.get(b"iinf")):
        if kind in _CODED and not places.get(item):
            raise broken(f"a picture whose item {item} has no bytes")
        if kind == b"hvc1":
            hevc.check(data, places[item], _length_bytes(data, properties.get(item, [])))
    sizes = _sizes(data, properties, limits)
    if primary not in sizes:
        raise broken("a picture whose primary item has no dimensions")
    return sizes[primary]


def _version(reader: _Reader) -> int:
    return reader.take(_FULL) >> 24


def _kinds(data: Data, information: Box | None) -> Iterator[tuple[int, bytes]]:
    """Yield the items and their types (ISO/IEC 14496-12, section 8.11.6; older versions of `infe` have no types)."""
    if information is None:
        return
    reader = _Reader(data, information.start, information.end)
    reader.take(4 if _version(reader) else 2)
    for entry in boxes(data, reader.at, information.end):
        fields = _Reader(data, entry.start, entry.end)
        version = _version(fields)
        if entry.kind == b"infe" and version > 1:
            item = fields.take(2 if version == 2 else 4)  # noqa: PLR2004 - the versions differ in this alone
            fields.take(2)
            yield item, fields.take(4).to_bytes(4, "big")


def _places(data: Data, parts: Mapping[bytes, Box]) -> dict[int, list[tuple[int, int]]]:
    """Return where the bytes of each item lie in the file: offset and size; not of those that lie elsewhere.

    Raises:
        VisitError: they lie behind the file's end, or behind that of the box that is said to hold them.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    if b"iloc" not in parts:
        return places
    inner = parts.get(b"idat")
    for item, method, offset, length in _locations(_Reader(data, parts[b"iloc"].start, parts[b"iloc"].end)):
        start = offset
        if method == _IN_IDAT:
            if inner is None or offset + length > inner.end - inner.start:
                raise broken("a picture whose item does not fit into its box")
            start = inner.start + offset
        elif method == _IN_FILE and offset + length > len(data):
            raise cut(data, f"a picture of {offset + length} bytes")
        if method in {_IN_FILE, _IN_IDAT} and length:
            places.setdefault(item, []).append((start, length))
    return places


def _properties(data: Data, container: Box) -> dict[int, list[Box]]:
    """Return the properties of each item (ipco, ipma)."""
    listing = first(data, container, b"ipco")
    listed = list(boxes(data, listing.start, listing.end)) if listing else []
    properties: dict[int, list[Box]] = {}
    for association in every(data, container, b"ipma"):
        for item, index in _associations(_Reader(data, association.start, association.end)):
            if 0 < index <= len(listed):
                properties.setdefault(item, []).append(listed[index - 1])
    return properties


def _sizes(data: Data, properties: Mapping[int, list[Box]], limits: ImageLimits) -> dict[int, Dimensions]:
    """Return the items' dimensions (ispe, less what clap cuts off); all of them are held to the limits as coded."""
    sizes: dict[int, Dimensions] = {}
    for item, listed in properties.items():
        of_kind = {each.kind: each for each in listed}
        if b"ispe" in of_kind:
            reader = _Reader(data, of_kind[b"ispe"].start + _FULL, of_kind[b"ispe"].end)
            sizes[item] = Dimensions(reader.take(4), reader.take(4))
            limits.area(sizes[item].width, sizes[item].height)
            if b"clap" in of_kind:
                sizes[item] = _cropped(sizes[item], _Reader(data, of_kind[b"clap"].start, of_kind[b"clap"].end))
    return sizes


def _cropped(coded: Dimensions, aperture: _Reader) -> Dimensions:
    """Return what is shown of a picture: its clean aperture (ISO/IEC 14496-12, section 12.1.4), if that lies within."""
    width, width_per, height, height_per = (aperture.take(4) for _ in range(4))
    shown = Dimensions(width // (width_per or 1), height // (height_per or 1))
    fits = 0 < shown.width <= coded.width and 0 < shown.height <= coded.height
    return shown if fits else coded


def _length_bytes(data: Data, properties: Sequence[Box]) -> int:
    """Return of how many bytes the length before each unit is (hvcC; ISO/IEC 14496-15, section 8.3.3.1)."""
    configuration = next((each for each in properties if each.kind == b"hvcC"), None)
    if configuration is None:
        raise broken("an HEVC picture without its configuration")
    return (_Reader(data, configuration.start + _LENGTH_SIZE, configuration.end).take(1) & 3) + 1


def _associations(reader: _Reader) -> Iterator[tuple[int, int]]:
    """Yield item and property number (ISO/IEC 23008-12, section 9.3)."""
    head = reader.take(_FULL)
    item_bytes, index_bytes = (4 if head >> 24 else 2), (2 if head & 1 else 1)
    for _ in range(reader.take(4)):
        item = reader.take(item_bytes)
        for _ in range(reader.take(1)):
            yield item, reader.take(index_bytes) & (0x7FFF if index_bytes > 1 else 0x7F)


def _locations(reader: _Reader) -> Iterator[tuple[int, int, int, int]]:
    """Yield the pieces of the items: item, method, offset, length (ISO/IEC 14496-12, section 8.11.3)."""
    version, sizes = _version(reader), reader.take(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    wide = 4 if version > 1 else 2
    for _ in range(reader.take(wide)):
        item = reader.take(wide)
        method = reader.take(2) & 15 if version else _IN_FILE
        method = method if not reader.take(2) else _ELSEWHERE
        base = reader.take(base_bytes)
        extents = reader.take(2)
        for _ in range(extents if index_bytes + offset_bytes + length_bytes else min(extents, 1)):  # else all the same
            reader.take(index_bytes)
            offset, length = reader.take(offset_bytes), reader.take(length_bytes)
            yield item, method, base + offset, length


def _sequence(data: Data, movie: Box, limits: ImageLimits) -> Dimensions | None:
    """Return the extent of the first track of pictures; its samples lie in an mdat box, whose end was seen."""
    for track in every(data, movie, b"trak"):
        media = first(data, track, b"mdia")
        handler = media and first(data, media, b"hdlr")
        if media and handler and data[handler.start + 8 : handler.start + 12] == b"pict":
            return _track(data, media, limits)
    return None


def _track(data: Data, media: Box, limits: ImageLimits) -> Dimensions:
    """Return the extent of a track by its sample table (ISO/IEC 14496-12, section 8.5)."""
    information = first(data, media, b"minf")
    table = information and first(data, information, b"stbl")
    samples = table and first(data, table, b"stsz")
    described = table and first(data, table, b"stsd")
    entry = described and next(boxes(data, described.start + _SAMPLE_ENTRY, described.end), None)
    if not samples or not entry:
        raise broken("a sequence without its samples")
    frames = _Reader(data, samples.start + 8, samples.end).take(4)
    limits.count(frames)
    dimensions = _Reader(data, entry.start + _VISUAL_DIMENSIONS, entry.end)
    return Dimensions(dimensions.take(2), dimensions.take(2), frames)
