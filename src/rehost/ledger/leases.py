"""Leases: one link, one worker, until the lease ends by the database's clock (invariant 4).

Every lease raises the entry's fence; a worker with an older fence is refused. On PostgreSQL workers skip
each other's locked rows (SKIP LOCKED); on SQLite their transactions run one after the other.

The leases of a dead worker end by themselves. Where its death is certain, `release_dead_workers` ends them at once; a
worker taken for dead that is alive is fenced like any other that is late.

A link may be what its worker died of. So a link whose lease ended without an outcome is a suspect, and no worker leases
it beside other links: after the first death SUSPECTS of them are leased together, after the second each alone. If its
worker dies twice even then, the link is deferred. An outcome of any kind ends the suspicion.

On PostgreSQL each worker remembers how far it has leased each host's links (a mark), and begins behind that. While an
old snapshot is open anywhere in the database (pg_dump, a report), the index keeps the entries of all links that were
leased since: without marks each lease, and each look for hosts with due links (`hosts`), reads them again. A link that
comes to be due has a later due time than any mark, but for a transaction that commits late or rolls back, and for a
clock that is put back: those links are found because all begins at the first due links again every SWEEP, a host's
leases whenever nothing is found behind its mark, and `hosts` before a run ends.

What is due, and what waits until when, is here as well. `is_open` is spelled as in the partial index
`rehost_links_due`, so that no such query reads held links.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cachetools import LRUCache
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    Select,
    Text,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    tuple_,
    update,
)

from rehost.db import NEVER, Columns, Connection, Database, Moment, after, is_over, now, seconds_until
from rehost.http.url import read_origin
from rehost.ledger import schema
from rehost.ledger.history import check_in_use, store_in_use
from rehost.ledger.schema import REASONS, STATES, learnings, links, shares, takedowns, taken_down_by, workers
from rehost.model import Copy, Link, Reason, State, Task, Validator

# Seconds: an end beyond these was set by a clock that was ahead (`is_over`).
_DAY_SECONDS = 86_400.0
LONGEST_LEASE = 2 * _DAY_SECONDS  # IMAGE_LEASE_SECONDS is a day at most
LONGEST_PAUSE = 32 * _DAY_SECONDS  # the operator may ask for a month (server/api/actions.py)
LONGEST_WAIT = 180 * _DAY_SECONDS  # a link that is refused again and again waits for two months

SUSPECTS = 20
"""Links that are leased together after the first death: a thousand take 50 turns, and the next death leaves 20."""

MOST_ROOTS = 1000
"""Beginnings of URLs that are read of one host: a link may spell its origin in any number of ways."""

SWEEP = timedelta(seconds=60)
"""So often, by the database's clock, a worker begins at the first due link of a host in place of its mark."""

_MOST_MARKS = 10_000  # hosts; the one that was leased longest ago loses its mark

ALONE = 2  # deaths after which a suspect is leased alone
_CERTAIN = ALONE + 1  # one more death defers it: a kill from outside seldom meets the same link alone twice

FAILED = (State.DEFERRED.value, State.REFUSED.value)


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """Where a source stands now, in links that the catalogue has."""

    present: int
    held: int
    due: int  # wanted, or deferred and refused whose time has come, or leased under a lease that has ended
    later: int  # deferred or refused, due at a later time
    leased: int = 0  # a worker is visiting them
    paused: int = 0  # of the later ones: they wait for the end of a pause, or for a daily budget
    next_due_seconds: float | None = None  # until the first of the later ones


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of one link in the ledger."""

    state: State
    host: str
    copy: Copy | None  # held, and of the URL that the link has now
    reason: Reason | None  # why the last visit brought none
    wait_seconds: float  # until it is due; 0 if it is
    is_suspect: bool = False  # to be visited while no other link is
    origin: str = ""  # scheme://host[:port]; empty if the link is no valid URL
    is_legal: bool = False  # taken down for legal reasons

    @property
    def is_due(self) -> bool:
        """Return whether it may be leased now."""
        return self.state is not State.HELD and self.wait_seconds <= 0


@dataclass(frozen=True, slots=True)
class DueLinks:
    """What is due or waits, across all workers."""

    database: Database

    async def entry(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return the state of one link; None if the catalogue did not have it when it was last taken in."""
        is_legal = exists().where(takedowns.c.legal, links.c.evidence == taken_down_by(takedowns.c.takedown))
        query = select(links, seconds_until(links.c.due_at).label("wait"), is_legal.label("is_legal"))
        query = query.where(is_place(source, row_key, position), links.c.present)
        for row in await self.database.fetch_all(query):
            is_its_own = row.key is not None and row.held_url == row.url
            copy = Copy(row.key, row.digest, row.size) if is_its_own else None
            reason, wait, origin = REASONS.get(row.reason), max(0.0, row.wait), read_origin(row.url, row.page_url)
            is_suspect, is_blocked = row.deaths > 0, reason is Reason.TAKEN_DOWN and bool(row.is_legal)
            return Entry(STATES[row.state], row.host, copy, reason, wait, is_suspect, origin, is_blocked)
        return None

    async def counts(self, source: str) -> LinkCounts:
        """Return where the source stands now."""
        is_held, later = links.c.state == State.HELD.value, is_later()
        query = select(
            func.count(),
            func.count().filter(is_held),
            func.count().filter(links.c.due_at <= now(), not_(is_held)),
            func.count().filter(later),
            func.count().filter(links.c.state == State.LEASED.value, links.c.due_at > now()),
            func.count().filter(links.c.waits_for.is_not(None), waits_for_pause()),
            seconds_until(func.min(links.c.due_at).filter(later)),
        ).where(links.c.source == source, links.c.present)
        return LinkCounts(*(await self.database.fetch_all(query, slow=True))[0])

    async def leased(self, source: str) -> int:
        """Return how many links are being visited; those whose leases have ended are due."""
        query = select(func.count()).where(links.c.source == source, is_open(links), links.c.due_at > now())
        return int((await self.database.fetch_all(query.where(links.c.state == State.LEASED.value), slow=True))[0][0])

    async def paused(self, source: str, seconds: float | None = 0.0) -> Mapping[str, int]:
        """Return how many links wait for each paused host, origin or folder, most links first; MOST_ROOTS at most.

        Pauses that end within so many seconds are left out, and budgets that are used up; with None, nothing is.
        """
        number, hosts = func.count().label("number"), schema.hosts.c
        query = select(links.c.waits_for, number).where(links.c.source == source, waits_for_pause())
        if seconds is not None:
            paused = select(hosts.host).where(hosts.paused_until > after(seconds))
            query = query.where(links.c.waits_for.in_(paused))
        query = query.group_by(links.c.waits_for).order_by(number.desc(), links.c.waits_for).limit(MOST_ROOTS)
        return {row.waits_for: row.number for row in await self.database.fetch_all(query, slow=True)}


def waits_for_pause() -> ColumnElement[bool]:
    """Return the condition that a link waits for the end of a pause."""
    return and_(is_open(links), links.c.state.in_(FAILED), links.c.waits_for.is_not(None), links.c.due_at > now())


def is_open(entries: FromClause) -> ColumnElement[bool]:
    """Return the condition that an entry is in the catalogue and not held."""
    name = getattr(entries, "name")  # noqa: B009 - tables and aliases have one, their common type does not say so
    return literal_column(f"{name}.state <> 'held' AND {name}.present")


def is_due(entries: FromClause) -> ColumnElement[bool]:
    """Return the condition that a link may be leased now."""
    return and_(is_open(entries), entries.c.due_at <= now())


def is_taken_down() -> ColumnElement[bool]:
    """Return the condition that a link was refused because it was taken down: it is never due by itself."""
    return and_(links.c.state == State.REFUSED.value, links.c.reason.is_not_distinct_from(Reason.TAKEN_DOWN.value))


def is_later() -> ColumnElement[bool]:
    """Return the condition that a link failed, and is due again at a later time."""
    return and_(links.c.state.in_(FAILED), links.c.due_at > now(), not_(is_taken_down()))


def is_place(source: str, row_key: str, position: int) -> ColumnElement[bool]:
    """Return the condition that an entry is the one of this cell."""
    return and_(links.c.source == source, links.c.row_key == row_key, links.c.position == position)


def pause_seconds() -> ColumnElement[float]:
    """Return the remaining seconds of the pause of each row of `rehost_hosts`."""
    columns = schema.hosts.c
    is_none = or_(columns.paused_until.is_(None), is_over(columns.paused_until, LONGEST_PAUSE))
    return case((is_none, 0.0), else_=seconds_until(columns.paused_until)).label("pause_seconds")


# The columns that make a task.
_TASK = [
    *(links.c.entry, links.c.fence, links.c.host, links.c.attempts),
    *(links.c.source, links.c.row_key, links.c.position, links.c.url, links.c.page_url, links.c.local_url),
    *(links.c.key, links.c.digest, links.c.size, links.c.found, links.c.pending_digest, links.c.pending_url),
    *(links.c.held_url, links.c.etag, links.c.last_modified),
]

_Place = tuple[datetime, int]  # due time, before a lease, and number of a link: the order of leases
_NONE: Sequence[Row[*tuple[Any, ...]]] = ()
_PLACE: Columns = {"host": Text(), "due_at": Moment(), "entry": BigInteger()}


@dataclass(frozen=True, slots=True)
class LeaseManager:
    """Leases of one worker."""

    database: Database
    worker: str
    seconds: float
    store: str = ""  # the store with which the process works: no link is leased once another one is in use
    # by source and host: the last link that this worker leased, and when its leases began at the host's first due link
    _marks: LRUCache[tuple[str, str], tuple[_Place, datetime]] = field(
        default_factory=lambda: LRUCache(_MOST_MARKS), init=False, repr=False, compare=False
    )
    # by source, and whether suspects count: when all hosts were probed, and the place that no due link comes before
    _probed: dict[tuple[str, bool], tuple[datetime, dict[str, _Place]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    async def lease(self, source: str, host: str, limit: int) -> Sequence[Task]:
        """Lease up to `limit` due links of one host, longest overdue first; none that is a suspect.

        Links that are due longer than the last ones that this worker leased may wait for up to SWEEP.
        """
        is_theirs = (links.c.source == source) & (links.c.host == host) & (links.c.deaths == 0)
        order = (links.c.due_at, links.c.entry)
        first = select(*order).where(is_theirs).order_by(*order).limit(limit)
        mark, rows = self._marks.get((source, host)), _NONE
        if mark:
            due_at, entry = literal(mark[0][0], Moment), literal(mark[0][1], BigInteger)
            rows = await self._lease(first.where(tuple_(*order) > tuple_(due_at, entry)))
        if not rows:
            mark, rows = None, await self._lease(first)
        if rows and not self.database.is_sqlite:
            leased_at, last = rows[0].leased_at, max((row.was_due, row.entry) for row in rows)
            since = mark[1] if mark else leased_at
            if abs(leased_at - since) < SWEEP:  # further apart too once the clock was put back
                self._marks[source, host] = last, since
            else:
                self._marks.pop((source, host), None)
        return [_task(row) for row in rows]

    async def hosts(self, source: str, *, with_suspects: bool = False, again: bool = False) -> Sequence[str]:
        """Return the hosts that have due links: one index probe a host, however many links (a loose index scan).

        With `again`, for SWEEP after that: only hosts that had open links then, each behind its first due link or mark.
        """
        key, rows = (source, with_suspects), _NONE
        is_wanted = _waiting.c.deaths >= 0 if with_suspects else _waiting.c.deaths == 0
        if not again:
            self._probed.clear()
        probed_at, places = self._probed.pop(key, (NEVER, {}))
        if places:
            marks = {} if with_suspects else self._marks
            behind = [(host, *max(place, marks.get((source, host), (place,))[0])) for host, place in places.items()]
            given = self.database.given(_PLACE, behind)
            is_behind = tuple_(_waiting.c.due_at, _waiting.c.entry) > tuple_(given.c.due_at, given.c.entry)
            rows = await self.database.fetch_all(_first_due(source, given, is_wanted & is_behind))
        if not rows or abs(rows[0].at - probed_at) >= SWEEP:
            self._marks.clear()
            rows = await self.database.fetch_all(_first_due(source, _open_hosts(source), is_wanted))
            probed_at = rows[0].at if rows else NEVER
        if len(rows) <= _MOST_MARKS and not self.database.is_sqlite:
            self._probed[key] = probed_at, {row.host: (row.due_at or row.at, (row.entry or 1) - 1) for row in rows}
        return [row.host for row in rows if row.entry is not None]

    async def lease_suspects(self, source: str) -> Sequence[Task]:
        """Lease a few due suspects, or one, for a worker that has no other link until these have their outcomes."""
        suspects = select(links.c.due_at, links.c.entry).where(links.c.source == source)
        few = suspects.where(links.c.deaths > 0, links.c.deaths < ALONE).order_by(links.c.entry).limit(SUSPECTS)
        one = suspects.where(links.c.deaths >= ALONE).order_by(links.c.deaths, links.c.entry).limit(1)
        return [_task(row) for row in await self._lease(few) or await self._lease(one)]

    async def lease_held(
        self, entries: Sequence[int], *, failed: bool = False, only_changes: bool = False
    ) -> Sequence[Task]:
        """Lease those of these links that are held and in the catalogue; or those that are deferred or refused.

        Copies and rows stay as they are; without an outcome, held links are held again (`attempts` is 0 until then).
        With `only_changes` the tasks have the validators of the copies, for conditional requests.
        """
        given = self.database.given({"entry": BigInteger()}, [[entry] for entry in entries])
        is_held = and_(links.c.state == State.HELD.value, links.c.key.is_not(None))
        is_wanted = links.c.present & (links.c.state.in_(FAILED) if failed else is_held)
        chosen = select(links.c.entry).where(links.c.entry.in_(select(given.c.entry)), is_wanted)
        chosen = chosen.order_by(links.c.entry).with_for_update(skip_locked=True)
        leased = {"state": State.LEASED.value, "worker": self.worker, "fence": links.c.fence + 1}
        attempts = links.c.attempts + 1 if failed else 0
        leasing = update(links).values(leased | {"due_at": after(self.seconds), "attempts": attempts})
        leasing = leasing.where(links.c.entry.in_(select(chosen.cte("chosen").c.entry)))
        listing = self.database.insert(workers).values(worker=self.worker, alive_until=after(self.seconds))

        async def work(connection: Connection) -> list[Task]:
            rows = (await connection.execute(leasing.returning(*_TASK))).all()
            if rows:
                check_in_use(self.store, await connection.scalar(store_in_use()))
                await connection.execute(listing.on_conflict_do_nothing())
            return [_task(row, only_changes=only_changes) for row in rows]

        return await self.database.transact(work) if entries else []

    async def lease_one(self, source: str, row_key: str, position: int) -> Task | None:
        """Lease this one link if it is due and no other worker holds it; of a suspect, see `lease_suspects`."""
        place = select(links.c.due_at, links.c.entry).where(is_place(source, row_key, position))
        return next((_task(row) for row in await self._lease(place)), None)

    async def _lease(self, entries: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        """Lease those of these entries that are due; those whose lease has ended become suspects first.

        Args:
            entries: a query for `due_at` and `entry`.

        Returns:
            the columns that make a task, and on PostgreSQL `was_due`, before the lease, and `leased_at`.
        """
        due = entries.where(is_due(links)).with_for_update(skip_locked=True).cte("due")
        leased: dict[str, Any] = {
            "state": State.LEASED.value,
            "worker": self.worker,
            "fence": links.c.fence + 1,
            "attempts": links.c.attempts + 1,
            "due_at": after(self.seconds),
            "waits_for": null(),
        }
        ended, has_ended = lease_ended(), links.c.state == State.LEASED.value
        values = {
            name: case((has_ended, ended.get(name, links.c[name])), else_=leased.get(name, links.c[name]))
            for name in leased | ended
        }
        # SQLite returns no columns of another table.
        before = () if self.database.is_sqlite else (due.c.due_at.label("was_due"), now().label("leased_at"))
        leasing = update(links).values(values).where(links.c.entry == due.c.entry)
        leasing_rows = leasing.returning(
            *_TASK, links.c.state, *before, store_in_use().scalar_subquery().label("store")
        )

        # A worker is listed from its first lease on, so that `release_dead_workers` finds what it held.
        listing = self.database.insert(workers).values(worker=self.worker, alive_until=after(self.seconds))

        async def work(connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
            while rows := (await connection.execute(leasing_rows)).all():
                check_in_use(self.store, rows[0].store)
                if leased_rows := [row for row in rows if row.state == State.LEASED.value]:
                    await connection.execute(listing.on_conflict_do_nothing())
                    return leased_rows
            return []

        return await self.database.transact(work)

    async def renew(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Extend these leases where they are still ours; return those that are not.

        They ended while this worker could not renew them, and their links are another one's, or they are recorded.
        """
        if not tasks:
            return []
        renewing = update(links).values(due_at=after(self.seconds)).where(_is_ours(self._given(tasks)))

        async def work(connection: Connection) -> set[int]:
            return set((await connection.execute(renewing.returning(links.c.entry))).scalars())

        ours = await self.database.transact(work)
        return [task for task in tasks if task.entry not in ours]

    async def release(self, tasks: Sequence[Task]) -> None:
        """Give these leases back unvisited where they are still ours."""
        if tasks:
            never = (links.c.reason.is_(None), State.WANTED.value)
            state = case((is_kept(), State.HELD.value), never, else_=State.DEFERRED.value)
            releasing = update(links).values(state=state, due_at=now(), attempts=attempts_before())
            await self.database.execute(releasing.where(_is_ours(self._given(tasks))))

    async def confirm(self, connection: Connection, tasks: Sequence[Task]) -> set[int]:
        """Lock these entries until the transaction ends; return the numbers of those whose lease is still ours."""
        if not tasks:
            return set()
        given = self._given(tasks)
        confirming = select(links.c.entry).join(given, _is_ours(given)).order_by(links.c.entry)
        return set(await connection.scalars(confirming.with_for_update(of=links)))

    async def release_dead_workers(self, is_dead: Callable[[str], bool]) -> int:
        """End the leases and shares of all workers for which `is_dead` is true; return how many links that were."""

        async def work(connection: Connection) -> int:
            dead = [name for name in await connection.scalars(select(workers.c.worker)) if is_dead(name)]
            if not dead:
                return 0
            given = self.database.given({"worker": Text()}, [[name] for name in dead])
            is_theirs = links.c.worker.in_(select(given.c.worker)) & (links.c.state == State.LEASED.value)
            freeing = update(links).where(is_theirs).values(lease_ended())
            freed = len((await connection.execute(freeing.returning(links.c.entry))).all())
            for name in dead:
                await remove_worker(connection, name)
            return freed

        return await self.database.transact(work, slow=True)

    def _given(self, tasks: Sequence[Task]) -> FromClause:
        return self.database.given(
            {"entry": BigInteger(), "fence": BigInteger()}, [(task.entry, task.fence) for task in tasks]
        )


_waiting = links.alias("waiting")


def _first_due(source: str, hosts: FromClause, is_wanted: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Return the query for the first due link of each of these hosts, NULL if there is none, and the time now."""
    first = select(_waiting.c.entry).where(_waiting.c.source == source, _waiting.c.host == hosts.c.host)
    first = first.where(is_due(_waiting), is_wanted).order_by(_waiting.c.due_at, _waiting.c.entry).limit(1)
    each = select(hosts.c.host, first.scalar_subquery().label("entry")).where(hosts.c.host.is_not(None))
    probed = each.offset(0).subquery()  # PostgreSQL would merge the two and probe twice
    query = select(probed, links.c.due_at, now().label("at")).order_by(probed.c.host)
    return query.join_from(probed, links, links.c.entry == probed.c.entry, isouter=True)


def _open_hosts(source: str) -> FromClause:
    first = select(func.min(links.c.host).label("host")).where(links.c.source == source, is_open(links))
    found, further = first.cte("found", recursive=True), links.alias("further")
    is_further = and_(further.c.source == source, is_open(further), further.c.host > found.c.host)
    next_one = select(func.min(further.c.host)).where(is_further).scalar_subquery()
    return found.union_all(select(next_one).where(found.c.host.is_not(None)))


def lease_ended() -> dict[str, Any]:
    """Return the values of an entry whose lease ended without an outcome: due again, as if that had been no visit.

    An entry that was leased alone twice is deferred for a day, which doubles with each further death up to eight.
    """
    deaths = links.c.deaths
    is_certain = deaths >= _CERTAIN
    waits = ((deaths == _CERTAIN + number, _DAY_SECONDS * 2**number) for number in range(3))
    wait = case(*waits, else_=8 * _DAY_SECONDS)
    return {
        "deaths": deaths + 1,
        "attempts": case((is_certain, links.c.attempts), else_=attempts_before()),
        "state": case((is_kept(), State.HELD.value), (is_certain, State.DEFERRED.value), else_=State.WANTED.value),
        "due_at": case((is_certain, after(wait)), else_=now()),
        "reason": case((is_certain, Reason.WORKER_DIED.value), else_=links.c.reason),
        "evidence": case(
            (is_certain, "the last two processes that ended were visiting nothing else"), else_=links.c.evidence
        ),
    }


def is_kept() -> ColumnElement[bool]:
    """Return the condition that a leased link was held when it was leased, and has its copy still."""
    return and_(links.c.attempts == 0, links.c.key.is_not(None))


def attempts_before() -> ColumnElement[int]:
    """Return the number of visits without the one that a leased link was leased for."""
    return case((links.c.attempts == 0, 0), else_=links.c.attempts - 1)


async def remove_worker(connection: Connection, worker: str) -> None:
    """Remove a worker from the list of living ones, with its shares of hosts and the origins it was learning."""
    for table in (shares, workers):
        await connection.execute(delete(table).where(table.c.worker == worker))
    leaving = update(learnings).where(learnings.c.worker == worker).values(worker=None, busy_until=None)
    await connection.execute(leaving)


def _is_ours(given: FromClause) -> ColumnElement[bool]:
    return (links.c.entry == given.c.entry) & (links.c.fence == given.c.fence) & (links.c.state == State.LEASED.value)


def _task(row: Any, *, only_changes: bool = False) -> Task:  # noqa: ANN401 - a row of `links`
    is_pending = row.pending_digest is not None and row.pending_url == row.url and row.key is not None
    is_own = row.key is not None and row.held_url == row.url
    has_validator = only_changes and is_own and (row.etag or row.last_modified)
    return Task(
        entry=row.entry,
        fence=row.fence,
        link=Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url),
        host=row.host,
        attempt=row.attempts,
        origin=read_origin(row.url, row.page_url),
        validator=Validator(row.etag, row.last_modified) if has_validator else None,
        copy=Copy(row.key, row.digest, row.size) if row.key is not None else None,
        found=row.key if is_pending else row.found,
        pending=row.pending_digest if is_pending else None,
        held_url=row.held_url,
    )
