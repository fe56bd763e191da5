"""What serves the copies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rehost.clock import Clock
from rehost.images.sniff import sniff
from rehost.ledger.entries import SqlLedger
from rehost.ledger.migrations import migrate
from rehost.model import Format
from rehost.on_demand.http import ReadThrough
from rehost.server.app import Site
from rehost.server.dashboard.dashboard import Dashboard, mounted
from rehost.server.files.files import CopyFiles
from rehost.server.files.send import Application
from rehost.server.lazy import Lazy
from rehost.settings import Settings
from rehost.store.layout import Layout
from rehost.telemetry.log import log_event
from rehost.wiring.dashboard import dashboard
from rehost.wiring.databases import OUTAGE_SECONDS, open_databases, worker
from rehost.wiring.on_demand import check_read_through, open_demand, requests_on_demand


def files(settings: Settings) -> CopyFiles:
    """Return the copies as an ASGI application, to be mounted at IMAGE_STATIC_URL_PREFIX in any other."""
    return CopyFiles(settings.storage_dir, _media_type)


def site(settings: Settings) -> Dashboard:
    """Return rehost's page and API, to be mounted in any other application; await its `close` at the end."""
    return dashboard(settings, files(settings))


def read_through(settings: Settings) -> ReadThrough:
    """Return what serves any picture of the catalogue by source and row, and fetches what is not held yet.

    To be mounted at /image in any other application; await its `close` at the end.

    Raises:
        SettingsError: the settings leave no room for it.
    """
    check_read_through(settings)
    return ReadThrough(
        files(settings),
        Lazy(lambda: _open_entries(settings)),
        Lazy(lambda: open_demand(settings, listen=log_event, requests=requests_on_demand(settings))),
        wait_seconds=settings.timeout_seconds,
    )


def build_server(settings: Settings, at: str = "") -> Application:
    """Return the application of `rehost serve`: the copies where their URLs say, the page and the API below `at`."""
    single = read_through(settings) if settings.read_through else None
    return Site(files(settings), settings.static_url_prefix, mounted(site(settings), at), single)


@asynccontextmanager
async def _open_entries(settings: Settings) -> AsyncIterator[SqlLedger]:
    """Open the ledger, to look at single links."""
    async with open_databases(settings, Clock(), outage_seconds=OUTAGE_SECONDS) as (_, database):
        await migrate(database)
        url = Layout(url_prefix=settings.static_url_prefix).url
        yield SqlLedger(database, worker=worker(), lease_seconds=settings.lease_seconds, url=url)


def _media_type(head: bytes) -> str | None:
    """Return the media type of a picture that begins so, None for what is no picture."""
    known = sniff(head)
    return known.media_type if isinstance(known, Format) else None
