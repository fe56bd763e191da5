"""Every run: who began it, how it ended, what it wrote; and how to take that back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, FromClause, Text, and_, exists, insert, select, update

from rehost.db import Connection, Database, now
from rehost.errors import LedgerError
from rehost.events import RunEnded
from rehost.ledger.schema import changes, links, runs
from rehost.ports import Catalogue, Restore

GROUP = 1000  # rows


@dataclass(frozen=True, slots=True)
class Worker:
    """Who works: one process somewhere."""

    name: str  # unique among all workers there ever were
    host: str
    pid: int
    os_user: str
    version: str  # of rehost


@dataclass(frozen=True, slots=True)
class Undone:
    """What came of undoing a run, in rows."""

    restored: int
    left: int  # somebody has changed them since


@dataclass(frozen=True, slots=True)
class Runs:
    """The journal of runs."""

    database: Database
    worker: Worker

    async def begin(self, source: str, crew: int | None = None) -> int:
        """Record that a run starts, as part of another one or by itself; return its number."""
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

    async def undo(
        self, run: int, catalogue: Catalogue, *, is_there: Callable[[str], bool] = lambda _url: True
    ) -> Undone:
        """Put the column back as it was before a run, row by row where nobody has changed the row since.

        A second time finds nothing left to do. The copies stay, and the next run points the rows at them again. What a
        run cleared (decoys) stays cleared: those copies are in quarantine.

        Args:
            run: its number.
            catalogue: the source that it wrote.
            is_there: tells whether a local URL leads anywhere still; one that does not is put back as nothing, for no
                row may point at a file that is gone (invariant 1).

        Raises:
            LedgerError: there is no such run of this source.
        """
        await self._look_up(run, catalogue.name)
        restored, seen, last = 0, 0, 0
        while group := await self._changes(run, last):
            last = group[-1][0]
            restores = [
                replace(restore, before=None) if restore.before and not is_there(restore.before) else restore
                for _, restore in group
            ]

            async def work(connection: Connection, restores: Sequence[Restore] = restores) -> int:
                return await catalogue.restore(connection, restores)

            restored += await catalogue.transact(work)
            await self._remember(catalogue.name, restores)
            seen += len(group)
        marking = update(runs).values(undone_at=now()).where(runs.c.run == run)
        await self.database.transact(lambda connection: connection.execute(marking))
        return Undone(restored, seen - restored)

    async def _look_up(self, run: int, source: str) -> None:
        query = select(runs.c.source, runs.c.crew).where(runs.c.run == run)

        async def work(connection: Connection) -> tuple[str, int | None] | None:
            row = (await connection.execute(query)).one_or_none()
            return (row.source, row.crew) if row else None

        found = await self.database.read(work)
        if found is None or found[0] != source:
            raise LedgerError(f"There is no run {run} of the source {source}: `rehost status` lists the runs.")
        if found[1] is not None:
            raise LedgerError(f"Run {run} is one process of run {found[1]}: `rehost undo {found[1]}` takes all back.")

    async def _remember(self, source: str, restores: Sequence[Restore]) -> None:
        """Know what the rows of held copies hold now for ours, so that the next run points them at their copies."""
        given = self.database.given(
            {"row_key": Text(), "url": Text(), "before_url": Text(), "after_url": Text()},
            [(each.row_key, each.url, each.before, each.after) for each in restores if each.before is not None],
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

    async def _changes(self, run: int, last: int) -> Sequence[tuple[int, Restore]]:
        """Return the next rows that a run wrote: what they held before its first writing and after its last one."""
        columns, later, first = changes.c, changes.alias("later"), changes.alias("first")
        is_last = ~exists().where(_same_row(later), later.c.change > columns.change)
        before = select(first.c.before_url).where(_same_row(first)).order_by(first.c.change).limit(1).scalar_subquery()
        query = (
            select(columns.change, columns.row_key, columns.url, before, columns.after_url)
            .where(columns.run == run, columns.change > last, is_last, columns.after_url.is_not(None))
            .order_by(columns.change)
            .limit(GROUP)
        )

        async def work(connection: Connection) -> list[tuple[int, Restore]]:
            return [(row[0], Restore(row[1], row[2], row[3], row[4])) for row in await connection.execute(query)]

        return await self.database.read(work)


def _same_row(others: FromClause) -> ColumnElement[bool]:
    """Return the condition that another change is of the same cell and of the same run."""
    return and_(*(others.c[name] == changes.c[name] for name in ("source", "row_key", "position", "run")))
