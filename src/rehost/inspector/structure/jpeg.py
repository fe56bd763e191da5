"""JPEG: marker segments to the end of image, through the entropy-coded data of every scan (ITU-T T.81, annex B)."""

from __future__ import annotations

import re

from rehost.inspector.structure.ground import Data, Extent, Limits, broken, cut, piece

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FILL = 0xFF
_FRAME_HEADER = 6  # bytes before its components, of three each
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and restart markers: no length follows
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # sequential and progressive, Huffman and arithmetic coding
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})  # lossless and hierarchical
# Within a scan FF 00 is a data byte, FF D0-D7 restarts, FF FF is fill: anything else ends the scan (section B.1.1.5).
# A regular expression looks at 2.7 GB a second; a loop over bytes.find takes three times as long.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def walk(data: Data, limits: Limits) -> Extent:
    """Return the extent of the JPEG that begins at byte 0; what follows its end of image is ignored.

    Raises:
        VisitError: Transient(TRUNCATED) without an end of image, Permanent otherwise.
    """
    extent, scans, at = None, 0, 2
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        if marker in _STANDALONE or marker == _SOI:
            continue
        length = int.from_bytes(piece(data, at, 2, "a JPEG segment"), "big")
        segment = piece(data, at + 2, max(length, 2) - 2, "a JPEG segment")
        at += length
        if marker in _FRAMES:
            extent = _dimensions(segment, limits)
        elif marker in _OTHER_FRAMES:
            raise broken("a lossless or hierarchical JPEG, which viewers do not read")
        elif marker == _SOS:
            scans += 1
            at = _skip_scan(data, at)
    if extent is None or not scans:
        raise broken("a JPEG without a picture in it")
    return extent


def _marker(data: Data, at: int) -> tuple[int, int]:
    """Return the next marker and the place behind it; bytes that are no marker are passed over, as decoders do."""
    at = data.find(b"\xff", at)
    while at >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0:
            at = data.find(b"\xff", at + 2)
        elif marker == _FILL:  # fill bytes before a marker (section B.1.1.2)
            at += 1
        else:
            return marker, at + 2
    raise cut(data, "a JPEG before its end of image")


def _skip_scan(data: Data, at: int) -> int:
    """Return where the marker behind a scan's entropy-coded data is."""
    end = _SCAN_END.search(data, at)
    if end is None:
        raise cut(data, "the scan of a JPEG")
    return end.start()


def _dimensions(segment: bytes, limits: Limits) -> Extent:
    """Read a frame header (section B.2.2)."""
    if len(segment) < _FRAME_HEADER or len(segment) < _FRAME_HEADER + 3 * segment[5]:
        raise broken("a JPEG frame header that is too short")
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    limits.area(width, height)
    return Extent(width, height)
