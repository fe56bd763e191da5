"""rehost's own page and API, put together: nothing is opened before somebody asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import rehost
from rehost.catalogue import Titles
from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.hosts.shares import HostShares
from rehost.hotlink.repository import SqlOrigins
from rehost.images.thumbnails import Thumbnailer
from rehost.ledger.entries import SqlLedger
from rehost.ledger.migrations import migrate
from rehost.ledger.reports import Queries
from rehost.model import Source
from rehost.server.api.api import Api, Disk
from rehost.server.dashboard.dashboard import Dashboard, Pictures
from rehost.server.dashboard.live import Live
from rehost.server.dashboard.run_control import RunControl
from rehost.server.dashboard.thumbnails import Thumbs
from rehost.server.files.files import CopyFiles
from rehost.server.lazy import Lazy, Resources
from rehost.settings import Settings
from rehost.store.layout import Layout
from rehost.telemetry.log import log_event
from rehost.wiring.databases import OUTAGE_SECONDS, open_databases, worker
from rehost.wiring.on_demand import requests_on_demand
from rehost.wiring.run import open_run


def dashboard(settings: Settings, files: CopyFiles) -> Dashboard:
    """Return page, API and metrics, to be mounted anywhere; whoever mounts them awaits their `close` at the end."""
    clock = Clock()
    sources = settings.sources
    api = Api(
        Lazy(lambda: _open_desk(settings, sources, clock)),
        lambda copies: _disk(settings.storage_dir, copies),
        tuple(each.name for each in sources),
    )
    requests = settings.concurrency - requests_on_demand(settings)
    starter = RunControl(lambda name: open_run(settings, source=name, listen=log_event, requests=requests))
    live = Live(api, clock)
    pictures = Pictures(files, Thumbs(files, Lazy(lambda: _thumbnailer(settings))))
    return Dashboard(api, starter, live, pictures, token=settings.token, version=rehost.__version__)


def _thumbnailer(settings: Settings) -> Thumbnailer:
    return Thumbnailer(
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        decode_memory_bytes=settings.decode_memory_bytes,
        processes=max(1, (settings.decode_processes or os.cpu_count() or 1) // 2),
    )


@asynccontextmanager
async def _open_desk(settings: Settings, sources: Sequence[Source], clock: Clock) -> AsyncIterator[Resources]:
    """Open the ledger, and the titles of every source.

    Raises:
        OperatorError: a database cannot be used.
    """
    async with open_databases(settings, clock, outage_seconds=OUTAGE_SECONDS) as (ours, theirs):
        await migrate(theirs)
        me = worker()
        url = Layout(sources[0].path, settings.static_url_prefix).url
        yield Resources(
            Queries(theirs),
            SqlLedger(theirs, worker=me, lease_seconds=settings.lease_seconds, url=url),
            SqlOrigins(theirs, worker=me.name, lease_seconds=settings.lease_seconds),
            HostShares(theirs, worker=me.name, concurrency=settings.concurrency, lease_seconds=settings.lease_seconds),
            {each.name: await Titles.open(ours, each) for each in sources},
        )


def _disk(folder: Path, copies: int) -> Disk:
    """Return the room where the store is or, as long as there is no copy, will be: the first run makes its folder.

    Raises:
        StoreError: it cannot be looked at.
    """
    try:
        there = folder if copies else next(each for each in (folder, *folder.parents) if _is_there(each))
        if there == folder:
            os.scandir(folder).close()
        usage = shutil.disk_usage(there)
    except OSError as error:
        raise StoreError(f"{folder} cannot be looked at ({error.strerror}): check IMAGE_STORAGE_DIR.") from error
    return Disk(usage.total, usage.free)


def _is_there(place: Path) -> bool:
    """Tell whether there is anything of that name.

    Raises:
        OSError: nobody can know.
    """
    try:
        place.stat()
    except FileNotFoundError:
        return False
    return True
