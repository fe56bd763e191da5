"""GIF: blocks to the trailer (GIF89a specification)."""

from __future__ import annotations

from rehost.errors import VisitError
from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, read_bytes, truncated

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_REMARKS = frozenset({b"\xfe", b"\xff"})  # comments and what applications add (sections 24 and 26): no pixels


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the GIF at byte 0; what follows the trailer is ignored.

    Without a trailer the result has a doubt: all pixels may still exist.
    """
    screen = read_bytes(data, 0, 13, "the header of a GIF")
    width, height = _size(screen, 6)
    limits.check_area(width or 1, height or 1)
    frames, first, doubt = _walk_blocks(data, 13 + _colour_table_bytes(screen[10]), limits)
    if not frames:
        raise doubt or corrupt("a GIF without a frame")
    if not width or not height:  # browsers take the size of the first frame then
        width, height = _size(data, first + 5)
    pixels = first + 10 + _colour_table_bytes(data[first + 9]) + 1
    is_spacer = (width, height, frames) == (1, 1, 1) and data[pixels : pixels + 1] == b"\0"  # one pixel, left out
    return Dimensions(width, height, frames, doubt, is_proven=is_spacer)


def essential(data: Data) -> bytes:
    """Return a GIF whose screen, if it had no size, has that of its first frame."""
    width, height = _size(data, 6)
    if width and height:
        return bytes(data[:])
    unlimited = ImageLimits(2**62, 2**62, 2**62)
    _, first, _ = _walk_blocks(data, 13 + _colour_table_bytes(data[10]), unlimited)
    return data[:6] + data[first + 5 : first + 9] + data[10:]


def _size(data: Data, at: int) -> tuple[int, int]:
    return int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")


def _walk_blocks(data: Data, at: int, limits: ImageLimits) -> tuple[int, int, VisitError | None]:
    """Return how many frames were begun, where the first one is, and what is wrong after the last one."""
    frames = first = 0
    while at < len(data):
        block = data[at]
        if block == _TRAILER:
            return frames, first, None
        if block == _EXTENSION:
            is_remark = data[at + 1 : at + 2] in _REMARKS
            at = _skip_sub_blocks(data, at + 2)
            if at >= len(data) and not is_remark:  # it belongs to the frame that follows, so a frame is missing
                raise truncated(data, "an extension of a GIF")
        elif block == _IMAGE:
            frames, first = frames + 1, first or at
            limits.check_frames(frames)
            at = _skip_image(data, at, limits)
        else:
            return frames, first, corrupt(f"a GIF block of unknown kind {block:#04x}")
    return frames, first, truncated(data, "a GIF, before its trailer")


def _colour_table_bytes(packed: int) -> int:
    """Return the size of the colour table that a packed field announces (sections 18 and 20)."""
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _skip_image(data: Data, at: int, limits: ImageLimits) -> int:
    """Return the offset after an image descriptor, its colour table and its data (sections 20 to 22)."""
    head = read_bytes(data, at, 10, "an image descriptor of a GIF")
    limits.check_area(int.from_bytes(head[5:7], "little"), int.from_bytes(head[7:9], "little"))
    return _skip_sub_blocks(data, at + 10 + _colour_table_bytes(head[9]) + 1)


def _skip_sub_blocks(data: Data, at: int) -> int:
    """Return the offset after a chain of sub-blocks and its terminator (section 15), or one after the file's end."""
    end = len(data)
    while at < end:
        size = data[at]
        at += 1 + size
        if not size:
            break
    return at
