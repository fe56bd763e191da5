"""WebP: RIFF chunks to the size that the file announces (RFC 9649)."""

from __future__ import annotations

from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the WebP at byte 0; what follows the RIFF container is ignored."""
    end = 8 + int.from_bytes(read_bytes(data, 4, 4, "the header of a WebP"), "little")
    if end > len(data):
        raise truncated(data, f"a WebP of {end} bytes")
    canvas: Dimensions | None = None
    at, pictures = 12, 0
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > end:
            raise corrupt(f"a WebP chunk {kind!r} that is longer than its file")
        if kind == b"VP8X" or (canvas is None and kind in (b"VP8 ", b"VP8L")):
            canvas = _read_dimensions(kind, data[at + 8 : at + 8 + min(size, 10)], limits)
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            pictures += 1
            limits.check_frames(pictures)
        at += 8 + size + size % 2
    if canvas is None or not pictures:
        raise corrupt("a WebP without a picture")
    return Dimensions(canvas.width, canvas.height, pictures)


def still(data: bytes) -> bytes:
    """Return the chunks of alpha and of colours of a WebP that was walked; nothing if it is an animation."""
    at, start, end = 12, 0, 8 + int.from_bytes(data[4:8], "little")
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return data[start or at : at + 8 + size]
        start = start or (at if kind == b"ALPH" else 0)
        at += 8 + size + size % 2
    return b""


def _read_dimensions(kind: bytes, head: bytes, limits: ImageLimits) -> Dimensions:
    """Read the dimensions from the first bytes of a chunk."""
    if len(head) < (5 if kind == b"VP8L" else 10):
        raise corrupt("a WebP picture without dimensions")
    if kind == b"VP8X":  # RFC 9649, section 2.7: 24 bits each, minus one
        width, height = int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    elif kind == b"VP8L":  # section 3.4: a signature byte, then 14 bits each, minus one
        bits = int.from_bytes(head[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:  # RFC 6386, section 9.1: frame tag, start code, 14 bits each below two bits of scaling
        width, height = int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    limits.check_area(width, height)
    return Dimensions(width, height)
