"""What status, API and page show of the ledger; read-only.

Pages of links are cut by the number of the last entry shown (keyset): page a thousand costs what page one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, or_, select

from rehost.db import Connection, Database, after, now, root_of, seconds_until
from rehost.ledger.crews import runs_of, runs_query
from rehost.ledger.due import is_due, is_place, pause_seconds
from rehost.ledger.schema import REASONS, changes, decoys, hosts, links, origins, visits
from rehost.ledger.standings import (
    Change,
    End,
    HostReport,
    LinkFilter,
    LinkReport,
    Page,
    RootReport,
    RunReport,
    SourceReport,
    Twin,
    Visit,
)
from rehost.model import Format, Reason, Rule, State

MOST = 1000  # rows of one answer

_FORMATS = {format_.value: format_ for format_ in Format}
_LINK = [links.c[name] for name in LinkReport.__dataclass_fields__]
_FAILED = links.c.state.in_((State.DEFERRED.value, State.REFUSED.value))
_HELD = links.c.state == State.HELD.value


@dataclass(frozen=True, slots=True)
class Queries:
    """Questions to the ledger."""

    database: Database

    async def look(self) -> None:
        """Make sure that the ledger is where it is said to be, and answers.

        Raises:
            LedgerError: it is not.
        """
        await self.database.look()
        await self.runs(limit=1)

    async def sources(self) -> Sequence[str]:
        """Return the names of all sources that were ever noted."""
        return [row.source for row in await self._all(select(links.c.source).distinct().order_by(links.c.source))]

    async def standing(self, source: str) -> SourceReport:
        """Return where a source stands."""
        is_later = and_(_FAILED, links.c.due_at > now())
        is_leased = and_(links.c.state == State.LEASED.value, links.c.due_at > now())
        query = (
            select(
                links.c.state,
                case((_FAILED, links.c.reason)).label("reason"),
                func.count().label("number"),
                func.count().filter(is_due(links)).label("due"),
                func.count().filter(is_later).label("later"),
                func.count().filter(is_leased).label("leased"),
                seconds_until(func.min(links.c.due_at).filter(is_later)).label("next_due"),
                func.coalesce(func.sum(links.c.size).filter(_HELD), 0).label("size"),
            )
            .where(links.c.source == source, links.c.present)
            .group_by(links.c.state, "reason")
        )
        rows = await self._all(query)
        waits = [row.next_due for row in rows if row.next_due is not None]
        return SourceReport(
            source,
            states={state: sum(row.number for row in rows if row.state == state) for state in State},
            reasons=_by_reason(rows),
            due=sum(row.due for row in rows),
            later=sum(row.later for row in rows),
            leased=sum(row.leased for row in rows),
            next_due_seconds=min(waits, default=None),
            size=int(sum(row.size for row in rows)),
        )

    async def growth(self, days: int = 7) -> int:
        """Return the bytes of the copies, of all sources, that came within the last days."""
        query = select(func.coalesce(func.sum(links.c.size), 0).label("size")).where(
            _HELD, links.c.held_at > after(-86400.0 * days)
        )
        return int((await self._all(query))[0].size)

    async def hosts(self, source: str, limit: int = 100) -> Sequence[HostReport]:
        """Return the hosts of a source, those with most links first."""
        query = (
            select(
                links.c.host,
                func.count().label("present"),
                func.count().filter(_HELD).label("held"),
                func.count().filter(_FAILED).label("failed"),
                func.count().filter(is_due(links)).label("due"),
                seconds_until(func.min(links.c.due_at).filter(_FAILED, links.c.due_at > now())).label("next_due"),
            )
            .where(links.c.source == source, links.c.present)
            .group_by(links.c.host)
            .order_by(func.count().desc(), links.c.host)
            .limit(min(limit, MOST))
            .subquery()
        )
        known = select(query, hosts.c.allowance, hosts.c.proven, hosts.c.evidence, pause_seconds())
        rows = await self._all(
            known.join_from(query, hosts, hosts.c.host == query.c.host, isouter=True).order_by(
                query.c.present.desc(), query.c.host
            )
        )
        return [
            HostReport(
                row.host,
                row.present,
                row.held,
                row.failed,
                row.due,
                row.allowance or 0,
                bool(row.proven),
                row.pause_seconds,
                row.evidence,
                row.next_due,
            )
            for row in rows
        ]

    async def roots(self, source: str, limit: int = MOST) -> Sequence[RootReport]:
        """Return what the URLs of a source begin with, up to the path, as they are written; the most frequent first."""
        number, root = func.count(), root_of(links.c.url).label("root")
        query = (
            select(
                root,
                links.c.host,
                number.label("present"),
                number.filter(_HELD).label("held"),
                number.filter(_FAILED).label("failed"),
                number.filter(is_due(links)).label("due"),
                seconds_until(func.min(links.c.due_at).filter(_FAILED, links.c.due_at > now())).label("next_due"),
            )
            .where(links.c.source == source, links.c.present)
            .group_by(root, links.c.host)
            .order_by(number.desc(), root)
            .limit(min(limit, MOST))
        )
        return [RootReport(*row) for row in await self._all(query)]

    async def rules(self) -> Sequence[Rule]:
        """Return what was learned of each origin."""
        query = select(origins).order_by(origins.c.origin).limit(MOST)
        return [Rule(row.origin, row.referer, row.evidence, row.learned_at) for row in await self._all(query)]

    async def decoys(self) -> Mapping[str, int]:
        """Return how many decoys are known of each origin."""
        query = select(decoys.c.origin, func.count().label("number")).group_by(decoys.c.origin)
        return {row.origin: row.number for row in await self._all(query)}

    async def runs(self, source: str | None = None, limit: int = 20, before: int | None = None) -> Sequence[RunReport]:
        """Return the last runs, the latest first; older ones than `before` for the next page."""
        return runs_of(await self._all(runs_query(source, min(limit, MOST), before)))

    async def links(self, which: LinkFilter, after: int = 0, limit: int = 100) -> Page:
        """Return links in the order in which they were noted, from the one after `after` on."""
        size = max(1, min(limit, MOST))
        query = (
            select(*_LINK)
            .where(links.c.present, links.c.entry > after, *_conditions(which))
            .order_by(links.c.entry)
            .limit(size + 1)
        )
        rows = await self._all(query)
        found = [_link(row) for row in rows[:size]]
        return Page(found, found[-1].entry if len(rows) > size else None)

    async def link(self, source: str, row_key: str, position: int = 0) -> LinkReport | None:
        """Return one link, if it was ever noted."""
        rows = await self._all(select(*_LINK).where(is_place(source, row_key, position)))
        return _link(rows[0]) if rows else None

    async def alike(self, link: LinkReport, limit: int = 20) -> Sequence[Twin]:
        """Return other links that hold the very same bytes."""
        if link.digest is None:
            return []
        query = (
            select(links.c.source, links.c.row_key, links.c.position)
            .where(links.c.digest == link.digest, links.c.entry != link.entry, links.c.present)
            .order_by(links.c.entry)
            .limit(limit)
        )
        return [Twin(*row) for row in await self._all(query)]

    async def history(self, source: str, row_key: str, position: int = 0) -> Sequence[Change]:
        """Return what was written into a row's column, the latest first."""
        columns = [changes.c[name] for name in Change.__dataclass_fields__]
        query = (
            select(*columns)
            .where(changes.c.source == source, changes.c.row_key == row_key, changes.c.position == position)
            .order_by(changes.c.change.desc())
            .limit(MOST)
        )
        return [Change(*row) for row in await self._all(query)]

    async def visits(self, entry: int) -> Sequence[Visit]:
        """Return what came of a link's visits, as far back as they are kept, the latest first."""
        columns = [visits.c[name] for name in Visit.__dataclass_fields__]
        query = select(*columns).where(visits.c.entry == entry).order_by(visits.c.turn.desc())
        return [_visit(row) for row in await self._all(query)]

    async def _all(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        async def work(connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
            return (await connection.execute(query)).all()

        return await self.database.read(work, much=True)


def _by_reason(rows: Sequence[Row[*tuple[Any, ...]]]) -> Mapping[Reason, int]:
    """Return the sums by reason: one may be of deferred and of refused links."""
    sums: Counter[str] = Counter()
    for row in rows:
        if row.reason:
            sums[row.reason] += row.number
    return {REASONS[word]: number for word, number in sums.most_common()}


def _conditions(which: LinkFilter) -> list[ColumnElement[bool]]:
    exact = {
        links.c.source: which.source,
        links.c.state: which.state,
        links.c.reason: which.reason,
        links.c.host: which.host,
    }
    conditions: list[ColumnElement[bool]] = [
        column == str(value) for column, value in exact.items() if value is not None
    ]
    if which.roots is not None:
        conditions.append(root_of(links.c.url).in_(which.roots))
    if which.text:
        found = [column.icontains(which.text, autoescape=True) for column in (links.c.row_key, links.c.url)]
        conditions.append(or_(*found, links.c.row_key.in_(which.keys)))
    return conditions


def _visit(row: Row[*tuple[Any, ...]]) -> Visit:
    values = row._asdict()
    reason = values.pop("reason")
    return Visit(**{**values, "outcome": End(values["outcome"])}, reason=REASONS[reason] if reason else None)


def _link(row: Row[*tuple[Any, ...]]) -> LinkReport:
    values = row._asdict()
    reason, format_ = values.pop("reason"), values.pop("format")
    return LinkReport(
        **{**values, "state": State(values["state"])},
        reason=REASONS[reason] if reason else None,
        format=_FORMATS[format_] if format_ else None,
    )
