"""Walks a container to its end: nothing missing, nothing announced that is too large. Pure and cheap; decodes nothing.

One module per format, all with `walk(data, limits)`. Bytes after a picture's end are allowed: real files have them, and
served with their picture's type and `nosniff` they do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass

from rehost.errors import Permanent, VisitError
from rehost.images.formats import bmp, gif, heif, ico, jpeg, jpeg2000, png, tiff, webp
from rehost.images.formats.ground import Data, ImageLimits
from rehost.images.sniff import FOREIGN, HEAD_BYTES, Other, sniff
from rehost.model import Format, Image, Reason

_WALKERS = {
    Format.JPEG: jpeg.walk,
    Format.PNG: png.walk,
    Format.GIF: gif.walk,
    Format.WEBP: webp.walk,
    Format.AVIF: heif.walk,
    Format.BMP: bmp.walk,
    Format.TIFF: tiff.walk,
    Format.ICO: ico.walk,
    Format.JPEG2000: jpeg2000.walk,
    Format.HEIC: heif.walk,
}

_POINTING = frozenset({Format.AVIF, Format.HEIC, Format.TIFF, Format.ICO, Format.JPEG2000})
"""Formats whose parts say where others lie, or lie within each other: the same bytes may be walked again and again."""


@dataclass(frozen=True, slots=True)
class StructureResult:
    """What a walk found.

    Attributes:
        doubt: why the picture is whole only if a decoder reads every frame that was begun. GIFs without a trailer are
            in the wild, and every viewer shows them; without a decoder they count as cut.
        scans_end: where a JPEG's last scan ends: a decoder that sees what follows makes up what is missing before it.
    """

    image: Image
    doubt: VisitError | None = None
    scans_end: int | None = None

    def undoubted(self) -> Image:
        """Return the image.

        Raises:
            VisitError: the doubt, where there is one.
        """
        if self.doubt is not None:
            raise self.doubt
        return self.image


def is_brief(data: Data) -> bool:
    """Return whether to examine these bytes takes time and memory in proportion to their number, whatever they are."""
    return sniff(data[:HEAD_BYTES]) not in _POINTING


def examine(data: Data, limits: ImageLimits) -> StructureResult:
    """Return what the bytes are, having walked their structure to its end.

    Raises:
        VisitError: Transient(TRUNCATED) for a picture that ends before its end; Permanent with EMPTY, SVG,
            UNSUPPORTED_FORMAT, NOT_AN_IMAGE, TOO_LARGE or CORRUPT otherwise.
    """
    found = sniff(data[:HEAD_BYTES])
    if isinstance(found, Other):
        raise _refusal(found)
    extent = _WALKERS[found](data, limits)
    return StructureResult(Image(found, extent.width, extent.height, extent.frames), extent.doubt, extent.scans_end)


def _refusal(found: Other) -> Permanent:
    """Return the error for bytes that are no picture, or none that can be proven."""
    if found in FOREIGN:
        return Permanent(Reason.UNSUPPORTED_FORMAT, found)
    reasons = {Other.EMPTY: Reason.EMPTY, Other.SVG: Reason.SVG}
    return Permanent(reasons.get(found, Reason.NOT_AN_IMAGE), found)


__all__ = ["Data", "ImageLimits", "StructureResult", "examine", "is_brief"]
