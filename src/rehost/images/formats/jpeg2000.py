"""JPEG 2000: boxes, and the codestream's tile-parts to its end (ITU-T T.800, annexes A and I)."""

from __future__ import annotations

import struct

from rehost.images.formats.boxes import boxes
from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut, piece

_SOC_SIZ = b"\xff\x4f\xff\x51"
_FIRST_MARKER, _SOT, _EOC = 0xFF30, 0xFF90, 0xFFD9
_SOT_SEGMENT = 12  # bytes, its marker included


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the JPEG 2000 picture; what follows its codestream is ignored.

    Raises:
        VisitError: Transient(TRUNCATED) without an end of codestream, Permanent otherwise.
    """
    if data[:4] == _SOC_SIZ:
        return _codestream(data, 0, len(data), limits)
    extent: Dimensions | None = None
    for box in boxes(data, 0, len(data)):  # to the last one: a file cut in its metadata is cut all the same
        if box.kind == b"jp2c" and extent is None:
            extent = _codestream(data, box.start, box.end, limits)
    if extent is None:
        raise cut(data, "a JPEG 2000 before its codestream")
    return extent


def _codestream(data: Data, start: int, end: int, limits: ImageLimits) -> Dimensions:
    """Walk from the size to the end of the codestream (section A.4)."""
    if piece(data, start, 4, "a JPEG 2000 codestream") != _SOC_SIZ:
        raise broken("a JPEG 2000 codestream without its size")
    extent = _size(piece(data, start + 4, 38, "a JPEG 2000 codestream's size"), limits)
    at, tiles = start + 2, 0
    while True:
        marker = int.from_bytes(piece(data, at, 2, "a JPEG 2000 codestream"), "big")
        if marker == _SOT:
            tiles += 1
            at = _tile_part(data, at, end)
        elif tiles:
            break
        elif marker < _FIRST_MARKER:
            raise broken("a JPEG 2000 header with something between its segments")
        else:
            at += 2 + max(2, int.from_bytes(piece(data, at + 2, 2, "a JPEG 2000 header"), "big"))
    if marker != _EOC:
        raise broken("a JPEG 2000 without its end of codestream")
    return extent


def _tile_part(data: Data, at: int, end: int) -> int:
    """Return the place behind a tile-part; one of length 0 goes on to the end of the codestream (section A.4.2)."""
    length = int.from_bytes(piece(data, at + 6, 4, "a JPEG 2000 tile-part's head"), "big")
    if length == 0:
        if data[end - 2 : end] != _EOC.to_bytes(2, "big"):
            raise cut(data, "the last tile-part of a JPEG 2000")
        return end - 2
    if length < _SOT_SEGMENT:
        raise broken(f"a JPEG 2000 tile-part of {length} bytes")
    if at + length > len(data):
        raise cut(data, "a JPEG 2000 tile-part")
    return at + length


def _size(siz: bytes, limits: ImageLimits) -> Dimensions:
    """Read the image and tile size (section A.5.1)."""
    _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", siz)
    limits.area(right - left, bottom - top)
    return Dimensions(right - left, bottom - top)
