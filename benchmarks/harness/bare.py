"""The bare decoders: for each format, the library at hand that reads a picture with the least work, in one call."""

from __future__ import annotations

import ctypes
import io
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import PIL.Image
from PIL import GifImagePlugin, _avif, _webp

from harness import install


def cpu_seconds(kind: str, paths: Sequence[Path], number: int) -> float:
    """Return the CPU seconds for one of `number` pictures, which are in memory; exit if a library is missing."""
    decode, pictures = decoder(kind), [path.read_bytes() for path in paths]
    for picture in pictures:
        decode(picture)
    started = time.process_time()
    for each in range(number):
        decode(pictures[each % len(pictures)])
    return (time.process_time() - started) / number


def decoder(kind: str) -> Callable[[bytes], object]:
    """Return the decoder of a format."""
    return {"png": png, "gif": gif, "webp": webp, "avif": avif}.get(kind) or jpeg()


@cache
def jpeg() -> Callable[[bytes], object]:
    """Return libjpeg-turbo's decoder, which gives a grey picture of an eighth of the size."""
    programs, trouble = install.python_peer("simplejpeg")
    if trouble:
        sys.exit(trouble)
    sys.path += map(str, programs.parent.glob("lib/*/site-packages"))
    from simplejpeg import decode_jpeg  # noqa: PLC0415 -- a peer

    return lambda data: decode_jpeg(data, "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1)


def png(data: bytes) -> None:
    """Inflate all rows with zlib; look at their filters, which nothing undoes."""
    parts, at = [], 8
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            parts.append(data[at + 8 : end])
        at = end + 4
    rows = zlib.decompress(b"".join(parts))
    assert max(rows[:: len(rows) // int.from_bytes(data[20:24], "big")]) <= 4


def gif(data: bytes) -> None:
    """Decode the only frame with Pillow's C code, which takes two thirds of giflib's time."""
    with GifImagePlugin.GifImageFile(io.BytesIO(data)) as picture:
        picture.load_prepare()
        name, extents, start, arguments = picture.tile[0]
        frame = PIL.Image._getdecoder(picture.mode, name, arguments)  # noqa: SLF001 -- as Pillow's load does
        frame.setimage(picture.im, extents)
        assert frame.decode(memoryview(data)[start:]) == (-1, 0)
        frame.cleanup()


def webp(data: bytes) -> None:
    """Decode to YUV with libwebp, which converts no colours."""
    library = ctypes.CDLL(_webp.__file__)
    library.WebPDecodeYUV.restype = ctypes.c_void_p
    sizes, planes = (ctypes.c_int * 4)(), (ctypes.c_void_p * 2)()
    places = [ctypes.byref(sizes, 4 * n) for n in (0, 1)] + [ctypes.byref(planes, 8 * n) for n in (0, 1)]
    places += [ctypes.byref(sizes, 4 * n) for n in (2, 3)]
    pixels = library.WebPDecodeYUV(data, ctypes.c_size_t(len(data)), *places)
    assert pixels
    library.WebPFree(ctypes.c_void_p(pixels))


def avif(data: bytes) -> None:
    """Decode to YUV with libavif and dav1d, which convert no colours."""
    library = ctypes.CDLL(_avif.__file__)
    library.avifDecoderCreate.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.avifDecoderCreate())
    assert library.avifDecoderSetIOMemory(handle, data, ctypes.c_size_t(len(data))) == 0
    assert library.avifDecoderParse(handle) == 0
    assert library.avifDecoderNextImage(handle) == 0
    library.avifDecoderDestroy(handle)
