"""Builds everything that a run needs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import TypeVar

from rehost import process_identity as identity
from rehost.attempt import ImageFetcher
from rehost.clock import Clock
from rehost.errors import SettingsError
from rehost.events import Listener
from rehost.fetch.fetcher import Fetcher
from rehost.fetch.reasons import proxies_of
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import HostPolicy
from rehost.hosts.scheduler import Heartbeat, RequestScheduler
from rehost.hosts.shares import DailyQuota, HostShares
from rehost.hotlink.learner import Learner
from rehost.hotlink.referers import Referers
from rehost.hotlink.repository import OriginRepository
from rehost.hotlink.suspected_copies import SuspectedCopies
from rehost.http.address_policy import AddressPolicy
from rehost.http.errors import InvalidUrl
from rehost.http.url import FirstMatch, OriginPattern
from rehost.images.verifier import ImageVerifier
from rehost.ledger import Ledger
from rehost.ledger.migrations import migrate
from rehost.model import KnownStore, Source
from rehost.run.limits import BEAT_SECONDS, Limits, StorageQuota, TakedownCheck
from rehost.run.planner import Planner
from rehost.run.recorder import Recorder
from rehost.run.run import Components, Run
from rehost.run.visitor import Visitor
from rehost.settings import OriginOverride, Settings
from rehost.store.base import Store
from rehost.upkeep.forget import Takedowns
from rehost.upkeep.hooks import Hook
from rehost.wiring.databases import (
    check_store,
    layout_of,
    open_catalogues,
    open_databases,
    open_store,
    other_store,
    sources_of,
    worker,
)

T = TypeVar("T")


@asynccontextmanager
async def open_run(
    settings: Settings,
    *,
    source: str | Collection[str] | None,
    listen: Listener,
    requests: int | None = None,
    accepts_loss: bool = False,
) -> AsyncIterator[Run]:
    """Open everything that a run needs, in the order in which an operator would fix problems.

    Args:
        settings: all of them.
        source: its name, or several; None or no name for all.
        listen: is called with every event.
        requests: how many of the command's requests this process may have in flight; None for all of them.
        accepts_loss: go on though the store is not the one that the ledger knows, or copies are missing at once.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    clock = Clock()
    limits = limits_of(settings, requests or settings.concurrency)
    chosen = sources_of(settings, [source] if isinstance(source, str) else source or ())
    async with open_parts(settings, chosen, clock, limits, listen, accepts_loss=accepts_loss) as parts:
        await takedowns_of(settings, parts, left_out(settings, chosen)).finish()
        yield Run(parts, limits, clock, listen)


def takedowns_of(
    settings: Settings,
    parts: Sequence[Components],
    others: Collection[str] = (),
    tell: Callable[[int], None] = lambda _files: None,
) -> Takedowns:
    """Return what takes pictures down; arguments as of `Takedowns`."""
    elsewhere = partial(other_store, settings, parts[0].ledger)
    return Takedowns(parts, identity.user(), others, tell, elsewhere, Hook(settings.after_forget))


@asynccontextmanager
async def open_parts(
    settings: Settings,
    sources: Sequence[Source],
    clock: Clock,
    limits: Limits,
    listen: Listener,
    outage_seconds: float = 120.0,
    *,
    accepts_loss: bool = False,
) -> AsyncIterator[Sequence[Components]]:
    """Open the parts of each source; they share all parts that do not depend on the source's table."""
    random = SystemRandom()
    me = worker()
    async with AsyncExitStack() as stack:
        catalogue_db, ledger_db = await stack.enter_async_context(
            open_databases(settings, clock, outage_seconds, listen)
        )
        catalogues = await open_catalogues(catalogue_db, sources, is_joint=catalogue_db is ledger_db)
        await migrate(ledger_db)
        layouts = [layout_of(settings, source) for source in sources]
        ledger = Ledger(ledger_db, me, lease_seconds=settings.lease_seconds, url=layouts[0].url)
        if not accepts_loss:
            await check_store(settings, ledger, catalogues)
        store = await stack.enter_async_context(_store(settings, clock, ledger, me.host))
        await ledger.leases.release_dead_workers(identity.is_gone)
        origins = OriginRepository(ledger_db, worker=me.name, lease_seconds=settings.lease_seconds)
        shares = HostShares(
            ledger_db, worker=me.name, concurrency=settings.concurrency, lease_seconds=settings.lease_seconds
        )
        limiter = HostLimiter(
            clock,
            random,
            concurrency=settings.concurrency,
            requests=limits.requests,
            policy_for=_policies(settings).of_host,
            first_slots=0,
        )
        heartbeat = Heartbeat(shares, limiter, clock, listen)
        scheduler = RequestScheduler(
            limiter,
            heartbeat,
            DailyQuota(ledger_db),
            clock,
            concurrency=limits.requests,
            patience_seconds=limits.patience_seconds,
        )
        client = await stack.enter_async_context(_fetcher(settings, clock, limits.requests, scheduler))
        verifier = await stack.enter_async_context(open_verifier(settings, clock))
        fetcher = ImageFetcher(client, verifier, store, scheduler, clock, random, settings.attempts)
        learner = Learner(origins, _referers(settings), fetcher, scheduler, random, clock, listen)
        quota = StorageQuota(
            ledger.results, clock, domain_bytes=settings.max_host_bytes, source_bytes=settings.max_source_bytes
        )
        parts = []
        for catalogue, layout in zip(catalogues, layouts, strict=True):
            visitor = Visitor(
                *(learner, verifier, store, replace(layout, longest=store.longest()), clock, random, quota),
                TakedownCheck(ledger.results, clock),
            )
            recorder = Recorder(ledger, store, catalogue, layout)
            suspected_copies = SuspectedCopies(ledger, catalogue, learner)
            planner = Planner(ledger, store, catalogue, layout, accepts_loss)
            parts.append(
                Components(planner, visitor, recorder, ledger, limiter, scheduler, heartbeat, suspected_copies, store)
            )
        yield parts


@asynccontextmanager
async def _store(settings: Settings, clock: Clock, ledger: Ledger, machine: str) -> AsyncIterator[Store]:
    """Open the store, which is then the one in use."""
    async with open_store(settings, clock, ledger) as store:
        await ledger.use(KnownStore(await store.identity(), store.where, machine))
        yield store


def left_out(settings: Settings, chosen: Collection[Source]) -> set[str]:
    """Return the names of the other sources."""
    return {each.name for each in settings.sources} - {each.name for each in chosen}


def limits_of(settings: Settings, requests: int) -> Limits:
    """Return the limits of a process with so many requests in flight."""
    return Limits(
        concurrency=settings.concurrency,
        requests=requests,
        visits=4 * requests + 8,
        beat_seconds=min(BEAT_SECONDS, settings.lease_seconds / 4),
        renew_seconds=settings.lease_seconds / 4,
    )


def _referers(settings: Settings) -> Referers:
    laid_down = [
        (each.pattern, settings.referer if each.referer is None else each.referer) for each in settings.origins
    ]
    return Referers(settings.referer, laid_down)


def _policies(settings: Settings) -> FirstMatch[HostPolicy]:
    general = HostPolicy(settings.min_delay_seconds, settings.daily_budget or None)
    return _by_origin(
        settings,
        lambda each: HostPolicy(
            general.min_delay_seconds if each.min_delay_seconds is None else each.min_delay_seconds,
            general.daily_budget if each.daily_budget is None else each.daily_budget or None,
        ),
        general,
    )


def _by_origin(settings: Settings, value_of: Callable[[OriginOverride], T], general: T) -> FirstMatch[T]:
    """Return the values of the overrides by the origins that they are for, and the general value for all others."""
    patterns = []
    for each in settings.origins:
        try:
            patterns.append((OriginPattern(each.pattern), value_of(each)))
        except InvalidUrl as error:
            raise SettingsError(
                'rehost.toml: [origin."{pattern}"] names no host or origin: {cause}.', pattern=each.pattern, cause=error
            ) from error
    return FirstMatch(patterns, general)


def _headers(override: OriginOverride) -> Mapping[str, str]:
    fields = dict(override.headers)
    if override.user_agent is not None:
        fields["User-Agent"] = override.user_agent
    if override.cookies:  # RFC 6265, section 4.2.1
        fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in override.cookies)
    return fields


def _fetcher(settings: Settings, clock: Clock, requests: int, scheduler: RequestScheduler) -> Fetcher:
    headers: Mapping[str, str] = {}
    robots = _by_origin(settings, lambda each: settings.robots if each.robots is None else each.robots, settings.robots)
    return Fetcher(
        AddressPolicy(settings.allow_networks),
        clock=clock,
        timeout_seconds=settings.timeout_seconds,
        max_bytes=settings.max_bytes,
        max_redirects=settings.max_redirects,
        user_agent=settings.user_agent,
        concurrency=requests,
        connect_to=settings.connect_to,
        proxies=proxies_of(os.environ, resolves=settings.proxy_resolves),
        headers_for=_by_origin(settings, _headers, headers).of_origin,
        obeys_robots=robots.of_origin,
        scheduler=scheduler,
    )


def open_verifier(settings: Settings, clock: Clock) -> ImageVerifier:
    """Return what verifies pictures; open it with `async with`."""
    return ImageVerifier(
        verify="structure" if settings.verify == "structure" else "decode",
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_total_pixels=settings.max_total_pixels,
        decode_memory_bytes=settings.decode_memory_bytes,
        decode_seconds=settings.decode_seconds,
        processes=settings.decode_processes or os.cpu_count() or 1,
        clock=clock,
    )
