"""Held bytes that come under several links of one host, and what becomes of them once they prove to be a decoy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Row, Text, and_, func, null, or_, select, update

from rehost.database import Connection, Database, after
from rehost.ledger import journal, visits
from rehost.ledger.schema import links
from rehost.ledger.standings import End
from rehost.model import Copy, Link, Reason, State

GROUP = 1000  # entries


async def shared(
    connection: Connection, database: Database, source: str, digests: Sequence[str]
) -> Mapping[str, Sequence[Link]]:
    """Return two links, the first and the last noted, for each digest that is held under several links of one host."""
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
    found: dict[str, list[Link]] = {}
    for row in await connection.execute(query):
        found.setdefault(row.digest, []).append(_link(row))
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
    """Refuse held links of a host whose copies have this digest, a group at a time; return what was held.

    The rows are to be cleared in the same transaction; the clearing stands in the link's history.
    """
    query = (
        select(links)
        .where(
            links.c.digest == digest,
            links.c.source == source,
            links.c.host == host,
            links.c.state == State.HELD.value,
        )
        .order_by(links.c.entry)
        .limit(GROUP)
        .with_for_update()
    )
    rows = (await connection.execute(query)).all()
    if rows:
        await _refuse(connection, database, [row.entry for row in rows], evidence, wait_seconds)
        found = (End.REFUSED.value, Reason.DECOY.value, evidence, digest)
        await visits.write(connection, database, run, [(row.entry, *found) for row in rows])
        await journal.write(connection, database, run, [(_link(row), row.local_url, None) for row in rows])
    return [(_link(row), Copy(row.key, row.digest, row.size)) for row in rows]


async def _refuse(
    connection: Connection, database: Database, entries: Sequence[int], evidence: str, wait_seconds: float
) -> None:
    given = database.given({"entry": BigInteger()}, [[entry] for entry in entries])
    nothing = dict.fromkeys(("key", "digest", "size", "held_url", "final_url", "local_url", "held_at"), null())
    await connection.execute(
        update(links)
        .values(
            **nothing,
            state=State.REFUSED.value,
            reason=Reason.DECOY.value,
            evidence=evidence,
            due_at=after(wait_seconds),
            fence=links.c.fence + 1,
        )
        .where(links.c.entry == given.c.entry)
    )


def _link(row: Row[*tuple[Any, ...]]) -> Link:
    return Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url)
