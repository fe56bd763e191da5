"""The history: how each link's last KEPT visits ended, which run wrote what into which row, which stores were in use.

A link's visits are in a ring of slots: nothing has to be deleted, and years of visits take no more room than months. A
visit that ended like the one before it increases that one's count.

All processes of one command and all its sources are one run: each process has its own row for each source, with the
number of the first of these rows as its `crew`. What they write into rows they write under that number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from rehost.db import Columns, Connection, Database, now
from rehost.errors import LedgerError, StoreError
from rehost.ledger.schema import changes, links, moves, runs, stores, visits
from rehost.model import Copy, Deferred, KnownStore, Link, Outcome, Reason, Refused, State, Stored, Unchanged

if TYPE_CHECKING:
    from rehost.events import RunEnded

KEPT = 50  # of one link; a link that fails differently every day is followed for seven weeks

_VISIT: Columns = {"entry": BigInteger(), "outcome": Text(), "reason": Text(), "evidence": Text(), "digest": Text()}
_SAME = ("outcome", "reason", "digest")
_TEXTS = ("url", "before_url", "after_url", "before_key", "before_digest", "after_digest")
_CHANGE: Columns = {"source": Text(), "row_key": Text(), "position": Integer(), **{name: Text() for name in _TEXTS}}

VisitRow = tuple[int, str, str | None, str | None, str | None]
"""A visit as `History.add_visits` takes it: entry, outcome, reason, evidence, digest."""


class End(StrEnum):
    """How a visit ended."""

    HELD = "held"  # a whole picture came
    ADOPTED = "adopted"  # the picture was in the store already; no request was sent
    UNCHANGED = "unchanged"  # the origin said that the held copy is still right
    OVERTAKEN = "overtaken"  # a picture came, but the row held another link by then
    DEFERRED = "deferred"  # no picture, for a cause that passes
    REFUSED = "refused"  # no picture, for a cause that stays; or a held one that proved to be a decoy


@dataclass(frozen=True, slots=True)
class History:
    """Writes the history; `Queries` reads it."""

    database: Database

    async def add_visits(self, connection: Connection, run: int, rows: Sequence[VisitRow]) -> None:
        """Add visits, each of another link, in one statement of the transaction that records their outcomes."""
        if not rows:
            return
        given = self.database.given(_VISIT, rows)
        numbered = (
            select(*(given.c[name] for name in _VISIT), links.c.url, _turn(given).label("turn"))
            .where(links.c.entry == given.c.entry)
            .cte("numbered")
            .prefix_with("MATERIALIZED")
        )
        turn = numbered.c.turn
        query = select(
            *(numbered.c[name] for name in (*_VISIT, "url")),
            turn,
            turn % KEPT,
            literal(run, BigInteger),
            now(),
            now(),
            literal(1),
        ).where(turn > 0)  # SQLite, "Upsert", 2.1: a SELECT needs a WHERE before ON CONFLICT
        adding = self.database.insert(visits).from_select(
            [*_VISIT, "url", "turn", "slot", "run", "first_at", "last_at", "times"], query
        )
        is_again = visits.c.turn == adding.excluded.turn
        await connection.execute(
            adding.on_conflict_do_update(
                index_elements=[visits.c.entry, visits.c.slot],
                set_={
                    **{name: adding.excluded[name] for name in (*_VISIT, "url", "turn", "run", "last_at")},
                    "first_at": case((is_again, visits.c.first_at), else_=adding.excluded.first_at),
                    "times": case((is_again, visits.c.times + 1), else_=1),
                },
            )
        )

    async def correct(
        self,
        connection: Connection,
        given: FromClause,
        end: End,
        reason: Reason | None = None,
        evidence: ColumnElement[str] | None = None,
    ) -> None:
        """Correct how the last visits of these entries ended, from held: their rows could not be written.

        Args:
            connection: with an open transaction.
            given: entries, with the digests (`ours`) that were recorded.
            end: how they ended.
            reason: why, if the rows still have their links.
            evidence: a column of `given`, with a reason.
        """
        later = visits.alias("later")
        last = select(func.max(later.c.turn)).where(later.c.entry == visits.c.entry).scalar_subquery()
        await connection.execute(
            update(visits)
            .values(outcome=end.value, reason=reason and reason.value, evidence=evidence)
            .where(
                visits.c.entry == given.c.entry,
                visits.c.turn == last,
                visits.c.digest == given.c.ours,
                visits.c.outcome.in_((End.HELD.value, End.ADOPTED.value)),
            )
        )

    async def add_changes(
        self,
        connection: Connection,
        run: int,
        written: Iterable[tuple[Link, str | None, str | None]],
        *,
        lost: bool | None = None,
        copies: Mapping[Link, tuple[Copy | None, Copy | None]] | None = None,
    ) -> None:
        """Add what a run wrote into rows, for `rehost undo`: links, with the local URL before and after.

        Pairs of equal URLs are left out, unless they lead to other bytes than before. Call it in the transaction that
        writes the rows or, if they are in another database, before that transaction.

        Args:
            connection: with an open transaction.
            run: the run's number.
            written: links, with the local URL before and after.
            lost: the rows were cleared because their files were missing.
            copies: the links' own copies before and after, as far as they had or have one.
        """
        rows = []
        for link, before, after in written:
            former, copy = (copies or {}).get(link, (None, None))
            is_replaced = former is not None and (copy is None or copy.digest != former.digest)
            if before != after or is_replaced:
                digests = (former and former.key, former and former.digest, copy and copy.digest)
                rows.append((link.source, link.row_key, link.position, link.url, before, after, *digests))
        if not rows:
            return
        given = self.database.given(_CHANGE, rows)
        query = select(literal(run, BigInteger), *(given.c[name] for name in _CHANGE), now(), literal(lost, Boolean))
        await connection.execute(insert(changes).from_select(["run", *_CHANGE, "changed_at", "lost"], query))


def visit_row(outcome: Outcome, *, is_held: bool) -> VisitRow:
    """Return an outcome as `History.add_visits` takes it; `is_held` if its row points at its copy now."""
    entry = outcome.task.entry
    match outcome:
        case Stored(copy=copy, final_url=final_url):
            end = End.OVERTAKEN if not is_held else End.ADOPTED if final_url is None else End.HELD
            return entry, end.value, None, None, copy.digest
        case Unchanged(task=task, reason=reason, evidence=evidence):
            return (
                entry,
                End.UNCHANGED.value,
                reason and reason.value,
                evidence,
                task.copy.digest if task.copy else None,
            )
        case Deferred(reason=reason, evidence=evidence):
            return entry, End.DEFERRED.value, reason.value, evidence, None
        case Refused(reason=reason, evidence=evidence):
            return entry, End.REFUSED.value, reason.value, evidence, None


def refused_row(outcome: Stored, evidence: str) -> VisitRow:
    """Return the outcome of a visit whose row the database refused to write, as `History.add_visits` takes it."""
    return outcome.task.entry, End.DEFERRED.value, Reason.ROW_REFUSED.value, evidence, outcome.copy.digest


def _turn(given: FromClause) -> ColumnElement[int]:
    """Return the number of the visit: the last one's if that ended alike, else the next."""
    last = visits.alias("last")
    is_alike = and_(last.c.url == links.c.url, *(last.c[name].is_not_distinct_from(given.c[name]) for name in _SAME))
    turn = (
        select(case((is_alike, last.c.turn), else_=last.c.turn + 1))
        .where(last.c.entry == given.c.entry)
        .order_by(last.c.turn.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(turn, 1)


@dataclass(frozen=True, slots=True)
class Worker:
    """One process on one machine."""

    name: str  # unique among all workers ever
    host: str
    pid: int
    os_user: str
    version: str  # of rehost


@dataclass(frozen=True, slots=True)
class RowChange:
    """What a run changed in one row's cell: the content before its first write and after its last."""

    number: int  # increases with every change
    row_key: str
    url: str  # the link that the row held
    before: str | None  # local URL
    after: str | None
    position: int = 0
    before_key: str | None = None  # of the link's own copy
    before_digest: str | None = None  # its bytes are in the store's trash
    after_digest: str | None = None
    entry: int | None = None  # of the link, if it still holds the copy that the run left it with

    @property
    def is_replaced(self) -> bool:
        """Return whether the link's own copy was replaced by one with other bytes."""
        return self.before_digest is not None and self.after_digest not in {None, self.before_digest}

    @property
    def is_removed(self) -> bool:
        """Return whether the link's own copy, or a file without one, was moved to the trash."""
        return self.before_digest is not None and self.after_digest is None


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of this worker, and what any run wrote."""

    database: Database
    worker: Worker

    async def begin(self, source: str, crew: int | None = None, verb: str | None = None) -> int:
        """Record that a run over a source starts, by itself or as part of the run `crew`; return its number.

        `verb` is that of the command, for what is not `rehost run`.
        """
        worker = self.worker
        adding = (
            insert(runs)
            .values(
                source=source,
                worker=worker.name,
                host=worker.host,
                pid=worker.pid,
                os_user=worker.os_user,
                version=worker.version,
                started_at=now(),
                crew=crew,
                verb=verb,
            )
            .returning(runs.c.run)
        )

        async def work(connection: Connection) -> int:
            return int((await connection.execute(adding)).scalar_one())

        return await self.database.transact(work)

    async def end(self, run: int, ended: RunEnded, stopped: str | None = None) -> None:
        """Record how a run ended, and the error that stopped it, if one did."""
        ending = (
            update(runs)
            .values(
                ended_at=now(),
                held=ended.held,
                unchanged=ended.unchanged,
                adopted=ended.adopted,
                failed=sum(ended.failed.values()),
                overtaken=ended.overtaken,
                size=ended.size,
                seconds=ended.seconds,
                interrupted=ended.interrupted,
                mended=ended.mended,
                stopped=stopped,
                reasons=json.dumps({reason.value: number for reason, number in sorted(ended.failed.items())}),
            )
            .where(runs.c.run == run)
        )
        await self.database.execute(ending)

    async def request_stop(self, run: int) -> None:
        """Ask all processes of a run to end; they read this every few seconds."""
        await self.database.execute(
            update(runs).values(stop_at=now()).where(or_(runs.c.run == run, runs.c.crew == run))
        )

    async def is_to_stop(self, run: int) -> bool:
        """Return whether somebody has asked for the end of a run."""
        asked = select(runs.c.run).where(runs.c.run == run, runs.c.stop_at.is_not(None))
        return bool(await self.database.fetch_all(asked))

    async def sources(self, run: int) -> Sequence[str]:
        """Return the sources that a run was over; none if there is no such run.

        Raises:
            LedgerError: it is just a part of a run.
        """
        is_part = or_(runs.c.run == run, runs.c.crew == run)
        found = await self.database.fetch_all(select(runs.c.source, runs.c.crew).where(is_part).order_by(runs.c.run))
        if found and (crew := found[0].crew) is not None:
            raise LedgerError(
                "Run {run} is a part of run {crew}: `rehost undo {crew}` undoes all of it.", run=run, crew=crew
            )
        return list(dict.fromkeys(row.source for row in found))

    async def check(self, run: int, source: str) -> None:
        """Raise LedgerError unless this is a run, and not just a part of one, and was over the source."""
        found = await self.sources(run)
        if not found:
            raise LedgerError("There is no run {run}; `rehost status` lists the runs.", run=run)
        if source not in found:
            raise LedgerError(
                "Run {run} was over {found}, not over {source}; `rehost status` lists runs.",
                run=run,
                found=", ".join(found),
                source=source,
            )

    async def changes(self, run: int, source: str, after: int) -> Sequence[RowChange]:
        """Return up to 1000 rows of a source that a run wrote, by their last write, after the change number `after`.

        Rows that the run cleared because their copies were decoys are left out.
        """
        columns, later, first = changes.c, changes.alias("later"), changes.alias("first")
        is_last = ~exists().where(_same_row(later), later.c.change > columns.change)
        before, key, digest = (
            select(column).where(_same_row(first), is_same).order_by(first.c.change).limit(1).scalar_subquery()
            for column, is_same in (
                (first.c.before_url, true()),
                (first.c.before_key, first.c.url == columns.url),  # not what another link had at its cell
                (first.c.before_digest, first.c.url == columns.url),
            )
        )
        is_link = [links.c[name] == columns[name] for name in ("source", "row_key", "position", "url")]
        is_held = and_(*is_link, links.c.digest == columns.after_digest, links.c.held_url == links.c.url)
        entry = select(links.c.entry).where(is_held, links.c.state == State.HELD.value).scalar_subquery()
        of_undo = select(runs.c.run).where(runs.c.run == run, runs.c.verb == "undo")
        is_ours = or_(columns.after_url.is_not(None), columns.lost, columns.before_digest.is_not(None))
        query = (
            select(
                *(columns.change, columns.row_key, columns.url, before, columns.after_url),
                *(columns.position, key, digest, columns.after_digest, entry),
            )
            .where(columns.run == run, columns.source == source, columns.change > after)
            .where(is_last, or_(is_ours, exists(of_undo)))
            .order_by(columns.change)
            .limit(1000)
        )
        return [RowChange(*row) for row in await self.database.fetch_all(query)]

    async def mark_restored(self, source: str, restored: Sequence[RowChange]) -> None:
        """Remember what restored rows hold now as ours, so that the next run points them at their copies again."""
        given = self.database.given(
            {"row_key": Text(), "url": Text(), "before_url": Text(), "after_url": Text()},
            [(each.row_key, each.url, each.before, each.after) for each in restored if each.before is not None],
        )
        remembering = (
            update(links)
            .values(local_url=given.c.before_url)
            .where(
                links.c.source == source,
                links.c.row_key == given.c.row_key,
                links.c.url == given.c.url,
                links.c.local_url.is_not_distinct_from(given.c.after_url),
            )
        )
        await self.database.execute(remembering)

    async def mark_undone(self, run: int, source: str) -> None:
        """Record that a run was undone in one of its sources."""
        is_part = and_(or_(runs.c.run == run, runs.c.crew == run), runs.c.source == source)
        await self.database.execute(update(runs).values(undone_at=now()).where(is_part))


def _same_row(others: FromClause) -> ColumnElement[bool]:
    """Return the condition that another change is of the same cell and of the same run.

    A stray that went to the trash has no link and no URL: each such file is for itself.
    """
    is_stray = [each.c.url == "" for each in (changes, others)]
    is_same = and_(*(others.c[name] == changes.c[name] for name in ("source", "row_key", "position", "run")))
    return and_(is_same, is_stray[0] == is_stray[1], or_(~is_stray[0], others.c.before_key == changes.c.before_key))


@dataclass(frozen=True, slots=True)
class Stores:
    """Which stores have held copies: a store that is not mounted, or another one in its place, is noticed."""

    database: Database

    async def known(self) -> Sequence[KnownStore]:
        """Return the stores that have held copies, the one in use first."""
        query = select(stores.c.store, stores.c.folder, stores.c.machine).order_by(stores.c.number.desc())
        return [KnownStore(*row) for row in await self.database.fetch_all(query)]

    async def holds_copies(self, source: str | None = None) -> bool:
        """Return whether a source, by default any, has a held copy."""
        is_held = and_(links.c.present, links.c.state == State.HELD.value)
        is_held = is_held if source is None else is_held & (links.c.source == source)
        return bool(await self.database.read(lambda connection: connection.scalar(select(exists().where(is_held)))))

    async def use(self, store: KnownStore) -> None:
        """Remember that copies are recorded in this store from now on; the first store has all those before too."""

        async def work(connection: Connection) -> None:
            await self.database.lock(connection, "store")
            if problem := await _moved(connection, store.folder, store.store):
                raise problem
            last = select(stores.c.store, stores.c.folder, stores.c.machine).order_by(stores.c.number.desc()).limit(1)
            in_use = (await connection.execute(last)).first()
            values = {"store": store.store, "folder": store.folder, "machine": store.machine}
            if in_use is None:
                await connection.execute(insert(stores).values(**values, since=datetime(1970, 1, 1, tzinfo=UTC)))
            elif in_use.store != store.store:
                await connection.execute(insert(stores).values(**values, since=now()))

        await self.database.transact(work)

    async def problem(self, place: str) -> StoreError | None:
        """Return why the store at this place cannot be used if copies were moved, or are being moved."""
        return await self.database.read(lambda connection: _moved(connection, place))


def store_in_use() -> Select[tuple[str]]:
    """Return the query for the id of the store in use."""
    return select(stores.c.store).order_by(stores.c.number.desc()).limit(1)


def check_in_use(mine: str, in_use: str | None) -> None:
    """Raise StoreError if the copies are not in the store any more with which a process works."""
    if mine and in_use not in {None, mine}:
        raise StoreError(
            "Since this command began, another place for copies has come into use (`rehost move-store`). What it has "
            "done so far is recorded: set IMAGE_STORAGE_DIR to the new place, and start it again."
        )


async def _moved(connection: Connection, place: str, store: str = "") -> StoreError | None:
    """Return why the store at a place, or with an id, cannot be used: copies were moved, or are being moved."""
    is_one = moves.c.phase != "abandoned"
    move = (await connection.execute(select(moves).where(is_one).order_by(moves.c.move.desc()).limit(1))).first()
    if move is None:
        return None
    places = {"origin": move.from_place, "target": move.to_place}
    if move.phase == "switching":
        return StoreError(
            "The copies are being moved from {origin} to {target}, and the rows are being changed: run `rehost "
            "move-store {target}` to its end first, or `rehost move-store {origin}` to have it all back.",
            **places,
        )
    if move.phase == "copying" and (store == move.to_store or place == move.to_place):
        return StoreError(
            "Copies are being moved to {target}, but {origin} is in use until `rehost move-store {target}` has ended: "
            "leave IMAGE_STORAGE_DIR as it is.",
            **places,
        )
    is_from = store == move.from_store or place == move.from_place
    if move.phase == "ended" and is_from and await connection.scalar(store_in_use()) == move.to_store:
        return StoreError(
            "The copies were moved from {origin} to {target}: set IMAGE_STORAGE_DIR to {target}. To move them back: "
            "`rehost move-store {origin}`.",
            **places,
        )
    return None
