"""Files whose time is over: what is held under a name, and names that a commit has put out of use."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from sqlalchemy import Text, and_, null, select, update

from rehost.db import Connection, Database, LinkRows
from rehost.ledger.pointing import leads_to
from rehost.ledger.schema import links
from rehost.ledger.sync import at_hand, same_place
from rehost.model import State


async def held(connection: Connection, database: Database, keys: Collection[str]) -> Mapping[str, str | None]:
    """Return the digests that are held under these keys, without keys that are not held; None while one is leased."""
    given = database.given({"key": Text()}, [[key] for key in sorted(set(keys))])
    rows = await connection.execute(
        select(links.c.key, links.c.digest, links.c.state)
        .join(given, given.c.key == links.c.key)
        .where(links.c.digest.is_not(None))
    )
    return {row.key: None if row.state == State.LEASED.value else row.digest for row in rows}


async def leftovers(
    connection: Connection, database: Database, source: str, rows: LinkRows, url: Callable[[str], str]
) -> Sequence[str]:
    """Return keys that held links had before their present one, where nobody has confirmed that the files are gone.

    Not those that rows still point at (invariant 1): of a run that was killed between its two steps, or undone.
    """
    is_left = and_(
        links.c.source == source,
        links.c.former_key.is_not(None),
        links.c.former_key != links.c.key,
        links.c.state == State.HELD.value,
    )
    if await connection.scalar(select(links.c.entry).where(is_left).limit(1)) is None:
        return []
    async with at_hand(connection, database, rows) as offered:
        query = select(links.c.former_key, offered.c.local_url).where(is_left)
        found = await connection.execute(query.join_from(links, offered, same_place(offered, source), isouter=True))
        return [row[0] for row in found if row[1] is None or not leads_to(row[1], row[0], url)]


async def forget_leftovers(connection: Connection, database: Database, source: str, keys: Sequence[str]) -> None:
    """Take it that these files are gone."""
    given = database.given({"key": Text()}, [[key] for key in sorted(set(keys))])
    await connection.execute(
        update(links)
        .where(links.c.source == source, links.c.former_key.in_(select(given.c.key)))
        .values(former_key=null())
    )
