"""Held bytes that come under several links of one host, and what becomes of them once they prove to be a decoy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Row, Text, and_, func, or_, select, update

from rehost.db import Connection, Database, after, host_of
from rehost.ledger import history as visits
from rehost.ledger.reconcile import NO_COPY
from rehost.ledger.schema import links
from rehost.ledger.standings import End
from rehost.model import Copy, Link, Reason, State

GROUP = 1000  # entries


async def shared(
    connection: Connection, database: Database, source: str, digests: Sequence[str]
) -> Mapping[tuple[str, str], Sequence[Link]]:
    """Return two links, the first and the last noted, of each host that gave several links one of these digests."""
    given = database.given({"digest": Text()}, [[digest] for digest in sorted(set(digests))])
    # No condition but the digest is the join's: of a ledger that PostgreSQL has not analysed since it was filled it
    # takes few links to be held, and would compare each of them with each digest.
    held = and_(links.c.source == source, links.c.present, links.c.state == State.HELD.value)
    pairs = (
        select(func.min(links.c.entry).filter(held).label("first"), func.max(links.c.entry).filter(held).label("last"))
        .join(given, given.c.digest == links.c.digest)
        .group_by(links.c.digest, links.c.host)
        .having(func.count().filter(held) > 1)
        .subquery()
    )
    query = (
        select(links)
        .join(pairs, or_(links.c.entry == pairs.c.first, links.c.entry == pairs.c.last))
        .order_by(links.c.entry)
    )
    found: dict[tuple[str, str], list[Link]] = {}
    for row in await connection.execute(query):
        found.setdefault((row.host, row.digest), []).append(_link(row))
    return found


async def unmask(
    connection: Connection,
    database: Database,
    run: int,
    source: str,
    host: str,
    digest: str,
    *,
    evidence: str,
    wait_seconds: float,
) -> Sequence[tuple[Link, Copy]]:
    """Refuse held links of a host whose copies have this digest, a group at a time; return whose copies those were.

    Links that have changed since, and wait for a picture of their own, lose the copy and go on waiting; while a worker
    is at one it may be about to put another picture in the copy's place.

    The rows are to be cleared in the same transaction, and the clearing to be journaled.
    """
    is_held = and_(links.c.state == State.HELD.value, links.c.host == host)
    is_former = and_(
        links.c.state.not_in((State.HELD.value, State.LEASED.value)),
        links.c.key.is_not(None),
        links.c.pending_digest.is_(None),
        host_of(links.c.held_url) == host,
    )
    query = (
        select(links)
        .where(links.c.digest == digest, links.c.source == source, or_(is_held, is_former))
        .order_by(links.c.entry)
        .limit(GROUP)
        .with_for_update()
    )
    rows = (await connection.execute(query)).all()
    entries = [row.entry for row in rows if row.state == State.HELD.value]
    if entries:
        refused = {"state": State.REFUSED.value, "reason": Reason.DECOY.value, "evidence": evidence}
        refusing = update(links).values(**refused, due_at=after(wait_seconds), fence=links.c.fence + 1)
        await connection.execute(refusing.where(_is_one_of(database, entries)))
        found = (End.REFUSED.value, Reason.DECOY.value, evidence, digest)
        await visits.write(connection, database, run, [(entry, *found) for entry in entries])
    await forget_copies(connection, database, [row.entry for row in rows])
    return [(_link(row), Copy(row.key, row.digest, row.size)) for row in rows]


async def forget_copies(connection: Connection, database: Database, entries: Sequence[int]) -> None:
    """Hold nothing of these entries any more; their rows are to be cleared in the same transaction."""
    if entries:
        forgetting = update(links).values(NO_COPY | {"local_url": None, "found": None})
        await connection.execute(forgetting.where(_is_one_of(database, entries)))


def _is_one_of(database: Database, entries: Sequence[int]) -> ColumnElement[bool]:
    given = database.given({"entry": BigInteger()}, [[entry] for entry in entries])
    return links.c.entry.in_(select(given.c.entry))


def _link(row: Row[*tuple[Any, ...]]) -> Link:
    return Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url)
