"""Walks the structure of a picture to its end: is anything missing, does it announce too much? Decodes nothing, no I/O.

Each format has a function `walk(data, limits)`, which raises Transient(TRUNCATED) if bytes are missing, and Permanent
for other faults. Bytes after the end of a picture are allowed: real files have them, and they do no harm if they are
served with the picture's type and `nosniff`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rehost.errors import Permanent, VisitError
from rehost.images.formats import bmp, gif, isobmff, jpeg, png, tiff, webp
from rehost.images.formats.base import Data, Dimensions, ImageLimits
from rehost.images.sniff import HEAD_BYTES, TYPED_FILES, Other, sniff
from rehost.model import Format, Image, Reason

_WALKERS = {
    Format.JPEG: jpeg.walk,
    Format.PNG: png.walk,
    Format.GIF: gif.walk,
    Format.WEBP: webp.walk,
    Format.AVIF: isobmff.walk,
    Format.BMP: bmp.walk,
    Format.TIFF: tiff.walk,
    Format.ICO: bmp.walk_icon,
    Format.JPEG2000: isobmff.walk_jpeg2000,
    Format.HEIC: isobmff.walk,
}

_NOT_LINEAR = frozenset({Format.AVIF, Format.HEIC, Format.TIFF, Format.ICO, Format.JPEG2000})
"""Formats whose parts point at other parts or are nested: the same bytes may be walked again and again."""


@dataclass(frozen=True, slots=True)
class StructureResult:
    """What a walk found.

    Attributes:
        doubt: the error unless a decoder can read every frame that was begun. GIFs without a trailer exist on the web
            and every viewer shows them; without a decoder they count as truncated.
        scans_end: where the last scan of a JPEG ends.
        is_proven: whether the walk has seen every pixel, so that no decoder is needed.
    """

    image: Image
    doubt: VisitError | None = None
    scans_end: int | None = None
    is_proven: bool = False

    def certain_image(self) -> Image:
        """Return the image; raise the doubt if there is one."""
        if self.doubt is not None:
            raise self.doubt
        return self.image

    def decoded_image(self, frames: int) -> Image:
        """Return the image after a decoder has read all of its frames: what raised the doubt is damage."""
        if self.doubt is None:
            return self.image
        return replace(self.image, frames=frames, damage=self.image.damage or self.doubt.evidence)


def is_linear(data: Data) -> bool:
    """Return whether `examine` takes time and memory in proportion to the size of these bytes, whatever they are."""
    return sniff(data[:HEAD_BYTES]) not in _NOT_LINEAR


def examine(data: Data, limits: ImageLimits) -> StructureResult:
    """Return what the bytes are, after walking their structure to its end.

    Raises:
        VisitError: Transient(TRUNCATED) for a picture that ends too early; otherwise Permanent with EMPTY, SVG,
            UNSUPPORTED_FORMAT, NOT_AN_IMAGE, TOO_LARGE or CORRUPT.
    """
    found = sniff(data[:HEAD_BYTES])
    if isinstance(found, Other):
        reason = Reason.UNSUPPORTED_FORMAT if found in TYPED_FILES else Reason.NOT_AN_IMAGE
        raise Permanent({Other.EMPTY: Reason.EMPTY, Other.SVG: Reason.SVG}.get(found, reason), found)
    walked: Dimensions = _WALKERS[found](data, limits)
    limits.check_total(walked.width * walked.height * walked.frames)
    image = Image(found, walked.width, walked.height, walked.frames, walked.damage)
    return StructureResult(image, walked.doubt, walked.scans_end, walked.is_proven)


__all__ = ["Data", "ImageLimits", "StructureResult", "examine", "is_linear"]
