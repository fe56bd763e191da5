"""JPEG 2000: boxes, and the codestream's tile-parts to its end (ITU-T T.800, annexes A and I)."""

from __future__ import annotations

import struct

from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated
from rehost.images.formats.isobmff import boxes

_SOC_SIZ = b"\xff\x4f\xff\x51"
_FIRST_MARKER, _SOT, _EOC = 0xFF30, 0xFF90, 0xFFD9
_SOT_SEGMENT = 12  # bytes, with its marker


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the JPEG 2000 picture; what follows its codestream is ignored.

    Raises:
        VisitError: Transient(TRUNCATED) if the end of the codestream is missing, otherwise Permanent.
    """
    if data[:4] == _SOC_SIZ:
        return _walk_codestream(data, 0, len(data), limits)
    found: Dimensions | None = None
    for box in boxes(data, 0, len(data)):  # to the last one: a file that ends within its metadata is truncated as well
        if box.kind == b"jp2c" and found is None:
            found = _walk_codestream(data, box.start, box.end, limits)
    if found is None:
        raise truncated(data, "a JPEG 2000, before its codestream")
    return found


def _walk_codestream(data: Data, start: int, end: int, limits: ImageLimits) -> Dimensions:
    """Walk from the size segment to the end of the codestream (section A.4)."""
    where = "the codestream of a JPEG 2000"
    if read_bytes(data, start, 4, where) != _SOC_SIZ:
        raise corrupt("a JPEG 2000 codestream without its size")
    found = _read_dimensions(read_bytes(data, start + 4, 38, where), limits)
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
    return found


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


def _read_dimensions(siz: bytes, limits: ImageLimits) -> Dimensions:
    """Read the size of the picture (section A.5.1)."""
    _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", siz)
    limits.check_area(right - left, bottom - top)
    return Dimensions(right - left, bottom - top)
