"""Runs: which worker began each, how it ended, and what it wrote, for `rehost undo` and for the list of runs.

The processes of one command are one run: each has a row of its own, and names the first one's run as its `crew`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, FromClause, Text, and_, exists, insert, select, update

from rehost.db import Connection, Database, now
from rehost.errors import LedgerError
from rehost.events import RunEnded
from rehost.ledger.schema import changes, links, runs


@dataclass(frozen=True, slots=True)
class Worker:
    """One process on one machine."""

    name: str  # unique among all workers there ever were
    host: str
    pid: int
    os_user: str
    version: str  # of rehost


@dataclass(frozen=True, slots=True)
class RowChange:
    """What a run made of one row's cell: its content before the run's first writing and after its last."""

    number: int  # grows from change to change
    row_key: str
    url: str  # the link that the row held
    before: str | None  # local URL
    after: str | None


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of this worker, and what any run wrote."""

    database: Database
    worker: Worker

    async def begin(self, source: str, crew: int | None = None) -> int:
        """Record that a run starts, by itself or as part of the run `crew`; return its number."""
        worker = self.worker
        adding = (
            insert(runs)
            .values(
                source=source,
                worker=worker.name,
                host=worker.host,
                pid=worker.pid,
                os_user=worker.os_user,
                version=worker.version,
                started_at=now(),
                crew=crew,
            )
            .returning(runs.c.run)
        )

        async def work(connection: Connection) -> int:
            return int((await connection.execute(adding)).scalar_one())

        return await self.database.transact(work)

    async def end(self, run: int, ended: RunEnded) -> None:
        """Record how a run ended."""
        ending = (
            update(runs)
            .values(
                ended_at=now(),
                held=ended.held,
                unchanged=ended.unchanged,
                adopted=ended.adopted,
                failed=sum(ended.failed.values()),
                overtaken=ended.overtaken,
                size=ended.size,
                seconds=ended.seconds,
                interrupted=ended.interrupted,
                mended=ended.mended,
                reasons=json.dumps({reason.value: number for reason, number in sorted(ended.failed.items())}),
            )
            .where(runs.c.run == run)
        )
        await self.database.transact(lambda connection: connection.execute(ending))

    async def check(self, run: int, source: str) -> None:
        """Make sure that this is a run of the source, and not one process of a run.

        Raises:
            LedgerError: it is not.
        """
        query = select(runs.c.source, runs.c.crew).where(runs.c.run == run)

        async def work(connection: Connection) -> tuple[str, int | None] | None:
            row = (await connection.execute(query)).one_or_none()
            return (row.source, row.crew) if row else None

        found = await self.database.read(work)
        if found is None or found[0] != source:
            raise LedgerError(f"There is no run {run} of the source {source}: `rehost status` lists the runs.")
        if found[1] is not None:
            raise LedgerError(f"Run {run} is one process of run {found[1]}: `rehost undo {found[1]}` undoes all of it.")

    async def changes(self, run: int, after: int, limit: int = 1000) -> Sequence[RowChange]:
        """Return the next rows that a run wrote, in the order of their last writing, after the change number `after`.

        Rows that the run cleared (decoys) are left out.
        """
        columns, later, first = changes.c, changes.alias("later"), changes.alias("first")
        is_last = ~exists().where(_same_row(later), later.c.change > columns.change)
        before = select(first.c.before_url).where(_same_row(first)).order_by(first.c.change).limit(1).scalar_subquery()
        query = (
            select(columns.change, columns.row_key, columns.url, before, columns.after_url)
            .where(columns.run == run, columns.change > after, is_last, columns.after_url.is_not(None))
            .order_by(columns.change)
            .limit(limit)
        )

        async def work(connection: Connection) -> list[RowChange]:
            return [RowChange(*row) for row in await connection.execute(query)]

        return await self.database.read(work)

    async def mark_restored(self, source: str, restored: Sequence[RowChange]) -> None:
        """Remember what restored rows hold now as ours, so that the next run points them at their copies again."""
        given = self.database.given(
            {"row_key": Text(), "url": Text(), "before_url": Text(), "after_url": Text()},
            [(each.row_key, each.url, each.before, each.after) for each in restored if each.before is not None],
        )
        remembering = (
            update(links)
            .values(local_url=given.c.before_url)
            .where(
                links.c.source == source,
                links.c.row_key == given.c.row_key,
                links.c.url == given.c.url,
                links.c.local_url == given.c.after_url,
            )
        )
        await self.database.transact(lambda connection: connection.execute(remembering))

    async def mark_undone(self, run: int) -> None:
        """Record that a run was undone."""
        marking = update(runs).values(undone_at=now()).where(runs.c.run == run)
        await self.database.transact(lambda connection: connection.execute(marking))


def _same_row(others: FromClause) -> ColumnElement[bool]:
    """Return the condition that another change is of the same cell and of the same run."""
    return and_(*(others.c[name] == changes.c[name] for name in ("source", "row_key", "position", "run")))
