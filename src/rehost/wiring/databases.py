"""Opens the databases, for runs and for what needs nothing else: questions to the ledger, and undo."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from random import SystemRandom

import rehost
from rehost import process_identity as identity
from rehost.catalogue import TableCatalogue
from rehost.clock import Clock
from rehost.db import Database
from rehost.errors import CatalogueError, LedgerError, MissingTableError, SettingsError
from rehost.events import Listener
from rehost.language import Message
from rehost.ledger.history import Runs, Worker
from rehost.ledger.migrations import migrate
from rehost.ledger.reports import Queries
from rehost.model import Source
from rehost.run import undo as undoing
from rehost.settings import Settings
from rehost.store.layout import Layout

OUTAGE_SECONDS = 5.0  # a request does not wait longer for a database that was reached before


def worker() -> Worker:
    """Return this process as the ledger knows it."""
    return Worker(identity.name(), platform.node(), os.getpid(), identity.user(), rehost.__version__)


def source_of(settings: Settings, name: str | None) -> Source:
    """Return the source of that name; without a name the only one.

    Raises:
        SettingsError: there is no such source, or there are several and no name.
    """
    sources = {each.name: each for each in settings.sources}
    if name is None and len(sources) == 1:
        return next(iter(sources.values()))
    if name not in sources:
        known = ", ".join(sources)
        if name is None:
            raise SettingsError(f"There are several sources: choose one with --source ({known}).")
        raise SettingsError(f"There is no source named {name}. Sources: {known}; rehost.toml can define more.")
    return sources[name]


@asynccontextmanager
async def open_databases(
    settings: Settings, clock: Clock, outage_seconds: float = 120.0, listen: Listener = lambda _event: None
) -> AsyncIterator[tuple[Database, Database]]:
    """Open the catalogue's database and the ledger's, which are one and the same unless REHOST_LEDGER_URL differs.

    Args:
        settings: all of them.
        clock: for the waits while a database is away.
        outage_seconds: how long one that was reached once may be away.
        listen: is called with events of outages.
    """
    database = partial(Database, clock=clock, random=SystemRandom(), outage_seconds=outage_seconds, listen=listen)
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
            "The folder {folder} has {lacking}, so {default} the default ({table}). Describe your own in rehost.toml "
            "there (docs/howto/other-tables.md), or name its folder with --base.",
            folder=settings.base,
            lacking=lacking,
            default=default,
            table=Source().table,
        )
        raise


@asynccontextmanager
async def open_queries(settings: Settings) -> AsyncIterator[Queries]:
    """Open the ledger for questions.

    Raises:
        OperatorError: the database cannot be used.
    """
    async with open_databases(settings, Clock()) as (_, ledger):
        await migrate(ledger)
        yield Queries(ledger)


async def undo(settings: Settings, *, source: str | None, run: int) -> undoing.Undone:
    """Put the column back as it was before a run, where it has not changed since.

    Raises:
        OperatorError: there is no such run, or the database cannot be used.
    """
    async with open_databases(settings, Clock()) as (catalogue_db, ledger_db):
        await migrate(ledger_db)
        chosen = source_of(settings, source)
        layout = Layout(chosen.path, settings.static_url_prefix)

        def is_there(url: str) -> bool:
            key = layout.key_of_url(url)
            return key is None or (settings.storage_dir / key).is_file()  # another URL cannot be checked

        catalogue = await TableCatalogue.open(catalogue_db, chosen)
        return await undoing.undo(Runs(ledger_db, worker()), run, catalogue, is_there=is_there)
