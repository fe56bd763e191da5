"""ICO: the directory, and whether every picture that it lists is there whole."""

from __future__ import annotations

import struct

from rehost.images.formats import png
from rehost.images.formats.bmp import read_header
from rehost.images.formats.ground import Data, Dimensions, ImageLimits, broken, cut, piece


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the extent of the largest picture in the ICO; its sizes are alternatives, not frames.

    Raises:
        VisitError: Transient(TRUNCATED) where a picture is missing, Permanent otherwise.
    """
    count = int.from_bytes(piece(data, 4, 2, "an ICO's head"), "little")
    limits.count(count)
    directory = piece(data, 6, 16 * count, "an ICO's directory")
    largest: Dimensions | None = None
    for size, offset in (struct.unpack_from("<II", directory, at + 8) for at in range(0, 16 * count, 16)):
        if offset + size > len(data):
            raise cut(data, f"an ICO of {offset + size} bytes")
        extent = _picture(data[offset : offset + size], limits)
        if largest is None or extent.width * extent.height > largest.width * largest.height:
            largest = extent
    if largest is None:
        raise broken("an ICO without a picture in it")
    return largest


def _picture(data: bytes, limits: ImageLimits) -> Dimensions:
    """Return the extent of one picture: a PNG, or a bitmap whose height counts the colours and the mask."""
    if data.startswith(png.SIGNATURE):
        return png.walk(data, limits)
    bitmap = read_header(data, 0)
    limits.area(bitmap.width, bitmap.height // 2)
    if bitmap.header + bitmap.row_bytes * (bitmap.height // 2) > len(data):
        raise cut(data, "an ICO's bitmap")
    return Dimensions(bitmap.width, bitmap.height // 2)
