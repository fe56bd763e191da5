"""What serves the copies."""

from __future__ import annotations

from rehost.assembly.dashboard import dashboard
from rehost.inspector.sniff import sniff
from rehost.model import Format
from rehost.server.app import Application, build
from rehost.server.dashboard import Dashboard, mounted
from rehost.server.static import CopyFiles
from rehost.settings import Settings


def files(settings: Settings) -> Application:
    """Return the copies as an ASGI application, to be mounted at IMAGE_STATIC_URL_PREFIX in any other."""
    return CopyFiles(settings.storage_dir, _media_type)


def site(settings: Settings) -> Dashboard:
    """Return rehost's page and API, to be mounted in any other application; await its `close` at the end."""
    return dashboard(settings, files(settings))


def build_server(settings: Settings, at: str = "") -> Application:
    """Return the application of `rehost serve`: the copies where their URLs say, the page and the API below `at`."""
    return build(files(settings), settings.static_url_prefix, mounted(site(settings), at))


def _media_type(head: bytes) -> str | None:
    """Return the media type of a picture that begins so, None for what is no picture."""
    known = sniff(head)
    return known.media_type if isinstance(known, Format) else None
