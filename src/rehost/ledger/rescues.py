"""Which links are dead, and where else their pictures may be: in other rows' copies, or under a date in an archive.

A link is dead once it has failed three times, over six days or more, for causes that stay, and has no copy of its own
(three failures at least three days apart, as IABot of Wikipedia counts). Each is tried again RETRY_SECONDS later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, Text, and_, exists, func, null, or_, select, update

from rehost.db import Connection, Database, after, now, seconds_until
from rehost.ledger.history import End
from rehost.ledger.leases import is_open
from rehost.ledger.schema import links, visits
from rehost.model import Link, Reason, State, Task

DEAD = frozenset({
    *(Reason.UNRESOLVED, Reason.UNREACHABLE, Reason.TLS_FAILED, Reason.TIMED_OUT, Reason.ORIGIN_ERROR),
    *(Reason.GONE, Reason.HOTLINK_REFUSED, Reason.UNEXPECTED_STATUS, Reason.TOO_MANY_REDIRECTS, Reason.MALFORMED),
    *(Reason.TRUNCATED, Reason.EMPTY, Reason.NOT_AN_IMAGE, Reason.CORRUPT, Reason.DECOY),
})  # fmt: skip
"""Reasons that say that the origin does not have the picture any more, if they last."""

FAILURES = 3
DEAD_SECONDS = 6 * 86_400.0  # between the first of these failures and the last one
RETRY_SECONDS = 30 * 86_400.0  # between two searches for one link's picture
CLAIM_SECONDS = 86_400.0  # after which a link is due again whose search was killed

GROUP = 500  # links that are claimed at once: those of the same URL are found by reading all held links once a group
TWINS = 20  # copies of other links with the same bytes that are read for one link

_GOOD = (End.HELD.value, End.ADOPTED.value, End.UNCHANGED.value, End.OVERTAKEN.value)
_FAILED = (State.DEFERRED.value, State.REFUSED.value)


@dataclass(frozen=True, slots=True)
class Twin:
    """Another link whose copy may be the picture of this one."""

    source: str
    row_key: str
    url: str
    page_url: str | None
    key: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a link's picture."""

    since: datetime  # when the link was held last; when it was noted first, if it never was
    digests: Sequence[str]  # of the pictures that this URL has given, the last one first


@dataclass(frozen=True, slots=True)
class Rescues:
    """Finds dead links, and where their pictures may be."""

    database: Database

    async def dead(self, source: str) -> int:
        """Return how many dead links a source has, tried or not."""
        query = select(func.count()).select_from(links).where(links.c.source == source, is_dead())
        return int((await self.database.fetch_all(query, slow=True))[0][0])

    async def claim(self, source: str) -> Sequence[Task]:
        """Return up to GROUP dead links that nobody has searched for lately, and let no other worker have them.

        They are not leased: `LeaseManager.lease_held` leases those whose pictures were found.
        """
        is_due = or_(links.c.sought_at.is_(None), links.c.sought_at < after(-RETRY_SECONDS))
        chosen = select(links.c.entry).where(links.c.source == source, is_dead(), is_due)
        chosen = chosen.order_by(links.c.entry).limit(GROUP).with_for_update(skip_locked=True)
        claiming = (
            update(links)
            .values(sought_at=after(CLAIM_SECONDS - RETRY_SECONDS))
            .where(links.c.entry.in_(select(chosen.cte("chosen").c.entry)))
        )

        async def work(connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
            return (await connection.execute(claiming.returning(*links.c))).all()

        return [_task(row) for row in await self.database.transact(work, slow=True)]

    async def searched(self, entry: int) -> None:
        """Remember that a link was searched for now."""
        await self.database.execute(update(links).values(sought_at=now()).where(links.c.entry == entry))

    async def unclaim(self, entries: Collection[int]) -> None:
        """Let these links be searched for again: their search was interrupted."""
        if entries:
            given = self.database.given({"entry": BigInteger()}, [[entry] for entry in entries])
            is_theirs = links.c.entry.in_(select(given.c.entry))
            await self.database.execute(update(links).values(sought_at=null()).where(is_theirs))

    async def known(self, entry: int) -> Known:
        """Return what is known of the picture of a link.

        A link that changed counts from that change on: what came before was another picture.
        """
        is_good = and_(visits.c.outcome.in_(_GOOD), visits.c.url == links.c.url, visits.c.digest.is_not(None))
        query = (
            select(links.c.noted_at, links.c.changed_at, visits.c.digest, visits.c.last_at)
            .join_from(links, visits, and_(visits.c.entry == links.c.entry, is_good), isouter=True)
            .where(links.c.entry == entry)
            .order_by(visits.c.turn.desc())
        )
        rows = await self.database.fetch_all(query)
        since = rows[0].last_at or rows[0].changed_at or rows[0].noted_at
        return Known(since, list(dict.fromkeys(row.digest for row in rows if row.digest)))

    async def same_bytes(self, task: Task, digests: Collection[str]) -> Sequence[Twin]:
        """Return other links with a copy that has one of these digests."""
        if not digests:
            return []
        given = self.database.given({"digest": Text()}, [[digest] for digest in digests])
        is_its = and_(links.c.digest.in_(select(given.c.digest)), links.c.entry != task.entry)
        return [_twin(row) for row in await self._held(is_its, TWINS)]

    async def same_url(self, tasks: Sequence[Task]) -> Mapping[str, Sequence[Twin]]:
        """Return by URL the first and the last link with a copy that came from the URL of one of these links."""
        given = self.database.given({"url": Text()}, [[url] for url in {task.link.url for task in tasks}])
        pairs = (
            select(func.min(links.c.entry).label("first"), func.max(links.c.entry).label("last"))
            .join_from(given, links, and_(links.c.held_url == given.c.url, _IS_HELD))
            .group_by(given.c.url)
            .cte("pairs")
        )
        is_its = links.c.entry.in_(select(pairs.c.first).union(select(pairs.c.last)))
        found: dict[str, list[Twin]] = {}
        for row in await self._held(is_its, 2 * len(tasks)):
            found.setdefault(row.url, []).append(_twin(row))
        return found

    async def _held(self, condition: ColumnElement[bool], limit: int) -> Sequence[Row[*tuple[Any, ...]]]:
        columns = [links.c[name] for name in Twin.__dataclass_fields__ if name != "url"]
        query = select(*columns, links.c.held_url.label("url")).where(_IS_HELD, condition)
        return await self.database.fetch_all(query.order_by(links.c.entry).limit(limit), slow=True)


_IS_HELD = and_(links.c.state == State.HELD.value, links.c.key.is_not(None))


def _twin(row: Row[*tuple[Any, ...]]) -> Twin:
    return Twin(**row._asdict())


def is_dead() -> ColumnElement[bool]:
    """Return the condition that a link is dead."""
    reasons = [reason.value for reason in DEAD]
    other = visits.alias("other")
    is_end = or_(other.c.outcome.in_(_GOOD), other.c.url != links.c.url)  # of what counts: a success, or another link
    good = select(func.coalesce(func.max(other.c.turn), 0)).where(other.c.entry == links.c.entry, is_end)
    last_good = good.correlate(links).scalar_subquery()
    failures = (
        select(visits.c.entry)
        .where(visits.c.entry == links.c.entry, visits.c.turn > last_good, visits.c.reason.in_(reasons))
        .group_by(visits.c.entry)
        .having(func.sum(visits.c.times) >= FAILURES, _span() >= DEAD_SECONDS)
    )
    has_no_copy = or_(links.c.key.is_(None), links.c.held_url.is_distinct_from(links.c.url))
    is_failed = and_(is_open(links), links.c.state.in_(_FAILED), links.c.reason.in_(reasons))
    return and_(is_failed, has_no_copy, exists(failures.correlate(links)))


def _span() -> ColumnElement[float]:
    """Return the seconds between the first failure and the last one."""
    return seconds_until(func.max(visits.c.last_at)) - seconds_until(func.min(visits.c.first_at))


def _task(row: Row[*tuple[Any, ...]]) -> Task:
    """Return a link as a task that is not leased."""
    link = Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url)
    return Task(row.entry, row.fence, link, row.host, row.attempts, held_url=row.held_url)
