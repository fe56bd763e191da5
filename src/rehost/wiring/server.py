"""What `rehost serve` and other ASGI applications serve: copies, single pictures on demand, page and API.

Nothing is opened before it is needed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import rehost
from rehost.catalogue import Titles
from rehost.clock import Clock
from rehost.errors import SettingsError
from rehost.events import Listener
from rehost.hosts.shares import HostShares
from rehost.images.sniff import sniff
from rehost.images.verifier import Thumbnailer
from rehost.ledger import Ledger
from rehost.ledger.leases import DueLinks
from rehost.ledger.migrations import migrate
from rehost.ledger.reports import Queries
from rehost.model import Bucket, Format
from rehost.on_demand.http import ReadThrough
from rehost.on_demand.service import OnDemandService
from rehost.server.api.actions import RunControl
from rehost.server.api.live import Live
from rehost.server.api.routes import Api
from rehost.server.api.upkeep import Trash, Upkeep
from rehost.server.app import Site, mount
from rehost.server.dashboard.dashboard import Dashboard
from rehost.server.dashboard.thumbnails import Thumbnails
from rehost.server.files.copies import CopyFiles, EitherFinder
from rehost.server.files.finder import FileFinder
from rehost.server.files.objects import ObjectFinder
from rehost.server.files.send import Application
from rehost.server.resources import DiskSpace, Lazy, Resources, bucket_space, disk_space
from rehost.settings import Settings
from rehost.telemetry.log import log_event
from rehost.wiring.databases import (
    OUTAGE_SECONDS,
    bucket_client,
    layout_of,
    open_databases,
    open_store,
    worker,
)
from rehost.wiring.run import limits_of, open_parts, open_run
from rehost.wiring.upkeep import open_takedowns

BUCKET_AWAY_SECONDS = 2.0  # a request for a copy repeats its requests to the bucket for so long
PATIENCE_SECONDS = 10.0  # a single picture on demand waits for a pause of its host up to this long


def build_server(settings: Settings, at: str = "") -> Application:
    """Return the application of `rehost serve`: the copies where their URLs say, the page and the API below `at`."""
    page = site(settings)
    single = read_through(settings) if settings.read_through else None
    closing = (page.close,) if single is None else (single.close, page.close)
    return Site(files(settings), settings.static_url_path, mount(page, at), single, closing)


def files(settings: Settings) -> CopyFiles:
    """Return the copies as an ASGI application, to be mounted at IMAGE_STATIC_URL_PREFIX in any other.

    Raises:
        StoreError: they are in a bucket, and the extra `s3` is not installed or a variable cannot be used.
    """
    return _copies(settings, redirects=settings.bucket_serving == "redirect")


def site(settings: Settings) -> Dashboard:
    """Return rehost's page and API, to be mounted in any other application; await its `close` at the end."""
    clock = Clock()
    api = Api(
        Lazy(lambda: _open_resources(settings, clock)),
        _space(settings, clock),
        tuple(each.name for each in settings.sources),
    )
    # Half of the server's concurrent requests are for single pictures, if it fetches any (invariant 8).
    requests = settings.concurrency - (settings.concurrency // 2 if settings.read_through else 0)
    copies = _copies(settings, redirects=False)  # the page shows pictures of its own origin only
    return Dashboard(
        api,
        RunControl(lambda name: open_run(settings, source=name, listen=log_event, requests=requests)),
        Live(api, clock),
        Upkeep(
            api,
            Trash(lambda: open_store(settings, clock, None, OUTAGE_SECONDS), clock),
            lambda: open_takedowns(settings, finishes=False),
            clock,
        ),
        copies,
        Thumbnails(copies, Lazy(lambda: _thumbnailer(settings))),
        token=settings.token,
        version=rehost.__version__,
        hosts=known_hosts(settings),
    )


def known_hosts(settings: Settings) -> frozenset[str]:
    """Return the host names under which the page and the APIs can be reached."""
    return frozenset((*settings.allowed_hosts, settings.api_host.lower()))


def read_through(settings: Settings) -> ReadThrough:
    """Return the application that serves any picture of the catalogue, and fetches those that are not held yet.

    To be mounted at /image in any other application; await its `close` at the end.

    Raises:
        SettingsError: the settings leave no room for it.
    """
    if settings.concurrency < 2:  # noqa: PLR2004 - one for it, one for a run that is started beside it
        raise SettingsError("IMAGE_READ_THROUGH needs an IMAGE_DOWNLOAD_CONCURRENCY of at least 2.")
    if f"{settings.static_url_path}/".startswith("/image/"):
        raise SettingsError("IMAGE_READ_THROUGH serves at /image: choose another IMAGE_STATIC_URL_PREFIX.")
    return ReadThrough(
        files(settings),
        Lazy(lambda: _open_due_links(settings)),
        Lazy(lambda: _open_on_demand(settings, listen=log_event)),
        wait_seconds=settings.timeout_seconds,
    )


@asynccontextmanager
async def _open_resources(settings: Settings, clock: Clock) -> AsyncIterator[Resources]:
    """Open the ledger, and the titles of every source.

    Raises:
        OperatorError: a database cannot be used.
    """
    async with open_databases(settings, clock, outage_seconds=OUTAGE_SECONDS) as (catalogue_db, ledger_db):
        await migrate(ledger_db)
        me = worker()
        url = layout_of(settings, settings.sources[0]).url
        yield Resources(
            Queries(ledger_db),
            Ledger(ledger_db, me, lease_seconds=settings.lease_seconds, url=url),
            HostShares(
                ledger_db, worker=me.name, concurrency=settings.concurrency, lease_seconds=settings.lease_seconds
            ),
            {each.name: await Titles.open(catalogue_db, each) for each in settings.sources},
        )


@asynccontextmanager
async def _open_due_links(settings: Settings) -> AsyncIterator[DueLinks]:
    """Open the ledger to look up single links.

    Raises:
        OperatorError: the database cannot be used.
    """
    async with open_databases(settings, Clock(), outage_seconds=OUTAGE_SECONDS) as (_, database):
        await migrate(database)
        yield DueLinks(database)


@asynccontextmanager
async def _open_on_demand(settings: Settings, listen: Listener) -> AsyncIterator[OnDemandService]:
    """Open everything needed to fetch single pictures of any source.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    clock = Clock()
    limits = replace(limits_of(settings, settings.concurrency // 2), patience_seconds=PATIENCE_SECONDS)
    async with open_parts(settings, settings.sources, clock, limits, listen, OUTAGE_SECONDS) as parts:
        await parts[0].planner.recover()
        by_source = {source.name: own for source, own in zip(settings.sources, parts, strict=True)}
        service = OnDemandService(by_source, limits, clock, listen)
        yield service
        await service.close()


def _copies(settings: Settings, *, redirects: bool) -> CopyFiles:
    if settings.other_storage_dir is not None:  # copies in either are passed on
        other = replace(settings, storage_dir=settings.other_storage_dir)
        both = EitherFinder(_finder(settings), _finder(other))
        return CopyFiles(both, settings.cache_control, settings.blocked_by)
    finder = _finder(settings)
    locate = finder.locate if redirects and isinstance(finder, ObjectFinder) else None
    return CopyFiles(finder, settings.cache_control, settings.blocked_by, locate)


def _finder(settings: Settings) -> FileFinder | ObjectFinder:
    if not isinstance(settings.storage_dir, Bucket):
        return FileFinder(settings.storage_dir, _media_type)
    clock = Clock()
    return ObjectFinder(bucket_client(settings, clock, BUCKET_AWAY_SECONDS), _media_type, clock)


def _space(settings: Settings, clock: Clock) -> Callable[..., Awaitable[DiskSpace | None]]:
    if isinstance(settings.storage_dir, Bucket):
        return partial(bucket_space, bucket_client(settings, clock, BUCKET_AWAY_SECONDS), settings.storage_dir)
    return partial(disk_space, settings.storage_dir)


def _thumbnailer(settings: Settings) -> Thumbnailer:
    return Thumbnailer(
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_total_pixels=settings.max_total_pixels,
        decode_memory_bytes=settings.decode_memory_bytes,
        processes=max(1, (settings.decode_processes or os.cpu_count() or 1) // 2),
    )


def _media_type(head: bytes) -> str | None:
    """Return the media type of a picture by its first bytes; None if they are not those of a picture."""
    found = sniff(head)
    return found.media_type if isinstance(found, Format) else None
