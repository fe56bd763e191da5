"""Files whose time is over: what is held under a name, and names that a commit has put out of use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Text, null, select, update

from rehost.database import Connection, Database
from rehost.ledger.schema import links
from rehost.model import State


async def held(connection: Connection, database: Database, keys: Collection[str]) -> Mapping[str, str]:
    """Return the digests that are held under these keys, without keys that are not held."""
    given = database.given({"key": Text()}, [[key] for key in sorted(set(keys))])
    rows = await connection.execute(
        select(links.c.key, links.c.digest).join(given, given.c.key == links.c.key).where(links.c.digest.is_not(None))
    )
    return {row.key: row.digest for row in rows}


async def leftovers(connection: Connection, source: str) -> Sequence[str]:
    """Return keys that held links had before their present one, where nobody has confirmed that the files are gone."""
    query = select(links.c.former_key).where(
        links.c.source == source,
        links.c.former_key.is_not(None),
        links.c.former_key != links.c.key,
        links.c.state == State.HELD.value,
    )
    return list(await connection.scalars(query))


async def forget_leftovers(connection: Connection, database: Database, source: str, keys: Sequence[str]) -> None:
    """Take it that these files are gone."""
    given = database.given({"key": Text()}, [[key] for key in sorted(set(keys))])
    await connection.execute(
        update(links)
        .where(links.c.source == source, links.c.former_key.in_(select(given.c.key)))
        .values(former_key=null())
    )
