"""Every run: who began it, how it ended, what it wrote; and how to take that back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import insert, select, update

from rehost.database import Connection, Database, now
from rehost.errors import LedgerError
from rehost.events import RunEnded
from rehost.ledger.schema import changes, runs
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

    async def begin(self, source: str) -> int:
        """Record that a run starts; return its number."""
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
        source = await self.database.read(
            lambda connection: connection.scalar(select(runs.c.source).where(runs.c.run == run))
        )
        if source != catalogue.name:
            raise LedgerError(f"There is no run {run} of the source {catalogue.name}: `rehost status` lists the runs.")
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
            seen += len(group)
        marking = update(runs).values(undone_at=now()).where(runs.c.run == run)
        await self.database.transact(lambda connection: connection.execute(marking))
        return Undone(restored, seen - restored)

    async def _changes(self, run: int, last: int) -> Sequence[tuple[int, Restore]]:
        """Return the next of what a run wrote."""
        columns = changes.c
        query = (
            select(columns.change, columns.row_key, columns.url, columns.before_url, columns.after_url)
            .where(columns.run == run, columns.change > last, columns.after_url.is_not(None))
            .order_by(columns.change)
            .limit(GROUP)
        )

        async def work(connection: Connection) -> list[tuple[int, Restore]]:
            return [(row[0], Restore(row[1], row[2], row[3], row[4])) for row in await connection.execute(query)]

        return await self.database.read(work)
