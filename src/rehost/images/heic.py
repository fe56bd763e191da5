"""HEIC, which Pillow reads with a plugin that is no part of rehost: its wheel bundles GPL code (the extra `heic`)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

from rehost.errors import Permanent
from rehost.model import Reason

if TYPE_CHECKING:
    from PIL import ImageFile


def require() -> None:
    """Return if the extra is installed.

    Raises:
        Permanent: UNSUPPORTED_FORMAT, with what is to be installed.
    """
    if find_spec("pillow_heif") is None:
        raise Permanent(Reason.UNSUPPORTED_FORMAT, "HEIC, which is read where the extra is installed: rehost[heic]")


def reader() -> Callable[[BinaryIO], ImageFile.ImageFile]:
    """Return the plugin's reader, which opens a file as Pillow's own do."""
    from pillow_heif import options  # noqa: PLC0415 - an extra, and 20 MB that most processes never need
    from pillow_heif.as_plugin import HeifImageFile  # noqa: PLC0415 - as above

    options.DECODE_THREADS = 1  # there is a process for every core
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False  # no part of the picture
    return HeifImageFile
