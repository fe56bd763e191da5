"""JPEG: marker segments to the end of image, through the entropy-coded data of every scan (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from dataclasses import replace

from rehost.images.formats import mpf
from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut, piece

_SOI, _EOI, _SOS, _APP2 = 0xD8, 0xD9, 0xDA, 0xE2
_BEGINNING = b"\xff\xd8"  # SOI, as it stands in a file
_FILL = 0xFF
_FRAME_HEADER = 6  # bytes before its components, of three each
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and restart markers: no length follows
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; DHT, JPG and DAC lie between them
_ARITHMETIC = frozenset({0xC9, 0xCA})  # coded so that zeros at a scan's end are left out (section D.1.8)
_READ_FRAMES = _ARITHMETIC | {0xC0, 0xC1, 0xC2}  # sequential and progressive; others are lossless, hierarchical
# Within a scan FF 00 is a data byte, FF D0-D7 restarts, FF FF is fill: anything else ends the scan (section B.1.1.5).
# A regular expression looks at 2.7 GB a second; a loop over bytes.find takes three times as long.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the JPEG that begins at byte 0.

    What follows its end of image is ignored, unless it is a further picture that breaks off: one that does not even
    begin where the list says was taken out by whoever edited the file, who left the list as it was.

    Raises:
        VisitError: Transient(TRUNCATED) without an end of image, Permanent otherwise.
    """
    extent, coding, scans_end, at, further = None, 0, 0, 2, list[tuple[int, int]]()
    while True:
        marker, at = _marker(data, at)
        if marker == _EOI:
            break
        if marker in _STANDALONE or marker == _SOI:
            continue
        length = int.from_bytes(piece(data, at, 2, "a JPEG segment"), "big")
        segment = piece(data, at + 2, max(length, 2) - 2, "a JPEG segment")
        if marker == _APP2 and segment.startswith(mpf.SIGNATURE):
            base = at + 2 + len(mpf.SIGNATURE)
            further = [(base + offset, base + offset + size) for offset, size in mpf.pictures(segment)]
        at += length
        if marker in _FRAMES:
            extent, coding = _dimensions(marker, segment, limits), marker
        elif marker == _SOS:
            at = scans_end = _skip_scan(data, at)
    if extent is None or not scans_end:
        raise broken("a JPEG without a picture in it")
    if any(data[start : start + 2] == _BEGINNING and end > len(data) for start, end in further):
        raise cut(data, "a further picture of a JPEG")
    return extent if coding in _ARITHMETIC else replace(extent, scans_end=scans_end)


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


def _dimensions(marker: int, segment: bytes, limits: ImageLimits) -> Dimensions:
    """Read a frame header (section B.2.2)."""
    if marker not in _READ_FRAMES:
        raise broken("a lossless or hierarchical JPEG, which viewers do not read")
    if len(segment) < _FRAME_HEADER or len(segment) < _FRAME_HEADER + 3 * segment[5]:
        raise broken("a JPEG frame header that is too short")
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    limits.area(width, height)
    return Dimensions(width, height)
