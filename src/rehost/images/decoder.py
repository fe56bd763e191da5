"""A decoder reads all of a picture. Pillow's only home; runs in the processes of pool.py and nowhere else."""

from __future__ import annotations

import io
import mmap
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

import PIL.Image
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
)

from rehost.errors import Permanent, Transient, VisitError
from rehost.images import heic
from rehost.images.formats import ImageLimits, StructureResult
from rehost.model import Format, Image, Reason

# Asked directly: PIL.Image.open hides what they complain of, and imports all 40 when one gives up.
_READERS: dict[Format, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    Format.JPEG: JpegImagePlugin.JpegImageFile,  # not its factory: the further pictures of an MPO are left alone
    Format.PNG: PngImagePlugin.PngImageFile,
    Format.GIF: GifImagePlugin.GifImageFile,
    Format.WEBP: WebPImagePlugin.WebPImageFile,
    Format.AVIF: AvifImagePlugin.AvifImageFile,
    Format.BMP: BmpImagePlugin.BmpImageFile,
    Format.TIFF: TiffImagePlugin.TiffImageFile,
    Format.ICO: IcoImagePlugin.IcoImageFile,
    Format.JPEG2000: Jpeg2KImagePlugin.Jpeg2KImageFile,
}

# What plugins are known to raise on bytes that they cannot read. Anything else ends the process, which says the same.
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError),
    *(AttributeError, AssertionError, RuntimeError, SystemError, struct.error),
)

# What the decoders that are silent about it were seen to take, rounded up (24 and 48 megapixels, 8 bits a channel).
_BYTES_PER_PIXEL = {Format.JPEG: 8, Format.WEBP: 18, Format.AVIF: 12, Format.JPEG2000: 20, Format.HEIC: 10}

_TEXT_BYTES = 16 << 20
"""Of one compressed text or colour profile in a PNG: editors' histories in XMP come to megabytes, Pillow allows one."""

_READ_BYTES = 1 << 20

# What a JPEG's decoder is given behind the last scan: it looks up to 8 bytes ahead (jdhuff.c). Ones are no symbol, so
# that it makes a few blocks of them at most (T.81, section C.2); a zero keeps FF from being a marker.
_ONES = b"\xff\0" * 8
_NO_MARKER = b"\xff\x02"  # reserved (T.81, table B.1)


def prepare(max_pixels: int) -> None:
    """Set Pillow up for this process: strict, single-threaded, and silent about what is no part of the picture."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    PIL.Image.MAX_IMAGE_PIXELS = max_pixels
    # Metadata that is damaged makes warnings, pictures that are damaged make errors.
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
    PngImagePlugin.MAX_TEXT_CHUNK = _TEXT_BYTES
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is a process for every core
    GifImagePlugin.LOADING_STRATEGY = GifImagePlugin.LoadingStrategy.RGB_AFTER_DIFFERENT_PALETTE_ONLY


def decode(file: BinaryIO, finding: StructureResult, limits: ImageLimits) -> int:
    """Read every frame of the picture in `file`; return how many there are.

    Raises:
        VisitError: Permanent(CORRUPT) where the decoder gives up, Transient(TRUNCATED) where it misses bytes,
            Permanent(TOO_LARGE) where it sees more pixels or frames than allowed.
        MemoryError: it needs more than there is.
    """
    with _judged(finding.image, file), _reader(finding.image.format)(file) as picture:
        limits.area(*picture.size)  # the structure's was held to the limits: a decoder may see another
        frames: int = getattr(picture, "n_frames", 1)
        limits.count(frames)
        if isinstance(picture, IcoImagePlugin.IcoImageFile):
            _read_sizes(picture.ico)
        elif isinstance(picture, JpegImagePlugin.JpegImageFile):
            _read_scans(picture, file, finding.scans_end)
        else:
            _read_frames(picture, frames)
        return frames


def _reader(kind: Format) -> Callable[[BinaryIO], ImageFile.ImageFile]:
    return heic.reader() if kind is Format.HEIC else _READERS[kind]


def _read_scans(picture: JpegImagePlugin.JpegImageFile, file: BinaryIO, end: int | None) -> None:
    """Read a JPEG at an eighth of its size: every byte of every scan is read, most of the arithmetic is left out.

    A decoder that sees a scan end too early makes up the rest, grey, and says nothing of it. So the end of the last one
    is kept from it, and it has to do without more.
    """
    picture.draft(None, (1, 1))
    if end is None:
        picture.load()
        return
    picture.load_prepare()
    name, extents, _, arguments = picture.tile[0]
    decoder = PIL.Image._getdecoder(picture.mode, name, arguments, picture.decoderconfig)  # noqa: SLF001 - as load does
    try:
        decoder.setimage(picture.im, extents)
        if not _has_enough(decoder.decode, file, end):
            raise Transient(Reason.TRUNCATED, "JPEG: its last scan ends before its picture does")
    finally:
        decoder.cleanup()


def _has_enough(decode: Callable[[bytes], tuple[int, int]], file: BinaryIO, end: int) -> bool:
    """Return whether a JPEG's decoder finds its picture's data whole in the file's bytes up to `end`.

    `decode` takes bytes in and returns how many of them are done with, -1 once there is no more to do, and a fault.
    With the only scan it is done as soon as it has the last line. With several it goes on to look for the next one:
    there it passes over what is no marker, and refuses a marker that does not exist, which it ignores within a scan.
    """
    file.seek(0)
    left = b""
    for piece in chain((file.read(min(_READ_BYTES, end - at)) for at in range(0, end, _READ_BYTES)), (_ONES,)):
        left += piece
        taken, fault = decode(left)
        if fault < 0:
            raise OSError("broken data stream")
        if taken < 0:
            return True
        left = left[taken:]
    if left or decode(_ONES[:2]) != (2, 0):
        return False
    taken, _ = decode(_NO_MARKER)
    return taken < 0


def _read_sizes(icon: IcoImagePlugin.IcoFile) -> None:
    """Read every size of an icon; opening it has read the first."""
    for number in range(1, len(icon.entry)):
        icon.frame(number).load()


def _read_frames(picture: ImageFile.ImageFile, frames: int) -> None:
    """Read every frame or page."""
    for number in range(frames):
        picture.seek(number)
        picture.load()


def thumbnail(file: BinaryIO, found: Image, side: int, limits: ImageLimits) -> bytes:
    """Return the first frame as a WebP, no longer than `side` either way, upright as browsers show it.

    Raises:
        VisitError: as `decode`.
        MemoryError: it needs more than there is.
    """
    with _judged(found, file), _reader(found.format)(file) as picture:
        limits.area(*picture.size)
        picture.draft(None, (side, side))  # a JPEG is read at a fraction of its size, which is most of the time
        upright = ImageOps.exif_transpose(picture)
        small = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        small.thumbnail((side, side), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
        content = io.BytesIO()
        small.save(content, "WEBP", quality=74, method=2)
        return content.getvalue()


@contextmanager
def _judged(found: Image, file: BinaryIO) -> Iterator[None]:
    """Raise what a decoder complains of as what it means for the picture.

    Raises:
        OSError: it is the disk's fault, not the picture's.
    """
    try:
        yield
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise Permanent(Reason.TOO_LARGE, "more pixels than allowed, by its decoder") from error
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            _read_through(file)  # the system complains of the disk, and of places that are none, which a picture names
        raise _verdict(found, error) from error


def _read_through(file: BinaryIO) -> None:
    """Return if a file can be read from its beginning to its end."""
    file.seek(0)
    while file.read(_READ_BYTES):
        pass


def _verdict(found: Image, error: Exception) -> VisitError:
    """Return what a decoder's complaint means.

    Raises:
        MemoryError: it may mean no more than that.
    """
    evidence = f"{found.format.upper()}: {str(error) or type(error).__name__}"[:200]
    if "truncated" in evidence.lower():
        return Transient(Reason.TRUNCATED, evidence)
    if isinstance(error.__cause__, MemoryError) or "memory" in evidence.lower() or _is_short_of_memory(found):
        raise MemoryError(evidence) from error
    return Permanent(Reason.CORRUPT, evidence)


def _is_short_of_memory(found: Image) -> bool:
    """Return whether less is left than a picture like this takes: most C libraries do not say why they gave up."""
    try:
        mmap.mmap(-1, found.width * found.height * _BYTES_PER_PIXEL.get(found.format, 0) + 1).close()
    except OSError:
        return True
    return False
