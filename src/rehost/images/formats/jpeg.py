"""JPEG: marker segments to the end of image, through the entropy-coded data of every scan (ITU-T T.81, annex B).

Also the Multi-Picture Format, which lists where further pictures are, such as a phone's gain map (CIPA DC-007).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace

from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated

_SOI, _EOI, _SOS, _APP2 = 0xD8, 0xD9, 0xDA, 0xE2
_START = b"\xff\xd8"  # SOI, as it stands in a file
_FILL = 0xFF
_FRAME_HEADER = 6  # bytes before its components, which have three each
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and restart markers: no length follows
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; DHT, JPG and DAC are between them
_ARITHMETIC = frozenset({0xC9, 0xCA})  # this coding omits zeros at the end of a scan (section D.1.8)
_DECODED_FRAMES = _ARITHMETIC | {0xC0, 0xC1, 0xC2}  # sequential and progressive; others are lossless or hierarchical
# Within a scan FF 00 is a data byte, FF D0-D7 are restarts, FF FF is fill: anything else ends it (section B.1.1.5).
# A regular expression scans 2.7 GB per second; a loop over bytes.find takes three times as long.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_MPF = b"MPF\0"
_MPF_ENTRIES_TAG = 0xB002
_MPF_ENTRY = 16  # bytes: attributes, size, offset, two dependent pictures


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the JPEG at byte 0.

    What follows the end of image is ignored, unless it is a further picture that is truncated. If a further picture
    does not even begin where the list says, an editor has removed it and left the list unchanged.
    """
    found, coding, scans, scans_end, at, further = None, 0, 0, 0, 2, list[tuple[int, int]]()
    while True:
        marker, at = _next_marker(data, at)
        if marker == _EOI:
            break
        if marker in _STANDALONE or marker == _SOI:
            continue
        length = int.from_bytes(read_bytes(data, at, 2, "a segment of a JPEG"), "big")
        segment = read_bytes(data, at + 2, max(length, 2) - 2, "a segment of a JPEG")
        if marker == _APP2 and segment.startswith(_MPF):
            base = at + 2 + len(_MPF)
            further = [(base + offset, base + offset + size) for offset, size in _further_pictures(segment)]
        at += length
        if marker in _FRAMES:
            found, coding = _read_dimensions(marker, segment, limits), marker
        elif marker == _SOS:
            at = scans_end = _skip_scan(data, at)
            scans += 1
    if found is None or not scans_end:
        raise corrupt("a JPEG without a picture")
    limits.check_total(found.width * found.height * scans)  # 100 bytes make a decoder pass over all blocks once more
    if any(data[start : start + 2] == _START and end > len(data) for start, end in further):
        raise truncated(data, "a further picture of a JPEG")
    return found if coding in _ARITHMETIC else replace(found, scans_end=scans_end)


def _next_marker(data: Data, at: int) -> tuple[int, int]:
    """Return the next marker and the offset after it; other bytes are skipped, as decoders do."""
    at = data.find(b"\xff", at)
    while at >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0:
            at = data.find(b"\xff", at + 2)
        elif marker == _FILL:  # fill bytes before a marker (section B.1.1.2)
            at += 1
        else:
            return marker, at + 2
    raise truncated(data, "a JPEG, before its end of image")


def _skip_scan(data: Data, at: int) -> int:
    """Return the offset of the marker after the entropy-coded data of a scan."""
    end = _SCAN_END.search(data, at)
    if end is None:
        raise truncated(data, "a scan of a JPEG")
    return end.start()


def _read_dimensions(marker: int, segment: bytes, limits: ImageLimits) -> Dimensions:
    """Read a frame header (section B.2.2)."""
    if marker not in _DECODED_FRAMES:
        raise corrupt("a lossless or hierarchical JPEG, which viewers do not read")
    if len(segment) < _FRAME_HEADER or len(segment) < _FRAME_HEADER + 3 * segment[5]:
        raise corrupt("a JPEG frame header that is too short")
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    limits.check_area(width, height)
    return Dimensions(width, height)


def _further_pictures(segment: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset (from the end of `_MPF`) and size of each further picture in an APP2 segment (DC-007, section 5).

    Only the first list counts: more lists could cover the same bytes, each as long as the segment.
    A list that makes no sense yields nothing; viewers ignore it as well.
    """
    index = segment[len(_MPF) :]
    order = "<" if index[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", index, 4)
        (count,) = struct.unpack_from(f"{order}H", index, directory)
        for entry in range(count):
            tag, _, size, start = struct.unpack_from(f"{order}HHII", index, directory + 2 + 12 * entry)
            if tag == _MPF_ENTRIES_TAG:
                for at in range(start, start + size, _MPF_ENTRY):
                    _, length, offset = struct.unpack_from(f"{order}III", index, at)
                    if offset:  # the first picture has 0, wherever it is
                        yield offset, length
                return
    except struct.error:
        return
