"""Builds what upkeep needs: the parts of a run over each source, without planning one; and takes a run back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rehost import process_identity as identity
from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.events import Listener, RunEnded
from rehost.ledger import Ledger
from rehost.ledger.copies import Copies
from rehost.ledger.history import Runs, Stores
from rehost.ledger.migrations import migrate
from rehost.ledger.stories import Stories
from rehost.ledger.usage import UsageQueries
from rehost.run.limits import Limits
from rehost.run.run import Components
from rehost.settings import Settings
from rehost.upkeep import undo as undoing
from rehost.upkeep.forget import Takedowns, Targets
from rehost.upkeep.journal import Journal
from rehost.upkeep.prune import Pruner
from rehost.upkeep.putback import PutBack
from rehost.upkeep.story import Story, StoryTeller
from rehost.upkeep.usage import Usage, measure
from rehost.wiring.databases import (
    layout_of,
    open_catalogues,
    open_databases,
    open_queries,
    open_store,
    sources_of,
    store_problem,
    worker,
)
from rehost.wiring.run import left_out, limits_of, open_parts, open_verifier


@dataclass(frozen=True, slots=True)
class UpkeepParts:
    """What the verbs of upkeep work with."""

    sources: Sequence[Components]
    limits: Limits
    clock: Clock
    listen: Listener
    archive: str = ""  # that pictures are rescued from

    @property
    def ledger(self) -> Ledger:
        """Return the ledger, which all sources share."""
        return self.sources[0].ledger


@asynccontextmanager
async def open_upkeep(
    settings: Settings,
    sources: Collection[str] = (),
    listen: Listener = lambda _event: None,
    *,
    finishes_takedowns: bool = True,
) -> AsyncIterator[UpkeepParts]:
    """Open everything that upkeep of these sources, or of all, needs; complete takedowns that were interrupted.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    clock, limits = Clock(), limits_of(settings, settings.concurrency)
    chosen = sources_of(settings, sources)
    async with open_parts(settings, chosen, clock, limits, listen) as parts:
        await parts[0].planner.recover()
        if finishes_takedowns:
            await Takedowns(parts, identity.user(), left_out(settings, chosen)).finish()
        yield UpkeepParts(parts, limits, clock, listen, settings.rescue_archive)


async def why(settings: Settings, asked: str, sources: Collection[str] = ()) -> Sequence[Story]:
    """Return the stories of the pictures that a row's key, a URL or a file means; nothing is changed.

    Raises:
        OperatorError: a setting, the database or a table cannot be used.
    """
    clock, chosen = Clock(), sources_of(settings, sources)
    async with (
        open_queries(settings) as queries,
        open_databases(settings, clock, reads_only=True) as (database, _),
        open_verifier(settings, clock) as verifier,
        open_store(settings, clock, None) as store,
    ):
        catalogues = await open_catalogues(database, chosen)
        layouts = {each.name: layout_of(settings, each) for each in chosen}
        teller = StoryTeller(Stories(queries.database), catalogues, layouts, store, verifier)
        return await teller.tell(asked)


@asynccontextmanager
async def open_takedowns(
    settings: Settings, tell: Callable[[int], None] = lambda _files: None, *, finishes: bool = True
) -> AsyncIterator[tuple[Takedowns, Targets]]:
    """Open what takes pictures down in all sources, after completing what was interrupted if it `finishes` that.

    `tell` as in Takedowns.

    Raises:
        OperatorError: a setting, the database, a table or the store cannot be used.
    """
    async with open_upkeep(settings, finishes_takedowns=finishes) as parts:
        yield Takedowns(parts.sources, identity.user(), tell=tell), Targets(parts.sources)


@asynccontextmanager
async def open_pruner(
    settings: Settings, stop: asyncio.Event, tell: Callable[[int], None] = lambda _files: None
) -> AsyncIterator[Pruner]:
    """Open what `rehost prune` needs: always all sources, because a file that one of them needs may look like a stray.

    Args:
        settings: all of them.
        stop: ends it early.
        tell: gets the number of files that were looked at.

    Raises:
        OperatorError: a source cannot be read, or the store is not the one that holds the ledger's copies.
    """
    async with open_databases(settings, Clock()) as (_, ledger_db):
        await migrate(ledger_db)
        if (problem := await store_problem(settings, Stores(ledger_db))) is not None:
            raise problem
    async with open_upkeep(settings) as parts:
        journal = Journal(parts.ledger.runs, "prune")
        yield Pruner(parts.sources, Copies(parts.ledger.database), journal, parts.clock, stop, tell)


async def usage(settings: Settings, tell: Callable[[int], None] = lambda _files: None) -> Usage:
    """Return what the copies take up, in the ledger and in the store; change nothing.

    Args:
        settings: all of them.
        tell: gets the number of files that were looked at.

    Raises:
        OperatorError: the ledger or the store cannot be read.
    """
    clock = Clock()
    async with open_queries(settings) as opened:
        queries, copies = UsageQueries(opened.database), Copies(opened.database)
        problem = await store_problem(settings, Stores(opened.database))
        if problem is None and isinstance(settings.storage_dir, Path) and not settings.storage_dir.is_dir():
            problem = StoreError("{folder} does not exist.", folder=settings.storage_dir)
        if problem is not None:
            return Usage(await queries.usage(clock.now()), None, problem.messages[0])
        layouts = {each.name: layout_of(settings, each) for each in settings.sources}
        async with open_store(settings, clock, None) as store:
            return await measure(queries, copies, store, layouts, clock, tell)


async def undo(settings: Settings, *, sources: Collection[str] = (), run: int) -> Mapping[str, undoing.Undone]:
    """Put rows and copies back as they were before a run, where they have not changed since; return that by source.

    Args:
        settings: all of them.
        sources: which of them; none named means all sources that the run was over.
        run: its number.

    Raises:
        OperatorError: there is no such run, the settings lack one of its sources, or the database or the store cannot
            be used.
    """
    chosen = sources_of(settings, sources)
    async with open_databases(settings, Clock()) as (_, ledger_db):
        await migrate(ledger_db)
        runs = Runs(ledger_db, worker())
        names = list(sources or await runs.sources(run) or [chosen[0].name])
        for name in names:
            await runs.check(run, name)
    async with open_upkeep(settings, names) as parts:
        journal, undone = Journal(parts.ledger.runs, "undo"), dict[str, undoing.Undone]()
        for each in parts.sources:
            recorder = each.recorder
            undone[recorder.catalogue.name] = await undoing.undo(
                journal,
                run,
                recorder.catalogue,
                put_back=PutBack(recorder, each.visitor.verifier),
                find_lost=partial(_find_lost, each),
            )
        ends = {
            name: RunEnded(name, held=0, unchanged=0, adopted=0, mended=each.restored) for name, each in undone.items()
        }
        await journal.end(ends)
        return undone


async def _find_lost(parts: Components, urls: Collection[str]) -> set[str]:
    """Return which of these local URLs lead to no file; other URLs cannot be checked."""
    keys = {url: key for url in urls if (key := parts.recorder.layout.key_of_url(url)) is not None}
    there = await parts.store.states(set(keys.values()))
    return {url for url, key in keys.items() if key not in there}
