"""The ledger's data for `rehost status`, the API and the dashboard; read-only.

Each page of links, in the order of their entries, starts after the last entry of the page before (keyset pagination):
page one thousand costs what page one does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, case, exists, false, func, not_, or_, select

from rehost.db import Database, after, is_over, now, root_of, seconds_until
from rehost.http.url import host_of
from rehost.ledger.filters import HostOrder, LinkFilter, LinkOrder, conditions, of_hosts
from rehost.ledger.history import End
from rehost.ledger.leases import LONGEST_LEASE, is_due, is_later, is_place, pause_seconds
from rehost.ledger.schema import REASONS, STATES, changes, decoys, hosts, links, origins, runs, visits, workers
from rehost.model import Format, Reason, Rule, State

MOST = 1000  # rows of one answer


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Where a source stands, in links that the catalogue has."""

    source: str
    states: Mapping[State, int]
    reasons: Mapping[Reason, int]  # of deferred and refused links
    due: int
    later: int
    leased: int  # by living workers; links leased by dead ones are due
    next_due_seconds: float | None
    size: int  # bytes of all held copies
    damaged: int  # held copies that are whole, but damaged elsewhere than in their pixels
    undisplayed: int  # held copies in formats that browsers do not display
    rescued: int = 0  # held copies that came from elsewhere than their links
    suspected: int = 0  # of the deferred: copies that stay until a second check confirms that they are decoys


@dataclass(frozen=True, slots=True)
class HostReport:
    """Where one host stands, across all workers."""

    host: str
    present: int
    held: int
    failed: int  # deferred or refused
    due: int
    allowance: int  # concurrent requests; 0 if not known
    proven: bool
    pause_seconds: float
    evidence: str | None  # of the pause
    next_due_seconds: float | None  # until the first of its waiting links is due
    paused_origin: str | None = None  # the origin that is paused, if the host as a whole is not


@dataclass(frozen=True, slots=True)
class RootReport:
    """Where the links stand whose URLs begin with this, up to the path."""

    root: str  # as written in the rows
    host: str
    present: int
    held: int
    failed: int  # deferred or refused
    due: int
    next_due_seconds: float | None  # until the first waiting link is due


@dataclass(frozen=True, slots=True)
class LinkReport:
    """Everything known about one link now."""

    entry: int
    source: str
    row_key: str
    position: int
    url: str
    page_url: str | None
    host: str
    present: bool
    state: State
    attempts: int
    reason: Reason | None
    evidence: str | None
    due_at: datetime
    noted_at: datetime
    changed_at: datetime | None
    visited_at: datetime | None
    key: str | None  # the same as copy_key, under its former name
    copy_key: str | None  # of the copy, in the store
    digest: str | None
    size: int | None
    held_url: str | None
    final_url: str | None
    local_url: str | None
    format: Format | None
    width: int | None
    height: int | None
    frames: int | None
    damage: str | None
    held_at: datetime | None
    verified_at: datetime | None  # when the copy's file was read last, and was right
    rescued: str | None  # where the copy came from, if not from the link


@dataclass(frozen=True, slots=True)
class Twin:
    """Another link with the same bytes."""

    source: str
    row_key: str
    position: int


@dataclass(frozen=True, slots=True)
class Visit:
    """How a link's visit ended, or several consecutive ones that ended alike."""

    run: int  # the last one's
    first_at: datetime
    last_at: datetime
    times: int
    outcome: End
    reason: Reason | None
    evidence: str | None  # the last one's
    digest: str | None
    url: str  # of the link at that time


@dataclass(frozen=True, slots=True)
class Change:
    """One write to a row's column."""

    run: int
    url: str
    before_url: str | None
    after_url: str | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run's part over one source; None is a value that is not known yet or, after a kill, never will be.

    A command may run several processes, and over several sources: these then have reports with the same number.
    """

    run: int
    source: str
    host: str
    pid: int
    os_user: str
    version: str
    started_at: datetime
    ended_at: datetime | None
    undone_at: datetime | None
    workers: int  # processes of the command
    working: int  # those that have not ended and whose heartbeat is recent
    is_alive: bool  # any of them
    held: int | None
    unchanged: int | None
    adopted: int | None
    failed: int | None
    overtaken: int | None
    mended: int | None  # rows pointed at their copies again, without a request
    size: int | None
    seconds: float | None
    interrupted: bool | None
    stopped: str | None  # the error that stopped it, in a sentence
    stop_at: datetime | None  # when somebody asked for its end through the API
    reasons: Mapping[Reason, int]
    verb: str | None = None  # of the command; None for a run that copies what is due


@dataclass(frozen=True, slots=True)
class Page:
    """Some links, and where the next page starts."""

    links: Sequence[LinkReport]
    next: int | None  # value of `after` for the next page; None at the end


_SAME_IN_RUN = ("source", "host", "pid", "os_user", "version", "started_at", "undone_at", "stop_at", "verb")
_SUMS_OF_RUN = ("held", "unchanged", "adopted", "failed", "overtaken", "mended", "size")
_IS_RUNNING = and_(
    runs.c.ended_at.is_(None),
    exists().where(workers.c.worker == runs.c.worker, not_(is_over(workers.c.alive_until, LONGEST_LEASE))),
)
_number = func.coalesce(runs.c.crew, runs.c.run)
_FORMATS = {format_.value: format_ for format_ in Format}
_UNDISPLAYED = [format_.value for format_ in Format if not format_.is_displayed]
_LINK = [links.c["key" if name == "copy_key" else name].label(name) for name in LinkReport.__dataclass_fields__]
_FAILED = links.c.state.in_((State.DEFERRED.value, State.REFUSED.value))
_UNWRITTEN = and_(links.c.reason.is_not(None), links.c.reason == Reason.ROW_REFUSED.value)  # of a copy that is right
_HELD = links.c.state == State.HELD.value
_COUNTS = (
    func.count().label("present"),
    func.count().filter(_HELD).label("held"),
    func.count().filter(_FAILED).label("failed"),
    func.count().filter(is_due(links)).label("due"),
    seconds_until(func.min(links.c.due_at).filter(is_later())).label("next_due"),
)


@dataclass(frozen=True, slots=True)
class Queries:
    """Reads the ledger for display."""

    database: Database

    async def check(self) -> None:
        """Raise LedgerError unless the ledger's database is still there and answers."""
        await self.database.reopen_if_replaced()
        await self.runs(limit=1)

    async def sources(self) -> Sequence[str]:
        """Return the names of all sources ever taken in: one index probe for each, however many links it has."""
        found = select(func.min(links.c.source).label("source")).cte("found", recursive=True)
        further = select(func.min(links.c.source)).where(links.c.source > found.c.source).scalar_subquery()
        found = found.union_all(select(further).where(found.c.source.is_not(None)))
        return [row.source for row in await self._all(select(found).where(found.c.source.is_not(None)))]

    async def source_report(self, source: str) -> SourceReport:
        """Return where a source stands."""
        is_leased = and_(links.c.state == State.LEASED.value, links.c.due_at > now())
        query = (
            select(
                links.c.state,
                case((_FAILED, links.c.reason)).label("reason"),
                func.count().label("number"),
                func.count().filter(is_due(links)).label("due"),
                func.count().filter(is_later()).label("later"),
                func.count().filter(is_leased).label("leased"),
                seconds_until(func.min(links.c.due_at).filter(is_later())).label("next_due"),
                func.coalesce(func.sum(links.c.size).filter(_HELD), 0).label("size"),
                func.count().filter(_HELD, links.c.damage.is_not(None)).label("damaged"),
                func.count().filter(_HELD, links.c.format.in_(_UNDISPLAYED)).label("undisplayed"),
                func.count().filter(_HELD, links.c.rescued.is_not(None)).label("rescued"),
                func.count().filter(_FAILED, links.c.held_url == links.c.url, not_(_UNWRITTEN)).label("suspected"),
            )
            .where(links.c.source == source, links.c.present)
            .group_by(links.c.state, "reason")
        )
        rows = await self._all(query)
        reasons: Counter[str] = Counter()
        for row in rows:
            if row.reason:
                reasons[row.reason] += row.number
        return SourceReport(
            source,
            states={state: sum(row.number for row in rows if row.state == state) for state in State},
            reasons={REASONS[word]: number for word, number in reasons.most_common()},
            due=sum(row.due for row in rows),
            later=sum(row.later for row in rows),
            leased=sum(row.leased for row in rows),
            next_due_seconds=min((row.next_due for row in rows if row.next_due is not None), default=None),
            size=int(sum(row.size for row in rows)),
            damaged=sum(row.damaged for row in rows),
            undisplayed=sum(row.undisplayed for row in rows),
            suspected=sum(row.suspected for row in rows),
            rescued=sum(row.rescued for row in rows),
        )

    async def growth(self, days: int = 7) -> int:
        """Return the bytes of the copies, of all sources, that were stored within the last days."""
        query = select(func.coalesce(func.sum(links.c.size), 0))
        return await self._number(query.where(_HELD, links.c.held_at > after(-86400.0 * days)))

    async def knows(self, source: str) -> bool:
        """Return whether a source of this name was ever taken in."""
        return bool(await self._all(select(links.c.entry).where(links.c.source == source).limit(1)))

    async def hosts(
        self,
        source: str | Collection[str],
        limit: int = 100,
        *,
        after: int = 0,
        order: HostOrder = HostOrder.PRESENT,
        text: str | None = None,
    ) -> Sequence[HostReport]:
        """Return hosts of a source, or of several together, that contain the text, without the first `after` ones."""
        ranks = {"present": func.count(), "held": func.count().filter(_HELD), "failed": func.count().filter(_FAILED)}
        ranks["due"] = func.count().filter(is_due(links))
        ranked = [ranks[order].desc()] if order in ranks else []
        query = (
            select(links.c.host, *_COUNTS)
            .where(*of_hosts(source, text))
            .group_by(links.c.host)
            .order_by(*ranked, links.c.host)
            .limit(min(limit, MOST))
            .offset(after)
            .subquery()
        )
        known = (
            select(
                *(query.c[name] for name in ("host", "present", "held", "failed", "due")),
                func.coalesce(hosts.c.allowance, 0),
                func.coalesce(hosts.c.proven, false()),
                pause_seconds(),
                hosts.c.evidence,
                query.c.next_due,
            )
            .join_from(query, hosts, hosts.c.host == query.c.host, isouter=True)
            .order_by(*([query.c[order].desc()] if order in ranks else []), query.c.host)
        )
        pauses = await self.origin_pauses()
        longest = {host_of(origin): origin for origin in sorted(pauses, key=lambda origin: pauses[origin][0])}
        found = [HostReport(*row) for row in await self._all(known)]
        for number, host in enumerate(found):
            if not host.pause_seconds and (origin := longest.get(host.host)):
                seconds, evidence = pauses[origin]
                found[number] = replace(host, pause_seconds=seconds, evidence=evidence, paused_origin=origin)
        return found

    async def count_hosts(self, source: str, text: str | None = None) -> int:
        """Return the number of hosts of a source whose names contain the text."""
        return await self._number(select(func.count(links.c.host.distinct())).where(*of_hosts(source, text)))

    async def origin_pauses(self) -> Mapping[str, tuple[float, str | None]]:
        """Return the remaining seconds of the pause of each origin that is paused alone, and the evidence."""
        is_origin = hosts.c.host.contains("://") & (hosts.c.paused_until > now())
        query = select(hosts.c.host, pause_seconds(), hosts.c.evidence).where(is_origin).limit(MOST)
        return {row.host: (row.pause_seconds, row.evidence) for row in await self._all(query) if row.pause_seconds}

    async def roots(self, source: str, of: Sequence[str], end: str = "") -> Sequence[RootReport]:
        """Return what the URLs of some hosts of a source begin with, up to the path and as written.

        Args:
            source: name of the source.
            of: the hosts.
            end: pattern (SQL's LIKE) of how they end; at most MOST per host are returned, the most frequent first.
        """
        root = case((links.c.host == "", ""), else_=root_of(links.c.url, links.c.page_url)).label("root")
        query = (
            select(root, links.c.host, *_COUNTS)
            .where(links.c.source == source, links.c.present, links.c.host.in_(of))
            .group_by(root, links.c.host)
            .order_by(func.count().desc(), root)
            .limit(MOST * max(1, min(len(of), 20)))
        )
        if end:
            query = query.where(root_of(links.c.url, links.c.page_url).like(f"%{end}"))
        return [RootReport(*row) for row in await self._all(query)]

    async def rules(self, of: Collection[str] | None = None) -> Sequence[Rule]:
        """Return the Referer rules of these origins, or the first MOST of all."""
        query = select(origins).order_by(origins.c.origin).limit(MOST)
        if of is not None:
            query = select(origins).where(origins.c.origin.in_(of))
        return [Rule(*row) for row in await self._all(query)]

    async def decoys(self, of: Collection[str] | None = None) -> Mapping[str, int]:
        """Return how many decoys are known of these origins, or of the first MOST that have any."""
        query = select(decoys.c.origin, func.count().label("number")).group_by(decoys.c.origin)
        query = query.order_by(decoys.c.origin).limit(MOST) if of is None else query.where(decoys.c.origin.in_(of))
        return {row.origin: row.number for row in await self._all(query)}

    async def runs(self, source: str | None = None, limit: int = 20, before: int | None = None) -> Sequence[RunReport]:
        """Return the last runs, latest first, by source; with `before`, those older than it (the next page)."""
        records: dict[tuple[int, str], list[Any]] = {}
        for row in await self._all(_runs_query(source, min(limit, MOST), before)):
            records.setdefault((row.number, row.source), []).append(row)
        return [_run_report(parts) for parts in records.values()]

    async def count_runs(self, source: str | None = None) -> int:
        """Return the number of reports that `runs` has, of one source or of all."""
        known = select(_number, runs.c.source).distinct()
        query = known if source is None else known.where(runs.c.source == source)
        return await self._number(select(func.count()).select_from(query.subquery()))

    async def links(
        self, which: LinkFilter, after: int = 0, limit: int = 100, order: LinkOrder = LinkOrder.ENTRY
    ) -> Page:
        """Return links in an order: of their entries those after the entry `after`, else those after so many."""
        size = max(1, min(limit, MOST))
        query = select(*_LINK).where(links.c.present, *conditions(which)).limit(size + 1)
        if order is LinkOrder.ENTRY:
            rows = await self._all(query.where(links.c.entry > after).order_by(links.c.entry))
            following = rows[size - 1].entry if len(rows) > size else None
        else:
            column = links.c[order.lstrip("-")]
            ranked = column.desc().nulls_last() if order.startswith("-") else column.asc().nulls_last()
            rows = await self._all(query.order_by(ranked, links.c.entry).offset(after))
            following = after + size if len(rows) > size else None
        return Page([_link(row) for row in rows[:size]], following)

    async def count(self, which: LinkFilter) -> int:
        """Return the number of links."""
        return await self._number(select(func.count()).select_from(links).where(links.c.present, *conditions(which)))

    async def link(self, source: str, row_key: str, position: int = 0) -> LinkReport | None:
        """Return one link, if it was ever taken in."""
        rows = await self._all(select(*_LINK).where(is_place(source, row_key, position)))
        return _link(rows[0]) if rows else None

    async def same_bytes(self, link: LinkReport) -> Sequence[Twin]:
        """Return up to 20 other links with the same bytes."""
        if link.digest is None:
            return []
        query = (
            select(links.c.source, links.c.row_key, links.c.position)
            .where(links.c.digest == link.digest, links.c.entry != link.entry, links.c.present)
            .order_by(links.c.entry)
            .limit(20)
        )
        return [Twin(*row) for row in await self._all(query)]

    async def history(self, source: str, row_key: str, position: int = 0) -> Sequence[Change]:
        """Return what was written into a row's column, latest first."""
        query = (
            select(*(changes.c[name] for name in Change.__dataclass_fields__))
            .where(changes.c.source == source, changes.c.row_key == row_key, changes.c.position == position)
            .order_by(changes.c.change.desc())
            .limit(MOST)
        )
        return [Change(*row) for row in await self._all(query)]

    async def visits(self, entry: int) -> Sequence[Visit]:
        """Return how a link's visits ended, as far back as they are kept, latest first."""
        query = select(*(visits.c[name] for name in Visit.__dataclass_fields__)).where(visits.c.entry == entry)
        return [_visit(row) for row in await self._all(query.order_by(visits.c.turn.desc()))]

    async def _number(self, query: Select[*tuple[Any, ...]]) -> int:
        return int((await self._all(query))[0][0])

    async def _all(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        return await self.database.fetch_all(query, slow=True)


def _visit(row: Row[*tuple[Any, ...]]) -> Visit:
    values = row._asdict()
    return Visit(**values | {"outcome": End(values["outcome"]), "reason": REASONS.get(values["reason"])})


def _link(row: Row[*tuple[Any, ...]]) -> LinkReport:
    typed = {"state": STATES[row.state], "reason": REASONS.get(row.reason), "format": _FORMATS.get(row.format)}
    return LinkReport(**row._asdict() | typed)


def _runs_query(source: str | None, limit: int, before: int | None) -> Select[*tuple[Any, ...]]:
    """Return the query for the records of the last runs, ordered by run, a run's first process first."""
    part = runs.alias("part")
    last = select(runs.c.run).where(runs.c.crew.is_(None)).order_by(runs.c.run.desc()).limit(limit)
    if source is not None:
        is_part = exists().where(part.c.crew == runs.c.run, part.c.source == source)
        last = last.where(or_(runs.c.source == source, is_part))
    if before is not None:
        last = last.where(runs.c.run < before)
    chosen = last.subquery()
    query = (
        select(runs, _IS_RUNNING.label("is_alive"), _number.label("number"))
        .join(chosen, _number == chosen.c.run)
        .order_by(_number.desc(), runs.c.run)
    )
    return query if source is None else query.where(runs.c.source == source)


def _run_report(parts: Sequence[Any]) -> RunReport:
    first, working = parts[0], sum(bool(part.is_alive) for part in parts)
    has_ended = all(part.ended_at is not None for part in parts)
    ended_at = max(part.ended_at for part in parts) if has_ended else None
    spans = [part.seconds for part in parts if part.seconds is not None]
    if len(parts) > 1 and ended_at is not None:
        spans = [(ended_at - first.started_at).total_seconds()]
    same: dict[str, Any] = {name: getattr(first, name) for name in _SAME_IN_RUN}
    sums: dict[str, Any] = {name: _sum([getattr(part, name) for part in parts]) for name in _SUMS_OF_RUN}
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(json.loads(part.reasons or "{}"))
    return RunReport(
        **same,
        **sums,
        run=first.number,
        ended_at=ended_at,
        workers=len(parts),
        working=working,
        is_alive=working > 0,
        seconds=max(spans) if has_ended and spans else None,
        interrupted=any(part.interrupted for part in parts) if has_ended else None,
        stopped=next((part.stopped for part in parts if part.stopped), None),
        reasons={REASONS[word]: number for word, number in reasons.items()},
    )


def _sum(figures: Sequence[int | None]) -> int | None:
    """Return the sum of the known figures; None if none is known."""
    return sum(known) if (known := [figure for figure in figures if figure is not None]) else None
