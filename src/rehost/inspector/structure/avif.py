"""AVIF: boxes to the end of the file, the primary item's dimensions, and whether every item's bytes are there.

ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (items and their properties), AVIF 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rehost.inspector.structure.boxes import Box, boxes, every, first
from rehost.inspector.structure.ground import Ceiling, Data, Extent, broken, cut

_FULL = 4  # version and flags of a full box
_SAMPLE_ENTRY = 8  # version, flags and count before the entries of stsd
_VISUAL_DIMENSIONS = 24  # from a visual sample entry's start to its width


@dataclass(slots=True)
class _Reader:
    """Big-endian numbers, one after the other, within one box."""

    data: Data
    at: int
    end: int

    def take(self, size: int) -> int:
        if self.at + size > self.end:
            raise broken("an AVIF box that is too short for what it says")
        self.at += size
        return int.from_bytes(self.data[self.at - size : self.at], "big")


def walk(data: Data, limits: Ceiling) -> Extent:
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
        raise cut(data, "an AVIF before its picture")
    limits.area(extent.width, extent.height)
    return Extent(extent.width, extent.height, sequence.frames if sequence else 1)


def _still(data: Data, meta: Box, limits: Ceiling) -> Extent | None:
    """Return the primary item's extent, if there is one, having looked that every item's bytes are there."""
    parts = {box.kind: box for box in boxes(data, meta.start + _FULL, meta.end)}
    if b"pitm" not in parts or b"iprp" not in parts:
        return None
    reader = _Reader(data, parts[b"pitm"].start, parts[b"pitm"].end)
    primary = reader.take(4 if _version(reader) else 2)
    if b"iloc" in parts:
        for offset, length in _locations(_Reader(data, parts[b"iloc"].start, parts[b"iloc"].end)):
            if offset + length > len(data):
                raise cut(data, f"an AVIF of {offset + length} bytes")
    sizes = _sizes(data, parts[b"iprp"], limits)
    if primary not in sizes:
        raise broken("an AVIF whose primary picture has no dimensions")
    return sizes[primary]


def _version(reader: _Reader) -> int:
    return reader.take(_FULL) >> 24


def _sizes(data: Data, properties: Box, limits: Ceiling) -> dict[int, Extent]:
    """Return the items' dimensions (ispe), by item (ipma); all of them are held to the limits."""
    container = first(data, properties, b"ipco")
    listed = list(boxes(data, container.start, container.end)) if container else []
    sizes: dict[int, Extent] = {}
    for association in every(data, properties, b"ipma"):
        for item, index in _associations(_Reader(data, association.start, association.end)):
            if 0 < index <= len(listed) and listed[index - 1].kind == b"ispe":
                reader = _Reader(data, listed[index - 1].start + _FULL, listed[index - 1].end)
                sizes[item] = Extent(reader.take(4), reader.take(4))
                limits.area(sizes[item].width, sizes[item].height)
    return sizes


def _associations(reader: _Reader) -> Iterator[tuple[int, int]]:
    """Yield item and property number (ISO/IEC 23008-12, section 9.3)."""
    head = reader.take(_FULL)
    item_bytes, index_bytes = (4 if head >> 24 else 2), (2 if head & 1 else 1)
    for _ in range(reader.take(4)):
        item = reader.take(item_bytes)
        for _ in range(reader.take(1)):
            yield item, reader.take(index_bytes) & (0x7FFF if index_bytes > 1 else 0x7F)


def _locations(reader: _Reader) -> Iterator[tuple[int, int]]:
    """Yield where in the file the items' bytes lie (ISO/IEC 14496-12, section 8.11.3)."""
    version, sizes = _version(reader), reader.take(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    wide = 4 if version > 1 else 2
    for _ in range(reader.take(wide)):
        reader.take(wide)
        in_file = not (reader.take(2) & 15 if version else 0)
        reader.take(2)
        base = reader.take(base_bytes)
        for _ in range(reader.take(2)):
            reader.take(index_bytes)
            offset, length = reader.take(offset_bytes), reader.take(length_bytes)
            if in_file:
                yield base + offset, length


def _sequence(data: Data, movie: Box, limits: Ceiling) -> Extent | None:
    """Return the extent of the first track of pictures; its samples lie in an mdat box, whose end was seen."""
    for track in every(data, movie, b"trak"):
        media = first(data, track, b"mdia")
        handler = media and first(data, media, b"hdlr")
        if media and handler and data[handler.start + 8 : handler.start + 12] == b"pict":
            return _track(data, media, limits)
    return None


def _track(data: Data, media: Box, limits: Ceiling) -> Extent:
    """Return the extent of a track by its sample table (ISO/IEC 14496-12, section 8.5)."""
    information = first(data, media, b"minf")
    table = information and first(data, information, b"stbl")
    samples = table and first(data, table, b"stsz")
    described = table and first(data, table, b"stsd")
    entry = described and next(boxes(data, described.start + _SAMPLE_ENTRY, described.end), None)
    if not samples or not entry:
        raise broken("an AVIF sequence without its samples")
    frames = _Reader(data, samples.start + 8, samples.end).take(4)
    limits.count(frames)
    dimensions = _Reader(data, entry.start + _VISUAL_DIMENSIONS, entry.end)
    return Extent(dimensions.take(2), dimensions.take(2), frames)
