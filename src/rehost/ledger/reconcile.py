"""The store against the ledger: which held copies are gone, which files are there that nobody knows of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    String,
    Table,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from rehost.db import Connection, Database, Session, drop_temporary, load, make_temporary, now
from rehost.ledger.due import is_open
from rehost.ledger.schema import links
from rehost.model import State
from rehost.ports import Compared, Found

_CLOCK_JUMPED = timedelta(days=1)  # no run takes so long

_listed = Table(
    "rehost_listed",
    MetaData(),
    Column("row_key", String),
    Column("position", Integer),
    Column("key", String),
    prefixes=["TEMPORARY"],
)
_gone = Table("rehost_gone", MetaData(), Column("entry", BigInteger), prefixes=["TEMPORARY"])
NO_COPY = dict.fromkeys(
    ("key", "digest", "size", "held_url", "final_url", "format", "width", "height", "frames", "etag",
     "last_modified", "held_at", "pending_digest", "pending_url")
)  # fmt: skip


async def compare(database: Database, source: str, listing: Callable[[], AsyncIterator[Sequence[Found]]]) -> Compared:
    """Hold the store's listing against the ledger; what was recorded while it was listed is not missed."""

    async def groups() -> AsyncIterator[Iterable[tuple[str, int, str]]]:
        async for group in listing():
            yield [(found.row_key, found.position, found.key) for found in group]

    async def work(session: Session) -> Compared:
        async with session.begin(writing=False) as connection:
            started = await connection.scalar(select(now()))
            assert started is not None
            await make_temporary(connection, _listed)
            await load(connection, _listed, groups())
        async with session.begin(writing=True) as connection:
            await database.lock(connection, f"plan {source}")
            await database.expect_much(connection)
            await _find_gone(connection, source, started)
            lost = await _want_lost(connection, started)
            redo = lost > 0 and not await _any_held(connection, source)
            found = await _hand_out_found(connection, source)
            await drop_temporary(connection, _gone)
            await drop_temporary(connection, _listed)
        return Compared(lost, found, redo)

    return await database.hold(work)


async def _find_gone(connection: Connection, source: str, started: datetime) -> None:
    query = (
        select(links.c.entry)
        .join(_listed, _listed.c.key == links.c.key, isouter=True)
        .where(links.c.source == source, links.c.key.is_not(None), _is_older(started), _listed.c.key.is_(None))
    )
    await make_temporary(connection, _gone)
    await connection.execute(insert(_gone).from_select([_gone.c.entry], query))


async def _want_lost(connection: Connection, started: datetime) -> int:
    """Want copies that are gone again; forget those of links that wait for another reason, or are no more.

    Not a copy that was recorded since they were found to be gone.
    """
    is_held = links.c.state == State.HELD.value
    is_gone = links.c.entry.in_(select(_gone.c.entry)) & _is_older(started)
    forgetting = update(links).values(NO_COPY).where(is_gone)
    wanting = forgetting.values(state=State.WANTED.value, due_at=now(), attempts=0, fence=links.c.fence + 1)
    lost = (await connection.execute(wanting.where(is_held, links.c.present))).rowcount
    await connection.execute(wanting.where(is_held))
    await connection.execute(forgetting)
    return lost


def _is_older(started: datetime) -> ColumnElement[bool]:
    """Return the condition that a copy was recorded before the listing began, or by a clock that has jumped since."""
    return or_(links.c.held_at < started, links.c.held_at > started + _CLOCK_JUMPED)


async def _any_held(connection: Connection, source: str) -> bool:
    held: ColumnElement[bool] = exists().where(
        links.c.source == source, links.c.present, links.c.state == State.HELD.value
    )
    return bool(await connection.scalar(select(held)))


async def _hand_out_found(connection: Connection, source: str) -> int:
    """Remember files at the places of links without a copy, to be proven at their next turn.

    Not where the link has changed since it was noted: such a file may be another link's picture.
    """
    await connection.execute(
        update(links)
        .values(found=_listed.c.key)
        .where(
            links.c.source == source,
            is_open(links),
            links.c.row_key == _listed.c.row_key,
            links.c.position == _listed.c.position,
            links.c.key.is_(None),
            links.c.changed_at.is_(None),
            links.c.found.is_distinct_from(_listed.c.key),
        )
    )
    counting = (
        select(func.count())
        .select_from(links)
        .where(links.c.source == source, is_open(links), links.c.found.is_not(null()))
    )
    return await connection.scalar(counting.where(links.c.state == State.WANTED.value)) or 0
