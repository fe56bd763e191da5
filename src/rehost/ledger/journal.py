"""What was written into rows, by which run: for `undo`, and for a link's history."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BigInteger, Integer, Text, insert, literal, select

from rehost.db import Columns, Connection, Database, now
from rehost.ledger.schema import changes
from rehost.model import Link

_COLUMNS: Columns = {
    "source": Text(),
    "row_key": Text(),
    "position": Integer(),
    "url": Text(),
    "before_url": Text(),
    "after_url": Text(),
}


async def write(
    connection: Connection, database: Database, run: int, written: Iterable[tuple[Link, str | None, str | None]]
) -> None:
    """Remember links whose rows a run has written, with the local URL before and after; what is the same is left out.

    To be called in the transaction that writes the rows; where they are in another database, before it.
    """
    rows = [
        (link.source, link.row_key, link.position, link.url, before, after)
        for link, before, after in written
        if before != after
    ]
    if not rows:
        return
    given = database.given(_COLUMNS, rows)
    query = select(literal(run, BigInteger), *(given.c[name] for name in _COLUMNS), now())
    await connection.execute(insert(changes).from_select(["run", *_COLUMNS, "changed_at"], query))
