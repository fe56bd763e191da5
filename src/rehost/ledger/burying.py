"""Workers that are gone: what they held is anyone's at once, where somebody knows that they are no more.

Otherwise the end of their leases says so. A worker that was taken for dead and lives is fenced like any other that is
late (invariant 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Text, delete, select, update

from rehost.db import Connection, Database, now
from rehost.ledger.schema import learnings, links, shares, workers
from rehost.model import State


async def bury(connection: Connection, database: Database, is_gone: Callable[[str], bool]) -> int:
    """Free the leases and shares of all workers that are gone; return how many links are due again for it."""
    gone = [name for name in await connection.scalars(select(workers.c.worker)) if is_gone(name)]
    return await _free(connection, database, gone) if gone else 0


async def leave(connection: Connection, worker: str) -> None:
    """Take a worker off the list of the living; its shares are free, and the origins that it was learning."""
    for table in (shares, workers):
        await connection.execute(delete(table).where(table.c.worker == worker))
    leaving = update(learnings).where(learnings.c.worker == worker).values(worker=None, busy_until=None)
    await connection.execute(leaving)


async def _free(connection: Connection, database: Database, names: Sequence[str]) -> int:
    given = database.given({"worker": Text()}, [[name] for name in names])
    is_theirs = links.c.worker.in_(select(given.c.worker)) & (links.c.state == State.LEASED.value)
    freeing = update(links).where(is_theirs).values(state=State.WANTED.value, due_at=now()).returning(links.c.entry)
    freed = len(list(await connection.scalars(freeing)))
    for name in names:
        await leave(connection, name)
    return freed
