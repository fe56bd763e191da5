"""Runs as they are shown: the processes of one command, each with a record of its own, are one run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, and_, exists, func, not_, select

from rehost.db import is_over
from rehost.ledger.due import LONGEST_LEASE
from rehost.ledger.schema import REASONS, runs, workers
from rehost.ledger.standings import RunReport
from rehost.model import Reason

_SAME = ("source", "host", "pid", "os_user", "version", "started_at", "undone_at")
_SUMS = ("held", "unchanged", "adopted", "failed", "overtaken", "mended", "size")
_IS_ALIVE = and_(
    runs.c.ended_at.is_(None),
    exists().where(workers.c.worker == runs.c.worker, not_(is_over(workers.c.alive_until, LONGEST_LEASE))),
)
_number = func.coalesce(runs.c.crew, runs.c.run)


def runs_query(source: str | None, limit: int, before: int | None) -> Select[*tuple[Any, ...]]:
    """Return the query for the records of the last runs, by run, who began it first."""
    last = select(runs.c.run).where(runs.c.crew.is_(None)).order_by(runs.c.run.desc()).limit(limit)
    if source is not None:
        last = last.where(runs.c.source == source)
    if before is not None:
        last = last.where(runs.c.run < before)
    chosen = last.subquery()
    return (
        select(runs, _IS_ALIVE.label("is_alive"), _number.label("number"))
        .join(chosen, _number == chosen.c.run)
        .order_by(_number.desc(), runs.c.run)
    )


def runs_of(rows: Sequence[Row[*tuple[Any, ...]]]) -> list[RunReport]:
    """Return the runs that these records make up, in their order."""
    records: dict[int, list[Any]] = {}
    for row in rows:
        records.setdefault(row.number, []).append(row)
    return [_run(parts) for parts in records.values()]


def _run(parts: Sequence[Any]) -> RunReport:
    first, working = parts[0], sum(bool(part.is_alive) for part in parts)
    has_ended = all(part.ended_at is not None for part in parts)
    ended_at = max(part.ended_at for part in parts) if has_ended else None
    spans = [part.seconds for part in parts if part.seconds is not None]
    if len(parts) > 1 and ended_at is not None:
        spans = [(ended_at - first.started_at).total_seconds()]
    same: dict[str, Any] = {name: getattr(first, name) for name in _SAME}
    sums: dict[str, Any] = {name: _sum([getattr(part, name) for part in parts]) for name in _SUMS}
    return RunReport(
        **same,
        **sums,
        run=first.run,
        ended_at=ended_at,
        workers=len(parts),
        working=working,
        is_alive=working > 0,
        seconds=max(spans) if has_ended and spans else None,
        interrupted=any(part.interrupted for part in parts) if has_ended else None,
        reasons=_reasons(parts),
    )


def _sum(figures: Sequence[int | None]) -> int | None:
    """Return what is known of a sum; None where nothing is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def _reasons(parts: Sequence[Any]) -> dict[Reason, int]:
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update(json.loads(part.reasons or "{}"))
    return {REASONS[word]: number for word, number in sums.items()}
