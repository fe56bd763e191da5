"""Builds what upkeep needs: the parts of a run over each source, without planning one; and takes a run back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rehost.clock import Clock
from rehost.db import Database
from rehost.errors import LedgerError, OperatorError, SettingsError, StoreError
from rehost.events import Listener, RunEnded
from rehost.ledger import Ledger
from rehost.ledger.copies import Copies
from rehost.ledger.history import Runs, Stores
from rehost.ledger.migrations import migrate
from rehost.ledger.moves import Move, Moves, Phase
from rehost.ledger.stories import Stories
from rehost.ledger.usage import UsageQueries
from rehost.model import Bucket, KnownStore
from rehost.run.limits import Limits
from rehost.run.run import Components
from rehost.settings import Settings
from rehost.settings.types import STORAGE
from rehost.upkeep import undo as undoing
from rehost.upkeep.forget import Takedowns, Targets
from rehost.upkeep.journal import Journal
from rehost.upkeep.move import Emptying, Mover, MoveReport, Place
from rehost.upkeep.prune import Pruner
from rehost.upkeep.putback import PutBack
from rehost.upkeep.story import Story, StoryTeller
from rehost.upkeep.usage import Usage, measure
from rehost.wiring.databases import (
    layout_of,
    marker_of,
    marker_problem,
    open_catalogues,
    open_databases,
    open_queries,
    open_store,
    place_of,
    sources_of,
    store_problem,
    worker,
)
from rehost.wiring.run import left_out, limits_of, open_parts, open_verifier, takedowns_of


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
            await takedowns_of(settings, parts, left_out(settings, chosen)).finish()
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
        yield takedowns_of(settings, parts.sources, tell=tell), Targets(parts.sources)


async def is_moving(settings: Settings) -> bool:
    """Return whether a move of the copies is under way.

    Raises:
        OperatorError: the ledger cannot be read.
    """
    async with open_databases(settings, Clock()) as (_, ledger_db):
        await migrate(ledger_db)
        move = await Moves(ledger_db).last()
        return move is not None and move.is_going


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
        if (move := await Moves(ledger_db).last()) is not None and move.is_going:
            raise LedgerError(
                "Copies are being moved to {target}: nothing is pruned until `rehost move-store {target}` has ended.",
                target=move.to_place,
            )
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


# --- move-store


@dataclass(frozen=True, slots=True)
class _Course:
    """Which move is wanted."""

    origin: Settings  # with the place where the copies are
    target: Settings  # with the place where they are to be
    last: Move | None  # the one under way, or the last one
    begins: bool  # it is not under way yet


async def settle_move(settings: Settings, target: Path | Bucket) -> MoveReport | None:
    """Return the report of a move that needs no more: it has ended, or leads away from this place and is given up now.

    It is given up if no key and no row has changed yet. None stands for a move that is to be made.

    Raises:
        OperatorError: the database cannot be used.
    """
    async with open_databases(settings, Clock()) as (_, ledger_db):
        await migrate(ledger_db)
        last, to = await Moves(ledger_db).last(), place_of(_with(settings, target))
        phase = None
        if last is not None and last.phase is Phase.ENDED and to == last.to_place:
            phase = Phase.ENDED
        elif last is not None and last.phase is Phase.COPYING and to == last.from_place:
            phase = Phase.ABANDONED
        if last is None or phase is None:
            return None
        report = MoveReport(last.from_place, last.to_place, str(phase))
        report.take(await Moves(ledger_db).counts())
        if phase is Phase.ABANDONED:
            await Moves(ledger_db).give_up()
        return report


async def delete_former(
    settings: Settings, stop: asyncio.Event, tell: Callable[[MoveReport], None], *, dry: bool
) -> MoveReport:
    """Delete the copies at the place from which all were moved; return how many these are. Unless `dry`, say so.

    The trash, the quarantine and other files stay.

    Raises:
        OperatorError: rows lead there still, no move has ended, or a database or a store cannot be used.
    """
    clock = Clock()
    async with open_databases(settings, clock) as (catalogue_db, ledger_db):
        await migrate(ledger_db)
        moves, stores = Moves(ledger_db), Stores(ledger_db)
        move = await moves.last()
        if move is None or move.phase is not Phase.ENDED:
            raise LedgerError("No move of the copies has ended: there is no former place to be deleted.")
        here, there = (_with(settings, STORAGE.parse(place)) for place in (move.to_place, move.from_place))
        if (problem := await marker_problem(here, stores)) is not None:
            raise problem
        report = MoveReport(move.from_place, move.to_place, "emptied", dry=dry)
        ledger = Ledger(ledger_db, worker(), lease_seconds=settings.lease_seconds, url=lambda key, _digest: key)
        if await marker_of(there) == move.from_store:
            async with open_store(there, clock, ledger, is_in_use=False) as store:
                emptying = Emptying(store, [layout_of(there, each) for each in settings.sources], report, stop, tell)
                if layout_of(there, settings.sources[0]).has_digest != isinstance(here.storage_dir, Bucket):
                    for catalogue in await open_catalogues(catalogue_db, settings.sources):
                        await emptying.check_rows(catalogue)
                await emptying.delete(dry=dry)
        if not dry and not stop.is_set():
            await moves.mark_emptied(move.move)
        return report


async def survey_move(settings: Settings, target: Path | Bucket) -> MoveReport:
    """Return what a move to this place would have to do, and change nothing but an outdated ledger.

    Raises:
        OperatorError: the copies cannot be moved there, or the database or a store cannot be used.
    """
    async with open_databases(settings, Clock()) as (_, ledger_db):
        await migrate(ledger_db)
        course = await _course(settings, target, ledger_db)
        report = MoveReport(place_of(course.origin), place_of(course.target), dry=True)
        if course.last is not None and not course.begins:
            report.phase = str(course.last.phase)
        report.take(await Moves(ledger_db).counts())
        return report


@asynccontextmanager
async def open_mover(
    settings: Settings,
    target: Path | Bucket,
    stop: asyncio.Event,
    tell: Callable[[MoveReport], None] = lambda _report: None,
) -> AsyncIterator[Mover]:
    """Open what `rehost move-store` needs, for all sources, and record that the move begins, or goes on.

    Args:
        settings: all of them, with the place where the copies are.
        target: the place where they are to be.
        stop: ends it early.
        tell: gets reports of how far it is.

    Raises:
        OperatorError: the copies cannot be moved there, or a database or a store cannot be used.
    """
    clock, me = Clock(), worker()
    async with AsyncExitStack() as stack:
        catalogue_db, ledger_db = await stack.enter_async_context(open_databases(settings, clock))
        catalogues = await open_catalogues(catalogue_db, settings.sources, is_joint=catalogue_db is ledger_db)
        await migrate(ledger_db)
        moves, course = Moves(ledger_db), await _course(settings, target, ledger_db)
        layouts = {each.name: layout_of(course.target, each) for each in settings.sources}
        url = next(iter(layouts.values())).url
        ledger = Ledger(ledger_db, me, lease_seconds=settings.lease_seconds, url=url)
        origin = await stack.enter_async_context(open_store(course.origin, clock, ledger))
        to = await stack.enter_async_context(open_store(course.target, clock, ledger))
        if course.begins:
            places = [KnownStore(await each.identity(), each.where, me.host) for each in (origin, to)]
            is_switching = course.last is not None and course.last.phase is Phase.SWITCHING
            await moves.begin(*places, switching=is_switching)
        move = await moves.last()
        assert move is not None, "it was begun"
        named = {each.name: each for each in catalogues}
        yield Mover(ledger, move, named, origin, Place(to, layouts), clock=clock, stop=stop, tell=tell)


async def _course(settings: Settings, target: Path | Bucket, database: Database) -> _Course:
    """Return where the copies are and whether the move is under way, after checking that it can be made."""
    last, stores = await Moves(database).last(), Stores(database)
    there = _with(settings, target)
    to = place_of(there)
    if last is not None and last.is_going and to not in {last.from_place, last.to_place}:
        raise LedgerError(
            "A move from {origin} to {target} is under way: complete it with `rehost move-store {target}`, or take it "
            "back with `rehost move-store {origin}`.",
            origin=last.from_place,
            target=last.to_place,
        )
    begins = last is None or not last.is_going or to == last.from_place
    if last is not None and last.is_going and to == last.to_place:
        here = _with(settings, STORAGE.parse(last.from_place))
    elif last is not None and to == last.from_place:
        here = _with(settings, STORAGE.parse(last.to_place))
    else:
        here = settings
    if (problem := await _move_problem(here, there, stores, settings)) is not None:
        raise problem
    if unknown := await Moves(database).sources() - {each.name for each in settings.sources}:
        raise SettingsError(
            "The ledger has copies of {sources}, which the settings do not name: all copies are moved, or none.",
            sources=", ".join(sorted(unknown)),
        )
    return _Course(here, there, last, begins)


async def _move_problem(here: Settings, there: Settings, stores: Stores, given: Settings) -> OperatorError | None:
    """Return why copies cannot be moved from one place to another."""
    known, places = await stores.known(), {"origin": place_of(here), "target": place_of(there)}
    if not known or _is_within(here.storage_dir, there.storage_dir) or _is_within(there.storage_dir, here.storage_dir):
        return SettingsError(
            "Copies cannot be moved from {origin} to {target}: one is the other, or in it, or there are no copies yet.",
            **places,
        )
    if here is given and (moved := await stores.problem(places["origin"])) is not None:
        return moved
    if (problem := await marker_problem(here, stores)) is not None:
        return problem
    found, own = await marker_of(there), await marker_of(here)
    is_known = found in {each.store for each in known} or await Moves(stores.database).knows(found or "")
    if found is not None and (found == own or not is_known) and await _has_copies(there):
        return StoreError(
            "{target} is another store already (its id begins with {id}), with copies: name an empty place.",
            id=found[:8],
            **places,
        )
    return None


async def _has_copies(settings: Settings) -> bool:
    async with open_store(settings, Clock(), None) as store:
        async for keys in store.keys():
            if keys:
                return True
    return False


def _with(settings: Settings, place: Path | Bucket) -> Settings:
    return replace(settings, storage_dir=place)


def _is_within(inner: Path | Bucket, outer: Path | Bucket) -> bool:
    if isinstance(inner, Path) and isinstance(outer, Path):
        return inner.resolve().is_relative_to(outer.resolve())
    return isinstance(inner, Bucket) and isinstance(outer, Bucket) and f"{inner}/".startswith(f"{outer}/")
