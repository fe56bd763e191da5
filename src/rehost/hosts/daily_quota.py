"""The daily budget of requests to a host, over all workers and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Integer, Text, literal, select

from rehost.db import Columns, Connection, Database, Moment, seconds_until
from rehost.ledger.schema import budgets

_DAY_SECONDS = 86400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Draw:
    """What a worker wants of a host's daily budget; or, with a number below zero, what it gives back."""

    budget: int  # requests a day, over all workers
    number: int
    day: int = 0  # what is given back was drawn on that day


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a worker may take of a host's daily budget; the day is UTC's, by the database's clock."""

    number: int  # requests; 0 if the budget is used up
    day: int
    seconds: float  # until the day ends


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
