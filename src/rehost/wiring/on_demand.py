"""Everything that single pictures on demand need, chosen and opened, for `rehost serve` with IMAGE_READ_THROUGH."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from rehost.clock import Clock
from rehost.errors import SettingsError
from rehost.events import Listener
from rehost.on_demand.service import OnDemandService
from rehost.on_demand.shift import Intervals, OnDemandRun
from rehost.settings import Settings
from rehost.wiring.databases import OUTAGE_SECONDS
from rehost.wiring.run import limits_of, open_parts


@asynccontextmanager
async def open_demand(settings: Settings, *, listen: Listener, requests: int) -> AsyncIterator[OnDemandService]:
    """Open everything that single pictures of any source need.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    clock = Clock()
    rhythm = Intervals(renew_seconds=settings.lease_seconds / 4)
    limits = replace(limits_of(settings, requests), patience_seconds=rhythm.patience_seconds)
    sources = settings.sources
    async with open_parts(settings, sources, clock, limits, listen, OUTAGE_SECONDS) as parts:
        one = parts[0]
        shift = OnDemandRun(one.ledger, one.politeness, one.gate, one.pulse, clock, rhythm)
        async for files in one.store.unconfirmed():
            await one.store.recover(files, await one.ledger.held([file.key for file in files]))
        demand = OnDemandService(
            {each.name: own for each, own in zip(sources, parts, strict=True)}, shift, limits, clock, listen
        )
        yield demand
        await demand.close()


def check_read_through(settings: Settings) -> None:
    """Hold the settings to what read-through needs.

    Raises:
        SettingsError: they leave no room for it.
    """
    if settings.concurrency < 2:  # noqa: PLR2004 - one for it, one for a run that is started beside it
        raise SettingsError("IMAGE_READ_THROUGH needs an IMAGE_DOWNLOAD_CONCURRENCY of at least 2.")
    if f"{settings.static_url_prefix}/".startswith("/image/"):
        raise SettingsError("IMAGE_READ_THROUGH serves at /image: choose another IMAGE_STATIC_URL_PREFIX.")


def requests_on_demand(settings: Settings) -> int:
    """Return how many of a server's requests in flight are for single pictures: half of them, where there are any.

    The rest is for a run that is started from the page (invariant 8).
    """
    return settings.concurrency // 2 if settings.read_through else 0
