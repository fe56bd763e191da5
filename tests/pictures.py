"""Real pictures, small and the same on every run, for origins to serve and the verifier to check."""

# ruff: noqa: A002 -- `format` is the word for it, as in rehost.model

import io
import random
from functools import cache

from PIL import Image
from pillow_heif import register_heif_opener

from rehost.model import Format

register_heif_opener(decode_threads=1)

WRITABLE = tuple(Format)
"""Every format that Pillow can write; HEIC with the plugin of the extra `heic`."""

ANIMATED = (Format.GIF, Format.PNG, Format.WEBP, Format.AVIF, Format.TIFF)
"""Formats that hold several frames (pages, in TIFF)."""

_WRITERS: dict[Format, tuple[str, dict[str, object]]] = {
    Format.JPEG: ("JPEG", {"quality": 80}),
    Format.PNG: ("PNG", {}),
    Format.GIF: ("GIF", {}),
    Format.WEBP: ("WEBP", {"quality": 70}),
    Format.AVIF: ("AVIF", {"quality": 60, "speed": 10, "max_threads": 1}),
    Format.BMP: ("BMP", {}),
    Format.TIFF: ("TIFF", {}),
    Format.ICO: ("ICO", {}),
    Format.JPEG2000: ("JPEG2000", {}),
    Format.HEIC: ("HEIF", {"quality": 60}),
}


@cache
def picture(
    seed: int, format: Format = Format.JPEG, width: int = 64, height: int = 48, *, progressive: bool = False
) -> bytes:
    """Return a whole picture; another seed gives other bytes, the same seed always the same.

    `progressive` concerns JPEG only. An ICO is at most 256 x 256.
    """
    name, options = _WRITERS[format]
    if format is Format.JPEG:
        options = options | {"progressive": progressive}
    if format is Format.ICO:
        options = options | {"sizes": [(width, height)]}
    file = io.BytesIO()
    _paint(seed, width, height).save(file, name, **options)
    return file.getvalue()


@cache
def animation(seed: int, format: Format = Format.GIF, frames: int = 3, width: int = 32, height: int = 24) -> bytes:
    """Return a whole picture of several frames (a TIFF of several pages)."""
    name, options = _WRITERS[format]
    first, *others = [_paint(seed * 1000 + number, width, height) for number in range(frames)]
    if format is not Format.TIFF:
        options = options | {"duration": 100}
    file = io.BytesIO()
    first.save(file, name, save_all=True, append_images=others, **options)
    return file.getvalue()


def _paint(seed: int, width: int, height: int) -> Image.Image:
    """Return soft, coloured clouds: they compress as photographs do, and differ for each seed."""
    clouds = Image.frombytes("RGB", (8, 6), random.Random(seed).randbytes(8 * 6 * 3))
    return clouds.resize((width, height), Image.Resampling.BICUBIC)
