"""What serves the copies."""

from __future__ import annotations

from rehost.inspector.sniff import sniff
from rehost.model import Format
from rehost.server.app import Application, build
from rehost.server.static import CopyFiles
from rehost.settings import Settings


def files(settings: Settings) -> Application:
    """Return the copies as an ASGI application, to be mounted at IMAGE_STATIC_URL_PREFIX in any other."""
    return CopyFiles(settings.storage_dir, _media_type)


def build_server(settings: Settings) -> Application:
    """Return the application of `rehost serve`."""
    return build(files(settings), settings.static_url_prefix)


def _media_type(head: bytes) -> str | None:
    """Return the media type of a picture that begins so, None for what is no picture."""
    known = sniff(head)
    return known.media_type if isinstance(known, Format) else None
