"""Reads all of a picture with Pillow, and with its HEIC plugin; runs only in the processes of verifier.py."""

from __future__ import annotations

import ctypes
import io
import mmap
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from typing import BinaryIO

import PIL.Image
import PIL.ImageCms
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _webp,
)

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.formats import ImageLimits, StructureResult, bmp, gif, jpeg, png, webp
from rehost.model import Format, Image, Reason

# Used directly: PIL.Image.open hides their errors, and imports all 40 plugins when one of them fails.
_READERS: dict[Format, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    Format.JPEG: JpegImagePlugin.JpegImageFile,  # not its factory, which would read the further pictures of an MPO
    Format.PNG: PngImagePlugin.PngImageFile,
    Format.GIF: GifImagePlugin.GifImageFile,
    Format.WEBP: WebPImagePlugin.WebPImageFile,
    Format.AVIF: AvifImagePlugin.AvifImageFile,
    Format.BMP: BmpImagePlugin.BmpImageFile,
    Format.TIFF: TiffImagePlugin.TiffImageFile,
    Format.ICO: IcoImagePlugin.IcoImageFile,
    Format.JPEG2000: Jpeg2KImagePlugin.Jpeg2KImageFile,
}

# What plugins may raise on bytes that they cannot read. Anything else ends the process, to the same effect.
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(AttributeError, AssertionError, RuntimeError, SystemError, struct.error),
)


class _WebPConfig(ctypes.Structure):
    """WebPDecoderConfig of libwebp (webp/decode.h)."""

    _fields_ = (
        ("input", ctypes.c_int * 10),
        ("output", ctypes.c_int * 4),
        ("planes", ctypes.c_void_p * 4),
        ("strides", ctypes.c_int * 4),
        ("sizes", ctypes.c_size_t * 4),
        ("reserved", ctypes.c_int * 4),
        ("memory", ctypes.c_void_p),
        ("options", ctypes.c_int * 19),
    )


_WEBP_ABI, _WEBP_YUV = 0x0209, 11

_BUGS = (AttributeError, TypeError, NameError)
"""Errors that no bytes should cause: of Pillow, or of the code here."""

# Memory for decoders that do not report a lack of it: measured with 24 and 48 megapixels, 8 bits a channel.
_BYTES_PER_PIXEL = {Format.JPEG: 8, Format.WEBP: 18, Format.AVIF: 12, Format.JPEG2000: 20, Format.HEIC: 10}

_TEXT_BYTES = 16 << 20
"""Limit for one compressed text or colour profile in a PNG: XMP histories have megabytes, Pillow allows one."""

READ_BYTES = 1 << 20

# What a JPEG decoder is given after the last scan, because it reads up to 8 bytes ahead (jdhuff.c). Ones are no symbol,
# so it makes at most a few blocks of them (T.81, section C.2); a zero keeps FF from being a marker.
_ONES = b"\xff\0" * 8
_NO_MARKER = b"\xff\x02"  # reserved (T.81, table B.1)


def prepare(max_pixels: int, *, heic: bool = False) -> None:
    """Configure Pillow for this process: strict, single-threaded, and silent about what is not part of the picture.

    All that a picture may need is imported: a confined process can open no module.

    Args:
        max_pixels: of one frame.
        heic: load the HEIC plugin.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    PIL.Image.MAX_IMAGE_PIXELS = max_pixels
    # Damaged metadata causes warnings, a damaged picture causes errors.
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
    PngImagePlugin.MAX_TEXT_CHUNK = _TEXT_BYTES
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is one process per core
    GifImagePlugin.LOADING_STRATEGY = GifImagePlugin.LoadingStrategy.RGB_AFTER_DIFFERENT_PALETTE_ONLY
    _libwebp()
    PIL.Image.preinit()  # like ImageCms, Pillow imports these when it first needs them
    if heic:
        _reader(Format.HEIC)


def decode(file: BinaryIO, structure: StructureResult, limits: ImageLimits) -> int:
    """Read every frame of the picture in `file`; return how many there are.

    Raises:
        VisitError: Permanent(CORRUPT) if the decoder fails, Transient(TRUNCATED) if it lacks bytes,
            Permanent(TOO_LARGE) if it finds more frames or pixels, in one frame or in all, than allowed.
        MemoryError: it needs more memory than the process may have.
    """
    with _as_visit_errors(structure.image, file), _open(file, structure.image) as picture:
        limits.check_area(*picture.size)  # a decoder may see another size than the walk, which was held to the limits
        frames: int = getattr(picture, "n_frames", 1)
        limits.check_frames(frames)
        if isinstance(picture, JpegImagePlugin.JpegImageFile):
            _read_scans(picture, file, structure.scans_end)
            return frames
        if structure.image.format is Format.WEBP and frames == 1 and _reads_webp(file, *picture.size):
            return frames
        pixels = 0
        for frame in _frames(picture, frames):
            pixels += frame.width * frame.height
            limits.check_total(pixels)
            frame.load()
        return frames


def _frames(picture: ImageFile.ImageFile, frames: int) -> Iterator[PIL.Image.Image]:
    """Yield each frame, page or icon size; its pixels are read by its `load`, which must precede the next."""
    if isinstance(picture, IcoImagePlugin.IcoImageFile):
        yield from map(picture.ico.frame, range(len(picture.ico.entry)))
        return
    for number in range(frames):
        picture.seek(number)
        yield picture


_ESSENTIAL = {
    Format.JPEG: jpeg.essential,
    Format.PNG: png.essential,
    Format.GIF: gif.essential,
    Format.ICO: bmp.essential_icon,
}
"""Functions that rewrite a container so that a decoder does not fail over what is not part of the picture."""


def _open(file: BinaryIO, image: Image) -> ImageFile.ImageFile:
    """Return the picture as Pillow reads it; if that fails, as it reads what the file has of the picture alone."""
    essential = _ESSENTIAL.get(image.format)
    if essential is None:
        return _reader(image.format)(file)
    if image.format is not Format.PNG and image.damage is None:  # an animation may have damage between its frames
        with suppress(*_UNREADABLE):
            picture = _reader(image.format)(file)
            if all(picture.size):
                return picture
    file.seek(0)
    return _reader(image.format)(io.BytesIO(essential(file.read())))


def _reader(kind: Format) -> Callable[[BinaryIO], ImageFile.ImageFile]:
    if kind is not Format.HEIC:
        return _READERS[kind]
    from pillow_heif import options  # noqa: PLC0415 - an extra, and 20 MB that most processes never need
    from pillow_heif.as_plugin import HeifImageFile  # noqa: PLC0415 - as above

    options.DECODE_THREADS = 1  # there is one process per core
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False  # not part of the picture
    return HeifImageFile


@cache
def _libwebp() -> ctypes.CDLL | None:
    """Return the libwebp that Pillow has loaded; None if it is linked in another way."""
    try:
        library = ctypes.CDLL(_webp.__file__)
        library.WebPDecode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_WebPConfig)]
        library.WebPFreeDecBuffer.argtypes = [ctypes.c_void_p]
        return library if library.WebPInitDecoderConfigInternal(ctypes.byref(_WebPConfig()), _WEBP_ABI) else None
    except (OSError, AttributeError):
        return None


def _reads_webp(file: BinaryIO, width: int, height: int) -> bool:
    """Return whether libwebp reads a still WebP to its last pixel, which alone it puts out: a fifth of Pillow's time.

    Smoothing between blocks and the conversion of colours, which this omits, cannot fail.
    """
    library, config = _libwebp(), _WebPConfig()
    if library is None or not library.WebPInitDecoderConfigInternal(ctypes.byref(config), _WEBP_ABI):
        return False
    file.seek(0)
    data = webp.still(file.read())
    left, top = (width - 1) & ~1, (height - 1) & ~1
    config.output[0] = _WEBP_YUV
    config.options[:7] = 1, 1, 1, left, top, width - left, height - top  # no filters, plain upsampling, cropped
    status: int = library.WebPDecode(data, len(data), ctypes.byref(config))
    library.WebPFreeDecBuffer(ctypes.addressof(config) + _WebPConfig.output.offset)
    return status == 0


def _read_scans(picture: JpegImagePlugin.JpegImageFile, file: BinaryIO, end: int | None) -> None:
    """Read a JPEG in grey at an eighth of its size, which reads every byte of every scan, with little arithmetic.

    A decoder that sees a scan end too early fills the rest with grey and does not report it. So it does not get to see
    the end of the last scan, and must not need more bytes.
    """
    factors = [list(column) for column in zip(*picture.layer, strict=True)][1:3]  # of sampling, across and down
    is_simple = not any(max(each) % factor for each in factors for factor in each)
    picture.draft("L" if is_simple else None, (1, 1))  # in colour, libjpeg refuses what it cannot upsample: 2 beside 3
    if end is None:
        picture.load()
        return
    picture.load_prepare()
    name, extents, _, arguments = picture.tile[0]
    decoder = PIL.Image._getdecoder(picture.mode, name, arguments, picture.decoderconfig)  # noqa: SLF001 - as Pillow's load does
    try:
        decoder.setimage(picture.im, extents)
        if not _has_enough(decoder.decode, file, end):
            raise Transient(Reason.TRUNCATED, "JPEG: its last scan ends before its picture is complete")
    finally:
        decoder.cleanup()


def _has_enough(decode: Callable[[bytes], tuple[int, int]], file: BinaryIO, end: int) -> bool:
    """Return whether a JPEG decoder finds all data of its picture in the bytes of the file up to `end`.

    `decode` takes bytes and returns how many of them it has consumed, or -1 once it is done, and an error below 0.
    With a single scan it is done as soon as it has the last line. With several it then looks for the next scan: there
    it skips what is no marker and refuses a marker that does not exist, which it would ignore within a scan.
    """
    file.seek(0)
    left = b""
    for piece in chain((file.read(min(READ_BYTES, end - at)) for at in range(0, end, READ_BYTES)), (_ONES,)):
        left += piece
        taken, error = decode(left)
        if error < 0:
            raise OSError("broken data stream")
        if taken < 0:
            return True
        left = left[taken:]
    if left or decode(_ONES[:2]) != (2, 0):
        return False
    taken, _ = decode(_NO_MARKER)
    return taken < 0


def thumbnail(file: BinaryIO, image: Image, side: int, limits: ImageLimits) -> bytes:
    """Return the first frame as a WebP of at most `side` by `side` pixels, upright as browsers show it.

    Raises:
        VisitError, MemoryError: as `decode`.
    """
    with _as_visit_errors(image, file), _open(file, image) as picture:
        limits.check_area(*picture.size)
        picture.draft(None, (side, side))  # a JPEG is read at a fraction of its size, which saves most of the time
        upright = ImageOps.exif_transpose(picture)
        small = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        small.thumbnail((side, side), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
        content = io.BytesIO()
        small.save(content, "WEBP", quality=74, method=2)
        return content.getvalue()


@contextmanager
def _as_visit_errors(image: Image, file: BinaryIO) -> Iterator[None]:
    """Turn the errors of a decoder into what they mean for the picture; let an OSError of the disk pass."""
    try:
        yield
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise Permanent(Reason.TOO_LARGE, "more pixels than allowed, according to its decoder") from error
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            file.seek(0)
            while file.read(READ_BYTES):  # if that is possible, the error is about an offset that does not exist
                pass
        raise _visit_error(image, error) from error


def _visit_error(image: Image, error: Exception) -> VisitError:
    """Return what the error of a decoder means; raise MemoryError if the cause may be a lack of memory."""
    evidence = f"{image.format.upper()}: {str(error) or type(error).__name__}"[:200]
    if isinstance(error, _BUGS):
        return Transient(Reason.BUG, f"{type(error).__name__} in the decoder: {evidence}"[:200])
    if "truncated" in evidence.lower():
        return Transient(Reason.TRUNCATED, evidence)
    if isinstance(error.__cause__, MemoryError) or "memory" in evidence.lower() or _is_short_of_memory(image):
        raise MemoryError(evidence) from error
    return Permanent(Reason.CORRUPT, evidence)


def _is_short_of_memory(image: Image) -> bool:
    """Return whether less memory is left than such a picture needs: most C libraries do not report why they failed."""
    try:
        mmap.mmap(-1, image.width * image.height * _BYTES_PER_PIXEL.get(image.format, 0) + 1).close()
    except OSError:
        return True
    return False
