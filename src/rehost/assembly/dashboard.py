"""rehost's own page and API, put together: nothing is opened before somebody asks."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import rehost
from rehost.assembly.opening import OUTAGE_SECONDS, all_sources, open_databases, worker
from rehost.assembly.running import open_run, requests_on_demand
from rehost.catalogue.source import Source
from rehost.catalogue.titles import Titles
from rehost.clock import Clock, SystemClock
from rehost.errors import StoreError
from rehost.ledger.entries import SqlLedger
from rehost.ledger.migrations import migrate
from rehost.ledger.origins import SqlOrigins
from rehost.ledger.queries import Queries
from rehost.server.api import Api, Disk
from rehost.server.app import Application
from rehost.server.dashboard import Dashboard
from rehost.server.live import Live
from rehost.server.office import Desk, Office
from rehost.server.starting import Starter
from rehost.settings import Settings
from rehost.store.layout import Layout
from rehost.telemetry.log import log_event


def dashboard(settings: Settings, files: Application) -> Dashboard:
    """Return page, API and metrics, to be mounted anywhere; whoever mounts them awaits their `close` at the end."""
    clock = SystemClock()
    sources = all_sources(settings)
    api = Api(
        Office(lambda: _open_desk(settings, sources, clock)),
        lambda: _disk(settings.storage_dir),
        tuple(each.name for each in sources),
    )
    requests = settings.concurrency - requests_on_demand(settings)
    starter = Starter(lambda name: open_run(settings, source=name, listen=log_event, requests=requests))
    live = Live(api, clock)
    return Dashboard(api, starter, live, files, token=settings.token, version=rehost.__version__)


@asynccontextmanager
async def _open_desk(settings: Settings, sources: list[Source], clock: Clock) -> AsyncIterator[Desk]:
    """Open the ledger, and the titles of every source.

    Raises:
        OperatorError: a database cannot be used.
    """
    async with open_databases(settings, clock, outage_seconds=OUTAGE_SECONDS) as (ours, theirs):
        await migrate(theirs)
        me = worker()
        url = Layout(sources[0].path, settings.static_url_prefix).url
        yield Desk(
            Queries(theirs),
            SqlLedger(theirs, worker=me, lease_seconds=settings.lease_seconds, url=url),
            SqlOrigins(theirs, worker=me.name, concurrency=settings.concurrency, lease_seconds=settings.lease_seconds),
            {each.name: await Titles.open(ours, each) for each in sources},
        )


def _disk(folder: Path) -> Disk:
    """Return the room where the store is, or will be.

    Raises:
        StoreError: it cannot be looked at.
    """
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        raise StoreError(f"{folder} cannot be looked at ({error.strerror}): check IMAGE_STORAGE_DIR.") from error
    return Disk(usage.total, usage.free)
