"""JPEG: marker segments to the end of image, through the entropy-coded data of every scan (ITU-T T.81, annex B).

Also the Multi-Picture Format, which lists where further pictures are, such as a phone's gain map (CIPA DC-007).
"""

from __future__ import annotations

import re
import string
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from rehost.errors import Transient, VisitError
from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated

_SOI, _EOI, _SOS, _DRI, _APP2 = 0xD8, 0xD9, 0xDA, 0xDD, 0xE2
_START = b"\xff\xd8"  # SOI, as it stands in a file
_FILL = 0xFF
_FRAME_HEADER = 6  # bytes before its components, which have three each
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # TEM and restart markers: no length follows
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; DHT, JPG and DAC are between them
_ARITHMETIC = frozenset({0xC9, 0xCA})  # this coding omits zeros at the end of a scan (section D.1.8)
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_DECODED_FRAMES = _ARITHMETIC | {0xC0, 0xC1, 0xC2}  # sequential and progressive; others are lossless or hierarchical
_APPLICATIONS = frozenset({*range(0xE0, 0xF0), 0xFE})  # APP0 to APP15, COM
_FILLER = b"\0\xff" + bytes(string.printable, "ascii")  # what cameras, block devices and proxies put behind a scan
_LOOKAHEAD = 8  # bytes of filler that a decoder gets after a scan that has no end
_COEFFICIENTS = 64  # of a block
_MOST_COMPONENTS = 4  # in a scan (section B.2.3)
_UNSENT = 16  # more bits than a coefficient's precision can leave to later scans
# Within a scan FF 00 is a data byte, FF D0-D7 are restarts, FF FF is fill: anything else ends it (section B.1.1.5).
# A regular expression scans 2.7 GB per second; a loop over bytes.find takes three times as long.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_RESTARTS = bytes(range(0xD0, 0xD8))

_MPF = b"MPF\0"
_MPF_ENTRIES_TAG = 0xB002
_MPF_ENTRY = 16  # bytes: attributes, size, offset, two dependent pictures


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the JPEG at byte 0.

    What follows the end of image is ignored, unless it is a further picture that is truncated. If a further picture
    does not even begin where the list says, an editor has removed it and left the list unchanged. Without an end of
    image the result has a doubt: all blocks may still exist.
    """
    scans, at, further, doubt = _Scans(limits), 2, list[tuple[int, int]](), None
    try:
        while (found := _next_marker(data, at))[0] != _EOI:
            marker, at = found
            if marker in _STANDALONE or marker == _SOI:
                continue
            length = int.from_bytes(read_bytes(data, at, 2, "a segment of a JPEG"), "big")
            segment = read_bytes(data, at + 2, max(length, 2) - 2, "a segment of a JPEG")
            if marker == _APP2 and segment.startswith(_MPF):
                base = at + 2 + len(_MPF)
                further = [(base + offset, base + offset + size) for offset, size in _further_pictures(segment)]
            at = scans.take(marker, segment, data, at + length)
    except Transient as error:
        if not scans.end:
            raise
        doubt = error
    if any(data[start : start + 2] == _START and end > len(data) for start, end in further):
        raise truncated(data, "a further picture of a JPEG")
    return scans.dimensions(doubt)


class _Scans:
    """The frame of a JPEG, and what its scans hold of it.

    Attributes:
        end: offset after the last scan; 0 before the first one.
    """

    def __init__(self, limits: ImageLimits) -> None:
        self.end = 0
        self._filler = 0  # offset of what can be no data of a scan, if the scan has no end: zeros, text
        self._limits = limits
        self._frame: _Frame | None = None
        self._restart_interval = 0  # in MCUs
        self._pixels = 0  # of all scans
        self._left: dict[int, list[int]] = {}  # component -> per coefficient, the bits that no scan has brought yet

    def take(self, marker: int, segment: bytes, data: Data, at: int) -> int:
        """Take a segment; `at` is the offset after it. Return the offset of the next marker."""
        if marker in _FRAMES:
            if self._frame is not None:
                raise corrupt("a JPEG with two frames")
            self._frame = _read_frame(marker, segment, self._limits)
            self._left = {each: [_UNSENT] * _COEFFICIENTS for each in self._frame.components}
        elif marker == _DRI:
            self._restart_interval = int.from_bytes(segment[:2], "big")
        elif marker == _SOS:
            return self._read_scan(segment, data, at)
        return at

    def dimensions(self, doubt: VisitError | None) -> Dimensions:
        """Return the dimensions; raise an error if the scans do not hold the whole picture."""
        frame = self._frame
        if frame is None or not self.end:
            raise corrupt("a JPEG without a picture")
        if doubt is None:  # a picture may end with a coarse scan, but each component needs one
            lacks_scans = any(bits[0] == _UNSENT for bits in self._left.values())
        else:
            lacks_scans = any(map(any, self._left.values()))
        if lacks_scans:
            raise doubt or corrupt("a JPEG without a scan of each component")
        if doubt is None:
            end = None if frame.coding in _ARITHMETIC else self.end
            return Dimensions(frame.width, frame.height, scans_end=end)
        end = min(self.end, self._filler + _LOOKAHEAD)
        if frame.coding in _ARITHMETIC or (frame.coding not in _PROGRESSIVE and end == self.end):
            raise doubt  # browsers read ahead, and do not show the last rows if nothing follows them
        return Dimensions(frame.width, frame.height, doubt=doubt, scans_end=end)

    def _read_scan(self, segment: bytes, data: Data, at: int) -> int:
        """Read the header of a scan (section B.2.3), and find its end."""
        frame = self._frame
        if frame is None:
            raise corrupt("a JPEG with a scan before its frame")
        self._pixels += frame.width * frame.height
        self._limits.check_total(self._pixels)  # 100 bytes make a decoder pass over all blocks once more
        count = segment[0] if segment else 0
        if not 0 < count <= _MOST_COMPONENTS or len(segment) < 4 + 2 * count:
            raise corrupt("a JPEG scan header that is too short")
        components = segment[1 : 1 + 2 * count : 2]
        first, last, bits = (
            segment[1 + 2 * count : 4 + 2 * count] if frame.coding in _PROGRESSIVE else (0, _COEFFICIENTS - 1, 0)
        )
        for component in components:
            left = self._left.get(component, [])
            is_refinement_of_nothing = bits >> 4 and left[first : first + 1] == [_UNSENT]
            if first <= last < len(left) and not is_refinement_of_nothing:
                left[first : last + 1] = [bits & 15] * (last + 1 - first)
        found = _SCAN_END.search(data, at)
        self.end = found.start() if found else len(data)
        self._check_restarts(frame.intervals(components, self._restart_interval), data, at)
        self._filler = at + len(data[at : self.end].rstrip(_FILLER)) if found is None else self.end
        if found is None:
            raise truncated(data, "a scan of a JPEG")
        return self.end

    def _check_restarts(self, intervals: int, data: Data, at: int) -> None:
        """Check that the restart markers of a scan count through from 0 to 7 (section B.2.1): no interval is missing.

        More markers than intervals do no harm; a decoder finds out if the last intervals are missing.
        """
        if intervals > 1:
            found = islice(_RESTART.finditer(data, at, self.end), intervals - 1)
            markers = b"".join(each[1] for each in found)
            if markers != (_RESTARTS * (intervals // 8 + 1))[: len(markers)]:
                raise corrupt("a JPEG that lacks restart intervals within a scan")


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


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame header."""

    coding: int  # the marker
    width: int
    height: int
    components: dict[int, tuple[int, int]]  # identifier -> horizontal and vertical sampling factors

    def intervals(self, components: bytes, interval: int) -> int:
        """Return how many restart intervals a scan of these components has; 0 without restarts (section A.2)."""
        if not interval:
            return 0
        most = [max(factors, default=1) for factors in zip(*self.components.values(), strict=True)] or [1, 1]
        if len(components) == 1:  # one block each, of the component's own samples
            own = self.components.get(components[0], most)
            counts = [
                -(-size * factor // (8 * whole)) for size, factor, whole in zip(self._size, own, most, strict=True)
            ]
        else:
            counts = [-(-size // (8 * whole)) for size, whole in zip(self._size, most, strict=True)]
        return -(-counts[0] * counts[1] // interval)

    @property
    def _size(self) -> tuple[int, int]:
        return self.width, self.height


def _read_frame(marker: int, segment: bytes, limits: ImageLimits) -> _Frame:
    """Read a frame header (section B.2.2)."""
    if marker not in _DECODED_FRAMES:
        raise corrupt("a lossless or hierarchical JPEG, which viewers do not read")
    if len(segment) < _FRAME_HEADER or len(segment) < _FRAME_HEADER + 3 * segment[5]:
        raise corrupt("a JPEG frame header that is too short")
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    limits.check_area(width, height)
    components = {
        segment[at]: (max(1, segment[at + 1] >> 4), max(1, segment[at + 1] & 15))
        for at in range(_FRAME_HEADER, _FRAME_HEADER + 3 * segment[5], 3)
    }
    return _Frame(marker, width, height, components)


def essential(data: Data) -> bytes:
    """Return a JPEG without the segments of applications and comments before its first scan."""
    parts, at = [_START], 2
    while True:
        marker, start = _next_marker(data, at)
        if marker in _STANDALONE or marker == _SOI:
            at = start
            continue
        at = start + int.from_bytes(data[start : start + 2], "big")
        if marker == _SOS:
            return b"".join((*parts, data[start - 2 :]))
        if marker not in _APPLICATIONS:
            parts.append(bytes((_FILL, marker)) + data[start:at])


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
