"""What all walkers share: the bytes of a file, the limits, the result, and the two errors."""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap

from rehost.errors import Permanent, Transient, VisitError
from rehost.model import Reason

Data = bytes | mmap
"""The bytes of a file. Walkers slice and search them in place and never copy the whole."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a picture may announce."""

    max_pixels: int  # of one frame or page
    max_frames: int
    max_total_pixels: int  # of all frames, pages or icon sizes; of a JPEG, in all its scans

    def check_area(self, width: int, height: int) -> None:
        """Raise Permanent(CORRUPT) if a dimension is zero, Permanent(TOO_LARGE) if there are more than `max_pixels`."""
        if width <= 0 or height <= 0:
            raise corrupt(f"a picture of {width} x {height}")
        if width * height > self.max_pixels:
            raise Permanent(Reason.TOO_LARGE, f"{width} x {height} pixels, allowed {self.max_pixels}")

    def check_frames(self, frames: int) -> None:
        """Raise Permanent(TOO_LARGE) if there are more frames or pages than `max_frames`."""
        if frames > self.max_frames:
            raise Permanent(Reason.TOO_LARGE, f"more than {self.max_frames} frames")

    def check_total(self, pixels: int) -> None:
        """Raise Permanent(TOO_LARGE) if all frames together have more than `max_total_pixels`."""
        if pixels > self.max_total_pixels:
            raise Permanent(
                Reason.TOO_LARGE, f"{pixels} pixels in all frames or scans, allowed {self.max_total_pixels}"
            )


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Width and height of a picture before any orientation is applied, and how many frames it has."""

    width: int
    height: int
    frames: int = 1
    doubt: VisitError | None = None  # what is missing at the end, if the picture may be whole without it
    scans_end: int | None = None  # of a JPEG, unless its coding allows a scan to omit its end
    damage: str | None = None  # what is wrong elsewhere than in the pixels
    is_proven: bool = False  # the walk has seen every pixel: no decoder is needed


def truncated(data: Data, where: str) -> Transient:
    """Return the error for a picture whose file ends too early."""
    return Transient(Reason.TRUNCATED, f"ends at byte {len(data)}, within {where}")


def corrupt(what: str) -> Permanent:
    """Return the error for a picture whose structure is wrong, whatever bytes may follow."""
    return Permanent(Reason.CORRUPT, what)


def read_bytes(data: Data, at: int, size: int, where: str) -> bytes:
    """Return `size` bytes from offset `at`; raise Transient(TRUNCATED) if the file ends before."""
    if at + size > len(data):
        raise truncated(data, where)
    return data[at : at + size]
