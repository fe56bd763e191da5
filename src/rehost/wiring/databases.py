"""Opens the databases, for runs and for what needs little else: questions to the ledger, and plan."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING

import rehost
from rehost import process_identity as identity
from rehost.clock import Clock
from rehost.db import Database
from rehost.errors import CatalogueError, LedgerError, MissingTableError, SettingsError, StoreError
from rehost.language import Message
from rehost.ledger.history import Stores, Worker
from rehost.ledger.migrations import LATEST, migrate, version
from rehost.model import Bucket, Source
from rehost.settings import Settings
from rehost.settings.types import STORAGE
from rehost.store.layout import Layout

if TYPE_CHECKING:
    from rehost.catalogue import TableCatalogue
    from rehost.events import Listener, Planned
    from rehost.hosts.shares import HostShares
    from rehost.hotlink.repository import OriginRepository
    from rehost.ledger import Ledger
    from rehost.ledger.freezes import Freezes
    from rehost.ledger.reports import Queries
    from rehost.store.base import Store
    from rehost.store.bucket import BucketClient

OUTAGE_SECONDS = 5.0  # a request does not wait longer for a database that was reached before


def worker() -> Worker:
    """Return this process as the ledger knows it."""
    return Worker(identity.name(), platform.node(), os.getpid(), identity.user(), rehost.__version__)


def layout_of(settings: Settings, source: Source) -> Layout:
    """Return how the copies of a source are named."""
    return Layout(
        source.path,
        settings.static_url_prefix,
        is_versioned=settings.url_version,
        has_digest=isinstance(settings.storage_dir, Bucket),
    )


def open_store(
    settings: Settings,
    clock: Clock,
    ledger: Ledger | None,
    bucket_seconds: float | None = None,
    *,
    is_in_use: bool = True,
) -> AbstractAsyncContextManager[Store]:
    """Return the store, to be opened with `async with`; without a ledger it can only be read.

    A bucket may be away for `bucket_seconds`, by default for minutes. The ledger's keys are those of the store in use:
    in another one, the caller knows what may be deleted.

    Raises:
        StoreError: the store cannot be used.
    """
    where, least, reads_only = settings.storage_dir, settings.min_free_bytes, ledger is None
    if not isinstance(where, Bucket):
        from rehost.store.local import LocalStore

        return LocalStore(where, clock=clock, min_free_bytes=least, reads_only=reads_only)
    from rehost.ledger.copies import Copies
    from rehost.store.s3 import S3Store

    layouts = [(each.name, layout_of(settings, each)) for each in settings.sources]

    async def guard(keys: Collection[str], work: Callable[[Collection[str]], Awaitable[None]]) -> None:
        assert ledger is not None, "a store that is only read deletes nothing"
        if not is_in_use:
            await work(keys)
            return
        parsed = {key: [(name, layout.parse(key)) for name, layout in layouts] for key in keys}
        places = {key: [(name, *place[:2], key) for name, place in found if place] for key, found in parsed.items()}
        await Copies(ledger.database).while_unused(places, work)

    return S3Store(
        bucket_client(settings, clock, bucket_seconds),
        where,
        settings.spool_dir,
        clock=clock,
        guard=guard,
        min_free_bytes=least,
        reads_only=reads_only,
    )


def bucket_client(settings: Settings, clock: Clock, outage_seconds: float | None = None) -> BucketClient:
    """Return what reads and writes the bucket of the copies, which may be away for `outage_seconds`.

    Raises:
        StoreError: the extra `s3` is not installed, or a variable cannot be used.
    """
    from rehost.store.bucket import OUTAGE_SECONDS, REQUEST_SECONDS, BucketClient

    assert isinstance(settings.storage_dir, Bucket), "the copies are in a bucket"
    seconds = OUTAGE_SECONDS if outage_seconds is None else outage_seconds
    return BucketClient(settings.storage_dir, settings.aws, clock, seconds, min(REQUEST_SECONDS, 4 * seconds))


def sources_of(settings: Settings, names: Collection[str] = ()) -> Sequence[Source]:
    """Return the sources of these names; without names, all.

    Raises:
        SettingsError: there is no such source.
    """
    known = {each.name: each for each in settings.sources}
    for name in names:
        if name not in known:
            raise SettingsError(
                "There is no source named {name}. Sources: {known}; {file} can define more.",
                name=name,
                known=", ".join(known),
                file=settings.base / "rehost.toml",
            )
    return [each for each in settings.sources if not names or each.name in names]


@asynccontextmanager
async def open_databases(
    settings: Settings,
    clock: Clock,
    outage_seconds: float = 120.0,
    listen: Listener = lambda _event: None,
    *,
    reads_only: bool = False,
) -> AsyncIterator[tuple[Database, Database]]:
    """Open the catalogue's database and the ledger's, which are one and the same unless REHOST_LEDGER_URL differs.

    Args:
        settings: all of them.
        clock: for the waits while a database is away.
        outage_seconds: how long one that was reached once may be away.
        listen: is called with events of outages.
        reads_only: change nothing in them.
    """
    database = partial(
        Database,
        clock=clock,
        random=SystemRandom(),
        outage_seconds=outage_seconds,
        listen=listen,
        reads_only=reads_only,
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(_naming_the_folder(settings))
        catalogue = await stack.enter_async_context(database(settings.database_url, must_exist=True))
        if settings.ledger_url == settings.database_url:
            yield catalogue, catalogue
            return
        yield catalogue, await stack.enter_async_context(database(settings.ledger_url))


@contextmanager
def _naming_the_folder(settings: Settings) -> Iterator[None]:
    """Add to an error about a database or a table that nobody named which folder was searched for its name."""
    try:
        yield
    except (CatalogueError, LedgerError) as error:
        if "rehost.toml" in settings.found or (settings.found and not isinstance(error, MissingTableError)):
            raise
        lacking = Message("no rehost.toml") if ".env" in settings.found else Message("neither rehost.toml nor .env")
        default = Message("the table is") if settings.found else Message("the database and the table are")
        error.add(
            "The folder {folder} has {lacking}, so {default} the default ({table}). Name your database in .env and "
            "describe your table in rehost.toml there (docs/howto/other-tables.md), or name their folder with --base.",
            folder=settings.base,
            lacking=lacking,
            default=default,
            table=Source().table,
        )
        raise


async def open_catalogues(
    database: Database, sources: Sequence[Source], *, is_joint: bool = False
) -> Sequence[TableCatalogue]:
    """Open the table of each source; `is_joint` as in `TableCatalogue.open`.

    Raises:
        CatalogueError: some tables cannot be used; the message has a line for each of several sources.
        OperatorError: the database cannot be used.
    """
    from rehost.catalogue import TableCatalogue

    opened: list[TableCatalogue] = []
    fault = CatalogueError()
    for source in sources:
        try:
            opened.append(await TableCatalogue.open(database, source, is_joint=is_joint))
        except CatalogueError as error:
            is_common = any(message.fields["fault"] == str(error) for message in fault.messages)  # no database
            if len(sources) == 1 or is_common:
                raise
            fault.add("{source}: {fault}", source=source.name, fault=error.messages[0])
    if fault.messages and opened:
        fault.add("To leave them out: --source {sources}.", sources=" --source ".join(each.name for each in opened))
    if fault.messages:
        raise fault
    return opened


async def check_store(settings: Settings, ledger: Ledger, catalogues: Sequence[TableCatalogue]) -> None:
    """Check that the folder is the store that holds the ledger's copies, before anything is created in it.

    Where the operator has cleared all rows of held copies, the folder may be gone too: everything is wanted again.

    Raises:
        OperatorError: it is not, or the database cannot be used.
    """
    if (moved := await ledger.stores.problem(place_of(settings))) is not None:
        raise moved
    if (problem := await marker_problem(settings, ledger.stores)) is not None:
        holding = [each for each in catalogues if await ledger.stores.holds_copies(each.name)]
        if not holding or not all([await ledger.sync.is_redo(each.name, each.links()) for each in holding]):
            raise problem


async def store_problem(settings: Settings, stores: Stores) -> StoreError | None:
    """Return what is wrong if the ledger has copies, and the folder is not the store that holds them."""
    return await stores.problem(place_of(settings)) or await marker_problem(settings, stores)


async def marker_problem(settings: Settings, stores: Stores) -> StoreError | None:
    """Return what is wrong if the ledger has copies, and the folder has the marker of no store that ever held them."""
    known = await stores.known()
    if not known or not await stores.holds_copies():
        return None
    from rehost.store.local import check_marker
    from rehost.store.publish import check_identity

    try:
        if isinstance(settings.storage_dir, Bucket):
            check_identity(await marker_of(settings), str(settings.storage_dir), known)
        else:
            await asyncio.to_thread(check_marker, settings.storage_dir, known)
    except StoreError as error:
        return error
    return None


@asynccontextmanager
async def other_store(settings: Settings, ledger: Ledger) -> AsyncIterator[Store | None]:
    """Open the store from which all copies were moved, or to which they are being moved; None if there is none.

    Raises:
        StoreError: it is not there.
    """
    from rehost.ledger.moves import Moves, Phase

    last = await Moves(ledger.database).last()
    if last is None or last.emptied_at is not None:
        yield None
        return
    place, store = last.from_place, last.from_store
    if last.phase is Phase.COPYING:
        place, store = last.to_place, last.to_store
    there = replace(settings, storage_dir=STORAGE.parse(place))
    if await marker_of(there) != store:
        raise StoreError(
            "{place} may have copies too, because of `rehost move-store`, but it is not there: mount it; or, if it is "
            "deleted, say so with `rehost move-store --delete-old`.",
            place=place,
        )
    async with open_store(there, Clock(), ledger, is_in_use=False) as opened:
        yield opened


async def marker_of(settings: Settings) -> str | None:
    """Return the id of the store; None if there is none.

    Raises:
        StoreError: the folder or the bucket cannot be used.
    """
    where = settings.storage_dir
    if isinstance(where, Bucket):
        from rehost.store.s3 import read_marker as read_object

        return await read_object(bucket_client(settings, Clock()))
    from rehost.store.filesystem import as_store_errors
    from rehost.store.publish import read_marker

    with as_store_errors(where):
        return await asyncio.to_thread(read_marker, where)


def place_of(settings: Settings) -> str:
    """Return where the copies are as the ledger has it."""
    where = settings.storage_dir
    return str(where if isinstance(where, Bucket) else where.absolute())


@asynccontextmanager
async def open_queries(settings: Settings) -> AsyncIterator[Queries]:
    """Open the ledger for questions; they change nothing, unless its tables are those of an earlier rehost.

    Raises:
        OperatorError: the database cannot be used.
    """
    from rehost.ledger.reports import Queries

    clock = Clock()
    async with open_databases(settings, clock, reads_only=True) as (catalogue, ledger):
        there = 0 if ledger is not catalogue and ledger.is_missing() else await version(ledger)
        if there == LATEST:
            yield Queries(ledger)
            return
        if not there:
            from rehost.ledger.scratch import copy_ledger

            async with copy_ledger(ledger, "", clock, is_joint=True) as empty:
                yield Queries(empty)
            return
    async with open_databases(settings, clock) as (_, ledger):
        await migrate(ledger)
        yield Queries(ledger)


async def plan(settings: Settings, sources: Collection[str] = ()) -> Sequence[Planned]:
    """Return what a run over these sources, or over all, would plan now, and change nothing: no row, table or file.

    The run's own planner works on a copy of each source's ledger.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    from rehost.ledger import Ledger
    from rehost.ledger.scratch import copy_ledger
    from rehost.run.planner import Planner

    clock, chosen, plans = Clock(), sources_of(settings, sources), []
    async with AsyncExitStack() as stack:
        catalogue_db, ledger_db = await stack.enter_async_context(open_databases(settings, clock, reads_only=True))
        is_joint = catalogue_db is ledger_db
        store = await stack.enter_async_context(open_store(settings, clock, None))
        catalogues = await open_catalogues(catalogue_db, chosen, is_joint=False)
        for source, catalogue in zip(chosen, catalogues, strict=True):
            layout = layout_of(settings, source)
            async with copy_ledger(ledger_db, source.name, clock, is_joint=is_joint) as copy:
                ledger = Ledger(copy, worker(), lease_seconds=settings.lease_seconds, url=layout.url)
                await ledger.leases.release_dead_workers(identity.is_gone)
                await check_store(settings, ledger, [catalogue])
                planned, _ = await Planner(ledger, store, catalogue, layout).compare()
                plans.append(planned)
    return plans


@asynccontextmanager
async def open_hosts(settings: Settings) -> AsyncIterator[tuple[HostShares, OriginRepository, Freezes]]:
    """Open the ledger to change what is known of hosts: their pauses, what was learned of their origins, what froze.

    Raises:
        OperatorError: the database cannot be used.
    """
    from rehost.hosts.shares import HostShares
    from rehost.hotlink.repository import OriginRepository
    from rehost.ledger.freezes import Freezes

    name, lease = identity.name(), settings.lease_seconds
    async with open_databases(settings, Clock()) as (_, ledger):
        await migrate(ledger)
        shares = HostShares(ledger, worker=name, concurrency=settings.concurrency, lease_seconds=lease)
        yield shares, OriginRepository(ledger, worker=name, lease_seconds=lease), Freezes(ledger)
