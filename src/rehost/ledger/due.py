"""What is due, by host; what waits, and until when.

`is_open` is spelled as in the partial index `rehost_links_open`, so that what is held is never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, FromClause, and_, case, exists, func, literal_column, or_, select, update

from rehost.db import Connection, after, is_over, now, seconds_until
from rehost.ledger import schema
from rehost.ledger.schema import links
from rehost.model import Reason, State
from rehost.ports import LinkCounts

# Seconds: what ends later was set by a clock that was ahead (`is_over`).
_DAY_SECONDS = 86_400.0
LONGEST_LEASE = 2 * _DAY_SECONDS  # IMAGE_LEASE_SECONDS is a day at most
LONGEST_PAUSE = 32 * _DAY_SECONDS  # the operator may ask for a month (server/api/actions.py)
LONGEST_WAIT = 180 * _DAY_SECONDS  # a link that is refused again and again waits for two months (run/retry.py)

_FAILED = (State.DEFERRED.value, State.REFUSED.value)


def is_open(entries: FromClause) -> ColumnElement[bool]:
    """Return the condition that an entry is in the catalogue and not held."""
    name = getattr(entries, "name")  # noqa: B009 - tables and aliases have one, their common type does not say so
    return literal_column(f"{name}.state <> 'held' AND {name}.present")


def is_due(entries: FromClause) -> ColumnElement[bool]:
    """Return the condition that a link's turn has come."""
    return and_(is_open(entries), entries.c.due_at <= now())


def is_place(source: str, row_key: str, position: int) -> ColumnElement[bool]:
    """Return the condition that an entry is the one of this cell."""
    return and_(links.c.source == source, links.c.row_key == row_key, links.c.position == position)


def pause_seconds() -> ColumnElement[float]:
    """Return what is left of the pause of each of `rehost_hosts`."""
    columns = schema.hosts.c
    is_none = or_(columns.paused_until.is_(None), is_over(columns.paused_until, LONGEST_PAUSE))
    return case((is_none, 0.0), else_=seconds_until(columns.paused_until)).label("pause_seconds")


async def hosts(connection: Connection, source: str) -> Sequence[str]:
    """Return the hosts that have links due now: one look into the index a host, however many links (a loose scan)."""
    first = select(func.min(links.c.host).label("host")).where(links.c.source == source, is_open(links))
    found = first.cte("found", recursive=True)
    further = links.alias("further")
    next_one = (
        select(func.min(further.c.host))
        .where(further.c.source == source, is_open(further), further.c.host > found.c.host)
        .scalar_subquery()
    )
    found = found.union_all(select(next_one).where(found.c.host.is_not(None)))
    waiting = links.alias("waiting")
    due = exists().where(waiting.c.source == source, waiting.c.host == found.c.host, is_due(waiting))
    return list(await connection.scalars(select(found.c.host).where(found.c.host.is_not(None), due)))


async def forget_waits(connection: Connection, source: str, reason: str | None) -> int:
    """Make deferred and refused links due now, as if they had never been visited; return how many."""
    forgetting = (
        update(links)
        .values(due_at=now(), attempts=0)
        .where(links.c.source == source, is_open(links), links.c.state.in_(_FAILED), links.c.due_at > now())
    )
    if reason is not None:
        forgetting = forgetting.where(links.c.reason == reason)
    return (await connection.execute(forgetting)).rowcount


async def forget_wait(connection: Connection, source: str, row_key: str, position: int) -> int:
    """Make one deferred or refused link due now, as if it had never been visited; return how many that were."""
    forgetting = (
        update(links)
        .values(due_at=now(), attempts=0)
        .where(is_place(source, row_key, position), is_open(links), links.c.state.in_(_FAILED))
    )
    return (await connection.execute(forgetting)).rowcount


async def defer_host(
    connection: Connection, source: str, host: str, reason: Reason, evidence: str, wait_seconds: float
) -> int:
    """Defer all due links of one host, unvisited; return how many."""
    deferring = (
        update(links)
        .values(
            state=State.DEFERRED.value,
            reason=reason.value,
            evidence=evidence,
            due_at=after(wait_seconds),
            fence=links.c.fence + 1,
        )
        .where(links.c.source == source, links.c.host == host, is_due(links))
    )
    return (await connection.execute(deferring)).rowcount


async def tally(connection: Connection, source: str) -> LinkCounts:
    """Return where a source stands now."""
    failed, leased = links.c.state.in_(_FAILED), links.c.state == State.LEASED.value
    later = and_(failed, links.c.due_at > now())
    open_ = (
        await connection.execute(
            select(
                func.count(),
                func.count().filter(links.c.due_at <= now()),
                func.count().filter(later),
                func.count().filter(leased, links.c.due_at > now()),
                seconds_until(func.min(links.c.due_at).filter(later)),
            ).where(links.c.source == source, is_open(links))
        )
    ).one()
    present = await connection.scalar(
        select(func.count()).select_from(links).where(links.c.source == source, links.c.present)
    )
    return LinkCounts(
        present=present or 0,
        held=(present or 0) - open_[0],
        due=open_[1],
        later=open_[2],
        leased=open_[3],
        next_due_seconds=open_[4],
    )
