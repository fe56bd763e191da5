"""What happened: how each link's last KEPT visits ended, and which run wrote what into which row.

A link's visits lie in a ring of slots, so that nothing has to be deleted and years of visits take no more room than
months. A visit that ended like the one before it increases that one's count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    Text,
    and_,
    case,
    func,
    insert,
    literal,
    select,
    update,
)

from rehost.db import Columns, Connection, Database, now
from rehost.ledger.schema import changes, links, visits
from rehost.model import Deferred, Link, Outcome, Refused, Stored, Unchanged

KEPT = 50  # of one link; a link that fails differently every day is followed for seven weeks

_VISIT: Columns = {"entry": BigInteger(), "outcome": Text(), "reason": Text(), "evidence": Text(), "digest": Text()}
_SAME = ("outcome", "reason", "digest")
_CHANGE: Columns = {
    "source": Text(),
    "row_key": Text(),
    "position": Integer(),
    "url": Text(),
    "before_url": Text(),
    "after_url": Text(),
}

VisitRow = tuple[int, str, str | None, str | None, str | None]
"""A visit as `History.add_visits` takes it: entry, outcome, reason, evidence, digest."""


class End(StrEnum):
    """How a visit ended."""

    HELD = "held"  # a whole picture came
    ADOPTED = "adopted"  # the picture was in the store already; no request was sent
    UNCHANGED = "unchanged"  # the origin said that the held copy is still right
    OVERTAKEN = "overtaken"  # a picture came, but the row held another link by then
    DEFERRED = "deferred"  # no picture, for a cause that passes
    REFUSED = "refused"  # no picture, for a cause that stays; or a held one that proved to be a decoy


@dataclass(frozen=True, slots=True)
class History:
    """Writes the history; `Queries` reads it."""

    database: Database

    async def add_visits(self, connection: Connection, run: int, rows: Sequence[VisitRow]) -> None:
        """Add visits, each of another link, in one statement of the transaction that records their outcomes."""
        if not rows:
            return
        given = self.database.given(_VISIT, rows)
        numbered = (
            select(*(given.c[name] for name in _VISIT), links.c.url, _turn(given).label("turn"))
            .where(links.c.entry == given.c.entry)
            .cte("numbered")
            .prefix_with("MATERIALIZED")
        )
        turn = numbered.c.turn
        query = select(
            *(numbered.c[name] for name in (*_VISIT, "url")),
            turn,
            turn % KEPT,
            literal(run, BigInteger),
            now(),
            now(),
            literal(1),
        ).where(turn > 0)  # SQLite, "Upsert", 2.1: a SELECT needs a WHERE before ON CONFLICT
        adding = self.database.insert(visits).from_select(
            [*_VISIT, "url", "turn", "slot", "run", "first_at", "last_at", "times"], query
        )
        is_again = visits.c.turn == adding.excluded.turn
        await connection.execute(
            adding.on_conflict_do_update(
                index_elements=[visits.c.entry, visits.c.slot],
                set_={
                    **{name: adding.excluded[name] for name in (*_VISIT, "url", "turn", "run", "last_at")},
                    "first_at": case((is_again, visits.c.first_at), else_=adding.excluded.first_at),
                    "times": case((is_again, visits.c.times + 1), else_=1),
                },
            )
        )

    async def mark_overtaken(self, connection: Connection, given: FromClause) -> None:
        """Correct the last visits of these entries from held to overtaken: their rows had changed already.

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

    async def add_changes(
        self, connection: Connection, run: int, written: Iterable[tuple[Link, str | None, str | None]]
    ) -> None:
        """Add what a run wrote into rows, for `rehost undo`: links, with the local URL before and after.

        Pairs of equal URLs are left out. To be called in the transaction that writes the rows or, where they are in
        another database, before it.
        """
        rows = [
            (link.source, link.row_key, link.position, link.url, before, after)
            for link, before, after in written
            if before != after
        ]
        if not rows:
            return
        given = self.database.given(_CHANGE, rows)
        query = select(literal(run, BigInteger), *(given.c[name] for name in _CHANGE), now())
        await connection.execute(insert(changes).from_select(["run", *_CHANGE, "changed_at"], query))


def visit_row(outcome: Outcome, *, is_held: bool) -> VisitRow:
    """Return an outcome as `History.add_visits` takes it; `is_held` if its row points at its copy now."""
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


def _turn(given: FromClause) -> ColumnElement[int]:
    """Return the number of the visit: the last one's if that ended alike, else the next."""
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
