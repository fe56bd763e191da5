"""What all walkers stand on: the bytes, the limits, and the words for what they find."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap

from rehost.errors import Permanent, Transient, VisitError
from rehost.model import Reason

Data = bytes | mmap
"""A file's bytes: sliced and searched where they lie, never copied as a whole."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may announce."""

    max_pixels: int  # of one frame or page
    max_frames: int

    def area(self, width: int, height: int) -> None:
        """Refuse dimensions that are zero or come to more than `max_pixels`.

        Raises:
            Permanent: CORRUPT or TOO_LARGE.
        """
        if width <= 0 or height <= 0:
            raise broken(f"a picture of {width} x {height}")
        if width * height > self.max_pixels:
            raise Permanent(Reason.TOO_LARGE, f"{width} x {height} pixels, allowed {self.max_pixels}")

    def count(self, frames: int) -> None:
        """Refuse more frames or pages than `max_frames`.

        Raises:
            Permanent: TOO_LARGE.
        """
        if frames > self.max_frames:
            raise Permanent(Reason.TOO_LARGE, f"more than {self.max_frames} frames")


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What a walk found: the picture's dimensions, before any orientation is applied, and its frames.

    Attributes:
        doubt: what is missing at the end, where that may be no part of the picture; a decoder's to settle.
        scans_end: where a JPEG's last scan ends, unless its coding may leave out the end of a scan.
    """

    width: int
    height: int
    frames: int = 1
    doubt: VisitError | None = None
    scans_end: int | None = None


def cut(data: Data, where: str) -> Transient:
    """Return the error for a picture whose file ends before it does."""
    return Transient(Reason.TRUNCATED, f"ends at byte {len(data)}, within {where}")


def broken(what: str) -> Permanent:
    """Return the error for a picture whose structure is wrong, whatever may follow."""
    return Permanent(Reason.CORRUPT, what)


def piece(data: Data, at: int, size: int, where: str) -> bytes:
    """Return `size` bytes from `at` on.

    Raises:
        Transient: TRUNCATED, where the file ends before.
    """
    if at + size > len(data):
        raise cut(data, where)
    return data[at : at + size]
