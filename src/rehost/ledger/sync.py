"""Compares catalogue and ledger: a few statements find and apply what is new, changed or gone, for any table size.

One statement counts what each of the others would find, and only those run that have something to do. Each finds it
again, as it is then: the table may change meanwhile. Differences go into a temporary table first and are then applied.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    update,
)

from rehost.db import (
    OTHER_HOST,
    Columns,
    Connection,
    Database,
    LinkRows,
    after,
    analyze,
    blank,
    host_of,
    load,
    now,
    temporary,
    temporary_table,
)
from rehost.errors import CatalogueError
from rehost.http.url import read_host
from rehost.ledger.leases import LONGEST_LEASE, LONGEST_WAIT, is_open, is_taken_down
from rehost.ledger.schema import changes, learnings, links
from rehost.model import REFUSALS, State

_OFFERED: Columns = {
    "row_key": Text(),
    "position": Integer(),
    "url": Text(),
    "page_url": Text(),
    "local_url": Text(),
    "host": Text(),
}
_offered = temporary_table("rehost_offered", _OFFERED)
_CELL = ("row_key", "position", "url", "page_url", "host")
_DIFFERING: Columns = {"entry": BigInteger()} | {name: _OFFERED[name] for name in _CELL}
_differing = temporary_table("rehost_differing", _DIFFERING)
_unread = temporary_table("rehost_unread", {"number": BigInteger(), **_DIFFERING}, "number")
_GROUP = 5000  # links whose hosts are read at once


@dataclass(frozen=True, slots=True)
class SyncResult:
    """How the catalogue differed from the ledger, in links."""

    present: int  # links in the catalogue now
    new: int
    changed: int
    vanished: int  # links whose row or cell is gone
    redo: bool = False  # the column is empty in every row of a held copy: the operator wants everything again
    unpointed: bool = False  # rows may not point at their held copies: `Reconciliation.stale_rows` finds which


@dataclass(frozen=True, slots=True)
class CatalogueSync:
    """Brings the ledger's links up to date with the catalogue's."""

    database: Database
    url: Callable[[str, str], str]  # of a key and its digest

    async def take_in(self, source: str, rows: LinkRows) -> SyncResult:
        """Take in all links of a source: new ones become wanted, changed ones become wanted again and due at once."""
        return await self.database.transact(lambda connection: self._take_in(connection, source, rows), slow=True)

    async def is_redo(self, source: str, rows: LinkRows) -> bool:
        """Return what `SyncResult.redo` says, without taking anything in."""

        async def work(connection: Connection) -> bool:
            async with offered_links(connection, self.database, rows) as offered:
                return await _is_redo(connection, source, offered)

        return await self.database.read(work, slow=True)

    async def take_in_row(self, source: str, row_key: str, rows: LinkRows) -> None:
        """Take in the links of one row, as `take_in` does for all; links that the row lacks are no longer present."""
        offered = await rows.database.fetch_all(rows.select, error=CatalogueError)
        found = [[getattr(row, name) for name in _OFFERED] for row in offered]
        await self.database.transact(lambda connection: self._take_in_row(connection, source, row_key, found))

    async def _take_in(self, connection: Connection, source: str, rows: LinkRows) -> SyncResult:
        await self.database.lock(connection, f"plan {source}")
        await self.database.allow_large_joins(connection)
        new = changed = vanished = 0
        redo = False
        async with offered_links(connection, self.database, rows) as offered:
            left = is_left(offered, is_joint=rows.database is self.database)
            survey = _survey(source, offered, may_lead_elsewhere(offered, self.url) | left)
            found = (await connection.execute(survey)).one()
            if found.differing:
                async with temporary(connection, _differing):
                    query = _differing_links(source, offered)
                    await connection.execute(insert(_differing).from_select(list(_DIFFERING), query))
                    await _read_hosts(connection)
                    new, changed = await self._apply_differences(connection, source, _differing)
                await analyze(connection, links, new)
            if found.known != found.there:
                vanished = await _mark_vanished(connection, source, offered)
            if unpointed := bool(found.unpointed or changed):
                redo = await _is_redo(connection, source, offered)
        if found.overdue or found.differing:  # of a row that is back, the link may wait
            await connection.execute(update(links).values(due_at=now()).where(links.c.source == source, _is_overdue()))
        return SyncResult(found.present, new, changed, vanished, redo, unpointed)

    async def _take_in_row(
        self, connection: Connection, source: str, row_key: str, found: Sequence[Sequence[object]]
    ) -> None:
        offered = self.database.given(_OFFERED, found)
        if rows := (await connection.execute(_differing_links(source, offered))).all():
            differing = [(*row[:-1], read_host(row.url) if row.host == OTHER_HOST else row.host) for row in rows]
            await self._apply_differences(connection, source, self.database.given(_DIFFERING, differing))
        positions = [row[list(_OFFERED).index("position")] for row in found]
        of_row = update(links).where(links.c.source == source, links.c.row_key == row_key)
        is_gone = links.c.present & links.c.position.not_in(positions)
        await connection.execute(of_row.values(present=False).where(is_gone))
        # an overtaken link waits until its row is taken in again: now
        waits = (links.c.state == State.WANTED.value) & (links.c.due_at > now())
        await connection.execute(of_row.values(due_at=now()).where(waits))

    async def _apply_differences(self, connection: Connection, source: str, differing: FromClause) -> tuple[int, int]:
        """Apply the differences (columns of _DIFFERING); return the numbers of new and of changed links."""
        new = await self._add_new(connection, source, differing)
        changed = await _change(connection, differing)
        # Same link, but another page, or the row is back.
        same = links.c.url == differing.c.url
        await _begin_anew(connection, differing, same)
        await _update(connection, differing, same, page_url=differing.c.page_url, host=differing.c.host, present=True)
        return new, changed

    async def _add_new(self, connection: Connection, source: str, differing: FromClause) -> int:
        query = select(
            literal(source), *(differing.c[name] for name in _CELL), true(), literal(State.WANTED.value), now(), now()
        ).where(differing.c.entry.is_(None))
        adding = self.database.insert(links).from_select(
            ["source", *_CELL, "present", "state", "due_at", "noted_at"], query, include_defaults=False
        )
        return (await connection.execute(adding.on_conflict_do_nothing())).rowcount


@asynccontextmanager
async def offered_links(connection: Connection, database: Database, rows: LinkRows) -> AsyncIterator[FromClause]:
    """Provide the operator's links to join with: in place if they share the database, otherwise streamed here."""
    if rows.database is database:
        yield rows.select.subquery("offered")
        return
    async with temporary(connection, _offered):
        await load(connection, _offered, rows.database.stream(rows.select))
        yield select(_offered).subquery("offered")


def same_place(offered: FromClause, source: str) -> ColumnElement[bool]:
    """Return the condition that a link of the catalogue and an entry of the ledger are the same cell."""
    return and_(
        links.c.source == source,
        links.c.row_key == offered.c.row_key,
        links.c.position == offered.c.position,
    )


async def _read_hosts(connection: Connection) -> None:
    """Let the parser of URLs tell the hosts that SQL cannot: the ledger has each host as requests have it."""
    unread = _differing.c.host == OTHER_HOST

    async def groups() -> AsyncGenerator[Iterable[Sequence[object]], None]:
        number = 0
        query = select(_unread).order_by(_unread.c.number).limit(_GROUP)
        while rows := (await connection.execute(query.where(_unread.c.number > number))).all():
            number = rows[-1].number
            yield [(*row[1:-1], read_host(row.url)) for row in rows]

    async with temporary(connection, _unread):
        numbered = select(func.row_number().over(), *_differing.c).where(unread)
        moving = insert(_unread).from_select(list(_unread.c.keys()), numbered)
        if (await connection.execute(moving)).rowcount:
            await connection.execute(delete(_differing).where(unread))
            await load(connection, _differing, groups())


def _survey(source: str, offered: FromClause, is_unpointed: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Return a query for how much the other statements would find.

    Its columns count links: `present` in the catalogue; of these `differing` from the ledger's, `there` as present too,
    and held by copies at which rows may not point (`unpointed`); `known` to the ledger as present; `overdue` there.
    """
    differs = _differs(offered)
    is_held = and_(links.c.state == State.HELD.value, links.c.key.is_not(None))
    catalogue = (
        select(
            func.count().label("present"),
            func.count().filter(links.c.present).label("there"),
            func.count().filter(differs).label("differing"),
            func.count().filter(is_held, or_(differs, is_unpointed)).label("unpointed"),
        )
        .select_from(offered)
        .join(links, same_place(offered, source), isouter=True)
        .subquery("catalogue")
    )
    ledger = select(
        func.count().filter(links.c.present).label("known"), func.count().filter(_is_overdue()).label("overdue")
    )
    return select(catalogue, known := ledger.where(links.c.source == source).subquery("ledger")).join(known, true())


def _differs(offered: FromClause) -> ColumnElement[bool]:
    return or_(
        links.c.entry.is_(None),
        not_(links.c.present),
        links.c.url != offered.c.url,
        links.c.page_url.is_distinct_from(offered.c.page_url),
        links.c.host == OTHER_HOST,  # by a migration
    )


def _differing_links(source: str, offered: FromClause) -> Select[*tuple[Any, ...]]:
    """Return a query for the offered links that differ from the ledger's or are missing there: _DIFFERING's columns."""
    return (
        select(links.c.entry, *(offered.c[name] for name in _CELL))
        .select_from(offered)
        .join(links, same_place(offered, source), isouter=True)
        .where(_differs(offered))
    )


def may_lead_elsewhere(offered: FromClause, url: Callable[[str, str], str]) -> ColumnElement[bool]:
    """Return the condition that the row of a held copy is empty, or that it may hold what we wrote before.

    It is met too often where a URL writes a key differently.
    """
    prefix, any_digest = url("", ""), "0" * 64
    version = url("", any_digest).removeprefix(prefix)
    sign = version.rstrip("0")
    as_now = literal(prefix) + links.c.key
    if version:
        as_now = as_now + literal(sign) + func.substr(links.c.digest, 1, len(version) - len(sign))
    at_former = and_(links.c.former_key.is_not(None), offered.c.local_url != links.c.local_url)
    return or_(blank(offered.c.local_url), links.c.local_url != as_now, at_former)


def is_left(offered: FromClause, *, is_joint: bool) -> ColumnElement[bool]:
    """Return the condition that a row is as it was before its last writing: a kill came before that.

    Only for two databases: in one, row and ledger change together, so that others must have put that value back.
    """
    if is_joint:
        return false()
    later = changes.alias("later")
    cell = ("source", "row_key", "position")
    is_laters = [later.c[name] == changes.c[name] for name in cell]
    is_before = exists().where(
        *(changes.c[name] == links.c[name] for name in (*cell, "url")),
        changes.c.before_url == offered.c.local_url,
        changes.c.after_url == links.c.local_url,
        ~exists().where(*is_laters, later.c.change > changes.c.change),
    )
    return offered.c.local_url.is_distinct_from(links.c.local_url) & is_before


async def _change(connection: Connection, differing: FromClause) -> int:
    """Make changed links wanted and due now; a link changed back to the URL of its held copy is held again."""
    is_back = and_(links.c.held_url == differing.c.url, links.c.key.is_not(None), links.c.pending_digest.is_(None))
    return await _update(
        connection,
        differing,
        links.c.url != differing.c.url,
        url=differing.c.url,
        page_url=differing.c.page_url,
        host=differing.c.host,
        present=True,
        state=case((is_back, State.HELD.value), else_=State.WANTED.value),
        due_at=now(),
        fence=links.c.fence + 1,
        attempts=0,
        deaths=0,
        reason=null(),
        evidence=null(),
        found=null(),
        changed_at=now(),
    )


async def _begin_anew(connection: Connection, differing: FromClause, same: ColumnElement[bool]) -> None:
    """Make refused links due whose page, which is a Referer, has changed; their origins get fresh extra requests."""
    is_refused = and_(is_open(links), links.c.reason.in_([reason.value for reason in REFUSALS]))
    is_corrected = and_(same, is_refused, links.c.page_url.is_distinct_from(differing.c.page_url))
    entries = select(links.c.host).where(links.c.entry == differing.c.entry, is_corrected)
    renewing = update(learnings).where(host_of(learnings.c.origin).in_(entries), learnings.c.fresh_at > now())
    await connection.execute(renewing.values(fresh_at=now()))
    await _update(connection, differing, is_corrected, due_at=now(), attempts=0)


async def _update(
    connection: Connection,
    differing: FromClause,
    condition: ColumnElement[bool],
    **values: Any,  # noqa: ANN401 - columns
) -> int:
    changing = update(links).values(values).where(links.c.entry == differing.c.entry, condition)
    return (await connection.execute(changing)).rowcount


async def _mark_vanished(connection: Connection, source: str, offered: FromClause) -> int:
    """Mark links that left the catalogue; by EXCEPT, which both databases do in one pass over each side."""
    known = select(links.c.row_key, links.c.position).where(links.c.source == source, links.c.present)
    gone = known.except_(select(offered.c.row_key, offered.c.position)).subquery("gone")
    marking = update(links).values(present=False).where(same_place(gone, source))
    return (await connection.execute(marking)).rowcount


async def _is_redo(connection: Connection, source: str, offered: FromClause) -> bool:
    """Return whether the column is empty in every row of a held copy."""
    is_held = and_(links.c.source == source, links.c.present, links.c.state == State.HELD.value)
    if not await connection.scalar(select(exists().where(is_held))):
        return False
    pointing = (
        select(links.c.entry)
        .join(offered, same_place(offered, source))
        .where(is_held, not_(blank(offered.c.local_url)))
        .limit(1)
    )
    return await connection.scalar(pointing) is None


def _is_overdue() -> ColumnElement[bool]:
    """Return the condition that a link waited for this sync, or that a wrong clock has put it far into the future."""
    return and_(
        is_open(links),
        or_(
            and_(links.c.state == State.WANTED.value, links.c.due_at > now()),
            and_(links.c.state == State.LEASED.value, links.c.due_at > after(LONGEST_LEASE)),
            and_(links.c.state != State.WANTED.value, links.c.due_at > after(LONGEST_WAIT), not_(is_taken_down())),
        ),
    )
