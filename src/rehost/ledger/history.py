"""What came of each link's visits: the last KEPT of them, in order.

A link's visits lie in a ring of slots, so that nothing has ever to be thrown away and years of visits take no more room
than months. A visit that ended as the one before it did is counted there.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, FromClause, Text, and_, case, func, literal, select, update

from rehost.db import Columns, Connection, Database, now
from rehost.ledger.schema import links, visits
from rehost.ledger.standings import End
from rehost.model import Deferred, Outcome, Refused, Stored, Unchanged

KEPT = 50  # of one link; a link that fails differently every day is followed for seven weeks

_COLUMNS: Columns = {"entry": BigInteger(), "outcome": Text(), "reason": Text(), "evidence": Text(), "digest": Text()}
_SAME = ("outcome", "reason", "digest")
Row = tuple[int, str, str | None, str | None, str | None]


def rows_of(outcomes: Sequence[Outcome], held: Sequence[Stored]) -> list[Row]:
    """Return outcomes as `write` takes them.

    Args:
        outcomes: all of a group.
        held: those of them whose rows point at their copies now.
    """
    entries = {outcome.task.entry for outcome in held}
    return [_row(outcome, is_held=outcome.task.entry in entries) for outcome in outcomes]


def _row(outcome: Outcome, *, is_held: bool) -> Row:
    entry = outcome.task.entry
    match outcome:
        case Stored(copy=copy, final_url=final_url):
            end = End.OVERTAKEN if not is_held else End.ADOPTED if final_url is None else End.HELD
            return entry, end.value, None, None, copy.digest
        case Unchanged(task=task):
            return entry, End.UNCHANGED.value, None, None, task.copy.digest if task.copy else None
        case Deferred(reason=reason, evidence=evidence):
            return entry, End.DEFERRED.value, reason.value, evidence, None
        case Refused(reason=reason, evidence=evidence):
            return entry, End.REFUSED.value, reason.value, evidence, None


async def write(connection: Connection, database: Database, run: int, rows: Sequence[Row]) -> None:
    """Remember what came of visits, each of another link, in one statement of the transaction that settles them."""
    if not rows:
        return
    given = database.given(_COLUMNS, rows)
    numbered = (
        select(*(given.c[name] for name in _COLUMNS), links.c.url, _number(given).label("turn"))
        .where(links.c.entry == given.c.entry)
        .cte("numbered")
        .prefix_with("MATERIALIZED")
    )
    turn = numbered.c.turn
    query = select(
        *(numbered.c[name] for name in (*_COLUMNS, "url")),
        turn,
        turn % KEPT,
        literal(run, BigInteger),
        now(),
        now(),
        literal(1),
    ).where(turn > 0)  # SQLite, "Upsert", 2.1: a SELECT needs a WHERE before ON CONFLICT
    adding = database.insert(visits).from_select(
        [*_COLUMNS, "url", "turn", "slot", "run", "first_at", "last_at", "times"], query
    )
    is_again = visits.c.turn == adding.excluded.turn
    await connection.execute(
        adding.on_conflict_do_update(
            index_elements=[visits.c.entry, visits.c.slot],
            set_={
                **{name: adding.excluded[name] for name in (*_COLUMNS, "url", "turn", "run", "last_at")},
                "first_at": case((is_again, visits.c.first_at), else_=adding.excluded.first_at),
                "times": case((is_again, visits.c.times + 1), else_=1),
            },
        )
    )


def _number(given: FromClause) -> ColumnElement[int]:
    """Return the number of the visit: the last one's where that ended alike, else the next."""
    last = visits.alias("last")
    is_alike = and_(last.c.url == links.c.url, *(last.c[name].is_not_distinct_from(given.c[name]) for name in _SAME))
    turn = (
        select(case((is_alike, last.c.turn), else_=last.c.turn + 1))
        .where(last.c.entry == given.c.entry)
        .order_by(last.c.turn.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.coalesce(turn, 1)


async def overtake(connection: Connection, given: FromClause) -> None:
    """Call the last visits of these entries overtaken that are called held: their rows had changed already.

    Args:
        connection: with an open transaction.
        given: entries, with the digests (`ours`) that were recorded.
    """
    later = visits.alias("later")
    last = select(func.max(later.c.turn)).where(later.c.entry == visits.c.entry).scalar_subquery()
    await connection.execute(
        update(visits)
        .values(outcome=End.OVERTAKEN.value)
        .where(
            visits.c.entry == given.c.entry,
            visits.c.turn == last,
            visits.c.digest == given.c.ours,
            visits.c.outcome.in_((End.HELD.value, End.ADOPTED.value)),
        )
    )
