"""The catalogue against the ledger, set-wise: what is new, changed or gone, in a few statements however many rows.

What differs is found first (a temporary table), then applied: where nothing differs, nothing is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    and_,
    case,
    exists,
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

from rehost.db import Columns, Connection, Database, LinkRows, after, blank, load, look_anew, now
from rehost.db.bulk import temporary
from rehost.ledger.due import LONGEST_LEASE, LONGEST_WAIT, is_open
from rehost.ledger.schema import links
from rehost.model import State
from rehost.ports import Noted

_columns: list[Column[Any]] = [
    Column("row_key", String),
    Column("position", Integer),
    Column("url", String),
    Column("page_url", String),
    Column("local_url", String),
    Column("host", String),
]
_offered = Table("rehost_offered", MetaData(), *_columns, prefixes=["TEMPORARY"])
DIFFERING: Columns = {
    "entry": BigInteger(),
    "row_key": String(),
    "position": Integer(),
    "url": String(),
    "page_url": String(),
    "host": String(),
}
_differing = Table(
    "rehost_differing",
    MetaData(),
    *(Column(name, kind) for name, kind in DIFFERING.items()),
    prefixes=["TEMPORARY"],
)


@asynccontextmanager
async def at_hand(connection: Connection, database: Database, rows: LinkRows) -> AsyncIterator[FromClause]:
    """Have the operator's links to join with: as they are in the same database, streamed here from another one."""
    if rows.database is database:
        yield rows.select.subquery("offered")
        return
    async with temporary(connection, _offered):
        await load(connection, _offered, rows.database.stream(rows.select))
        yield select(_offered).subquery("offered")


def same_place(offered: FromClause, source: str) -> ColumnElement[bool]:
    """Return the condition that a link of the catalogue and an entry of the ledger are one cell."""
    return and_(
        links.c.source == source,
        links.c.row_key == offered.c.row_key,
        links.c.position == offered.c.position,
    )


async def note(connection: Connection, database: Database, source: str, rows: LinkRows) -> Noted:
    """Take in the catalogue's links."""
    await database.lock(connection, f"plan {source}")
    await database.expect_much(connection)
    async with at_hand(connection, database, rows) as offered:
        async with temporary(connection, _differing):
            await _find_differing(connection, source, offered)
            new, changed = await take_in(connection, database, source, _differing)
        await look_anew(connection, links, new)
        vanished = await _mark_vanished(connection, source, offered)
        redo = await _is_redo(connection, source, offered)
    await _correct_dues(connection, source)
    present = await connection.scalar(
        select(func.count()).select_from(links).where(links.c.source == source, links.c.present)
    )
    return Noted(present or 0, new, changed, vanished, redo)


async def take_in(connection: Connection, database: Database, source: str, differing: FromClause) -> tuple[int, int]:
    """Apply what differs (the columns of DIFFERING); return how many links are new, and how many have changed."""
    new = await _add_new(connection, database, source, differing)
    changed = await _change(connection, differing)
    await _refresh(connection, differing)
    return new, changed


def differing_links(source: str, offered: FromClause) -> Select[*tuple[Any, ...]]:
    """Return a query for the offered links that the ledger does not have so: the columns of DIFFERING."""
    differs = or_(
        links.c.entry.is_(None),
        not_(links.c.present),
        links.c.url != offered.c.url,
        links.c.page_url.is_distinct_from(offered.c.page_url),
    )
    columns = [offered.c[name] for name in ("row_key", "position", "url", "page_url", "host")]
    return (
        select(links.c.entry, *columns)
        .select_from(offered)
        .join(links, same_place(offered, source), isouter=True)
        .where(differs)
    )


async def _find_differing(connection: Connection, source: str, offered: FromClause) -> None:
    await connection.execute(insert(_differing).from_select(list(DIFFERING), differing_links(source, offered)))


async def _add_new(connection: Connection, database: Database, source: str, differing: FromClause) -> int:
    columns = ["row_key", "position", "url", "page_url", "host"]
    query = select(
        literal(source), *(differing.c[name] for name in columns), true(), literal(State.WANTED.value), now(), now()
    ).where(differing.c.entry.is_(None))
    adding = database.insert(links).from_select(
        ["source", *columns, "present", "state", "due_at", "noted_at"], query, include_defaults=False
    )
    return (await connection.execute(adding.on_conflict_do_nothing())).rowcount


async def _change(connection: Connection, differing: FromClause) -> int:
    """Want changed links anew, with no wait left over; one changed back to what its copy came from is held again."""
    is_back = and_(links.c.held_url == differing.c.url, links.c.key.is_not(None), links.c.pending_digest.is_(None))
    return await _apply(
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
        reason=null(),
        evidence=null(),
        found=null(),
        changed_at=now(),
    )


async def _refresh(connection: Connection, differing: FromClause) -> None:
    """Take in what differs beside the link: the row's page, or that the row is back."""
    same = links.c.url == differing.c.url
    await _apply(connection, differing, same, page_url=differing.c.page_url, present=True)


async def _apply(
    connection: Connection,
    differing: FromClause,
    condition: ColumnElement[bool],
    **values: Any,  # noqa: ANN401 - columns
) -> int:
    changing = update(links).values(values).where(links.c.entry == differing.c.entry, condition)
    return (await connection.execute(changing)).rowcount


async def _mark_vanished(connection: Connection, source: str, offered: FromClause) -> int:
    """Mark what the catalogue has no more; by EXCEPT, which both databases do in one pass over each side."""
    known = select(links.c.row_key, links.c.position).where(links.c.source == source, links.c.present)
    gone = known.except_(select(offered.c.row_key, offered.c.position)).subquery("gone")
    marking = update(links).values(present=False).where(same_place(gone, source))
    return (await connection.execute(marking)).rowcount


async def _is_redo(connection: Connection, source: str, offered: FromClause) -> bool:
    """Tell whether the column is cleared in every row of a held copy."""
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


async def _correct_dues(connection: Connection, source: str) -> None:
    """Make due now what waits for this noting, and what a clock that jumped has put far into the future."""
    overdue = or_(
        and_(links.c.state == State.WANTED.value, links.c.due_at > now()),
        and_(links.c.state == State.LEASED.value, links.c.due_at > after(LONGEST_LEASE)),
        and_(links.c.state != State.WANTED.value, links.c.due_at > after(LONGEST_WAIT)),
    )
    await connection.execute(
        update(links).values(due_at=now()).where(links.c.source == source, is_open(links), overdue)
    )
