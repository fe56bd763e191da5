"""What may be asked of an origin over all workers and runs: extra requests while it is learned, and a day's budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Integer, Text, and_, case, literal, or_, select, update

from rehost.db import Columns, Connection, Database, Moment, after, is_over, seconds_until
from rehost.ledger.due import LONGEST_LEASE
from rehost.ledger.schema import budgets, learnings, origins
from rehost.ports import Draw, Drawn, Spending

LEARNING_SECONDS = 30 * 86400.0
"""After so long learning begins anew by itself: decoys that have come up since could not be proven otherwise."""

_DAY_SECONDS = 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Extra:
    """One worker's way to the extra requests of origins."""

    database: Database
    worker: str
    busy_seconds: float

    async def spend(self, connection: Connection, origin: str, most: int, believed: str | None) -> Spending:
        """Take one extra request if fewer than `most` are taken and nobody else learns the origin, or has just done so.

        In three statements, so that each sees what was committed before it: who comes to have the origin to itself
        must know of the rule that the worker before it learned.
        """
        if not await self._have(connection, origin):
            return Spending.ELSEWHERE
        if await connection.scalar(select(origins.c.referer).where(origins.c.origin == origin)) != believed:
            await self.end(connection, origin)
            return Spending.ELSEWHERE
        is_fresh = is_over(learnings.c.fresh_at, LEARNING_SECONDS + _DAY_SECONDS)
        taking = (
            update(learnings)
            .where(learnings.c.origin == origin, or_(is_fresh, learnings.c.extra < most))
            .values(
                extra=case((is_fresh, 1), else_=learnings.c.extra + 1),
                fresh_at=case((is_fresh, after(LEARNING_SECONDS)), else_=learnings.c.fresh_at),
            )
        )
        if (await connection.execute(taking)).rowcount:
            return Spending.GRANTED
        await self.end(connection, origin)
        return Spending.USED_UP

    async def _have(self, connection: Connection, origin: str) -> bool:
        """Have the origin to ourselves; return whether no other worker has it."""
        busy = {"worker": self.worker, "busy_until": after(self.busy_seconds)}
        adding = self.database.insert(learnings).values(
            origin=origin, extra=0, fresh_at=after(LEARNING_SECONDS), **busy
        )
        having = adding.on_conflict_do_update(
            index_elements=[learnings.c.origin],
            set_=busy,
            where=or_(
                learnings.c.worker.is_(None),
                learnings.c.worker == self.worker,
                is_over(learnings.c.busy_until, LONGEST_LEASE),
            ),
        ).returning(learnings.c.origin)
        return (await connection.execute(having)).first() is not None

    async def end(self, connection: Connection, origin: str) -> None:
        """Let the other workers learn the origin again."""
        is_ours = and_(learnings.c.origin == origin, learnings.c.worker == self.worker)
        await connection.execute(update(learnings).where(is_ours).values(worker=None, busy_until=None))

    async def refresh(self, connection: Connection, origin: str, seconds: float) -> None:
        """Have the budget be fresh in so many seconds, if it is not before."""
        is_later = and_(learnings.c.origin == origin, learnings.c.fresh_at > after(seconds))
        await connection.execute(update(learnings).where(is_later).values(fresh_at=after(seconds)))


async def draw(connection: Connection, database: Database, draws: Mapping[str, Draw]) -> Mapping[str, Drawn]:
    """Take parts of daily budgets, half of what is left at most so that other workers find some, or give them back."""
    await database.lock(connection, "budgets")
    since = -float(await connection.scalar(select(seconds_until(literal(_EPOCH, Moment())))) or 0.0)
    day, of_day = int(since // _DAY_SECONDS), since % _DAY_SECONDS
    names = database.given({"host": Text()}, [[host] for host in sorted(draws)])
    rows = await connection.execute(select(budgets).join(names, names.c.host == budgets.c.host))
    taken = {row.host: row.taken for row in rows if row.day == day}
    drawn = {}
    for host, wish in sorted(draws.items()):
        before = taken.get(host, 0)
        if wish.number > 0:
            part = part_of(wish.budget - before, wish.number)
            drawn[host] = Drawn(part, day, _DAY_SECONDS - of_day)
            taken[host] = before + part
        elif wish.day == day:
            taken[host] = max(0, before + wish.number)
    await _write(connection, database, day, {host: taken[host] for host in sorted(draws) if host in taken})
    return drawn


def part_of(left: int, wish: int) -> int:
    """Return how much of what is left of a day's budget one worker may take at once. Pure."""
    return max(0, min(wish, left, (left + 1) // 2))


async def _write(connection: Connection, database: Database, day: int, taken: Mapping[str, int]) -> None:
    if not taken:
        return
    columns: Columns = {"host": Text(), "day": Integer(), "taken": Integer()}
    given = database.given(columns, [(host, day, number) for host, number in taken.items()])
    adding = database.insert(budgets).from_select(
        list(columns),
        select(*(given.c[name] for name in columns)).where(literal(True)),  # noqa: FBT003 - SQLite's parser
    )
    await connection.execute(
        adding.on_conflict_do_update(
            index_elements=[budgets.c.host], set_={"day": adding.excluded.day, "taken": adding.excluded.taken}
        )
    )
