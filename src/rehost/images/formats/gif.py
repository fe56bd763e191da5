"""GIF: blocks to the trailer (GIF89a specification)."""

from __future__ import annotations

from rehost.errors import VisitError
from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut, piece

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the GIF that begins at byte 0; what follows the trailer is ignored.

    Without a trailer the extent is in doubt: all pixels may be there all the same.

    Raises:
        VisitError: Transient(TRUNCATED) or Permanent for what cannot be a whole picture.
    """
    screen = piece(data, 0, 13, "a GIF's head")
    width, height = int.from_bytes(screen[6:8], "little"), int.from_bytes(screen[8:10], "little")
    limits.area(width, height)
    frames, doubt = _walk_blocks(data, 13 + _table_bytes(screen[10]), limits)
    if doubt and not frames:
        raise doubt
    if not frames:
        raise broken("a GIF without a frame")
    return Dimensions(width, height, frames, doubt)


def _walk_blocks(data: Data, at: int, limits: ImageLimits) -> tuple[int, VisitError | None]:
    """Return how many frames were begun, and what is wrong at the end of the last one."""
    frames = 0
    while at < len(data):
        block = data[at]
        if block == _TRAILER:
            return frames, None
        if block == _EXTENSION:  # it introduces what follows, so a cut here has cost something
            at = _skip_blocks(data, at + 2)
            if at >= len(data):
                raise cut(data, "a GIF's extension")
        elif block == _IMAGE:
            frames += 1
            limits.count(frames)
            at = _skip_image(data, at, limits)
        else:
            return frames, broken(f"a GIF block of unknown kind {block:#04x}")
    return frames, cut(data, "a GIF before its trailer")


def _table_bytes(packed: int) -> int:
    """Return the size of the colour table that a packed field announces (sections 18 and 20)."""
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _skip_image(data: Data, at: int, limits: ImageLimits) -> int:
    """Return the place behind an image descriptor, its colour table and its data (sections 20 to 22)."""
    head = piece(data, at, 10, "a GIF's image descriptor")
    limits.area(int.from_bytes(head[5:7], "little"), int.from_bytes(head[7:9], "little"))
    return _skip_blocks(data, at + 10 + _table_bytes(head[9]) + 1)


def _skip_blocks(data: Data, at: int) -> int:
    """Return the place behind a chain of sub-blocks and its terminator (section 15), or behind the file's end."""
    end = len(data)
    while at < end:
        size = data[at]
        at += 1 + size
        if not size:
            break
    return at
