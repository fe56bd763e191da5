"""Leases: one link, one worker, until the lease ends by the database's clock (invariant 4).

Every lease raises the entry's fence; a worker that comes with an older fence is refused. On PostgreSQL workers skip
each other's locked rows (SKIP LOCKED); on SQLite their transactions run one after the other.

The leases of a dead worker end by themselves. Where its death is certain, `release_dead_workers` ends them at once; a
worker taken for dead that is alive is fenced like any other that is late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, Text, delete, select, update

from rehost.db import Connection, Database, after, now
from rehost.ledger.due import is_due, is_place
from rehost.ledger.schema import learnings, links, shares, workers
from rehost.model import Copy, Link, State, Task, Validator

# The columns that make a task.
_TASK = [
    *(links.c.entry, links.c.fence, links.c.host, links.c.attempts),
    *(links.c.source, links.c.row_key, links.c.position, links.c.url, links.c.page_url, links.c.local_url),
    *(links.c.key, links.c.digest, links.c.size, links.c.found, links.c.pending_digest, links.c.pending_url),
    *(links.c.held_url, links.c.etag, links.c.last_modified),
]


@dataclass(frozen=True, slots=True)
class LeaseManager:
    """Leases of one worker."""

    database: Database
    worker: str
    seconds: float

    async def lease(self, source: str, host: str, limit: int) -> Sequence[Task]:
        """Lease up to `limit` due links of one host, those due longest first; links whose lease ended are due too."""
        is_theirs = (links.c.source == source) & (links.c.host == host)
        return await self._lease(select(links.c.entry).where(is_theirs).order_by(links.c.due_at).limit(limit))

    async def lease_one(self, source: str, row_key: str, position: int) -> Task | None:
        """Lease this one link if it is due and no other worker holds it."""
        tasks = await self._lease(select(links.c.entry).where(is_place(source, row_key, position)))
        return tasks[0] if tasks else None

    async def _lease(self, entries: Select[*tuple[Any, ...]]) -> Sequence[Task]:
        """Lease those of these entries that are due."""
        due = entries.where(is_due(links)).with_for_update(skip_locked=True).cte("due")
        leasing = (
            update(links)
            .values(
                state=State.LEASED.value,
                worker=self.worker,
                fence=links.c.fence + 1,
                attempts=links.c.attempts + 1,
                due_at=after(self.seconds),
            )
            .where(links.c.entry.in_(select(due.c.entry)))
            .returning(*_TASK)
        )

        # A worker is listed from its first lease on, so that `release_dead_workers` finds what it held.
        listing = self.database.insert(workers).values(worker=self.worker, alive_until=after(self.seconds))

        async def work(connection: Connection) -> list[Task]:
            tasks = [_task(row) for row in await connection.execute(leasing)]
            if tasks:
                await connection.execute(listing.on_conflict_do_nothing())
            return tasks

        return await self.database.transact(work)

    async def renew(self, tasks: Sequence[Task]) -> None:
        """Extend these leases where they are still ours."""
        if tasks:
            given = self._given(tasks)
            renewing = update(links).values(due_at=after(self.seconds)).where(_is_ours(given))
            await self.database.transact(lambda connection: connection.execute(renewing))

    async def release(self, tasks: Sequence[Task]) -> None:
        """Give these leases back unvisited where they are still ours."""
        if tasks:
            given = self._given(tasks)
            releasing = (
                update(links)
                .values(state=State.WANTED.value, due_at=now(), attempts=links.c.attempts - 1)
                .where(_is_ours(given))
            )
            await self.database.transact(lambda connection: connection.execute(releasing))

    async def confirm(self, connection: Connection, tasks: Sequence[Task]) -> set[int]:
        """Lock these entries until the transaction ends; return the numbers of those whose lease is still ours."""
        if not tasks:
            return set()
        given = self._given(tasks)
        confirming = (
            select(links.c.entry).join(given, _is_ours(given)).order_by(links.c.entry).with_for_update(of=links)
        )
        return set(await connection.scalars(confirming))

    async def release_dead_workers(self, is_dead: Callable[[str], bool]) -> int:
        """Free the leases and shares of all workers for which `is_dead` is true; return how many links that were."""

        async def work(connection: Connection) -> int:
            dead = [name for name in await connection.scalars(select(workers.c.worker)) if is_dead(name)]
            return await self._release_workers(connection, dead) if dead else 0

        return await self.database.transact(work, slow=True)

    async def _release_workers(self, connection: Connection, names: Sequence[str]) -> int:
        given = self.database.given({"worker": Text()}, [[name] for name in names])
        is_theirs = links.c.worker.in_(select(given.c.worker)) & (links.c.state == State.LEASED.value)
        freeing = update(links).where(is_theirs).values(state=State.WANTED.value, due_at=now()).returning(links.c.entry)
        freed = len(list(await connection.scalars(freeing)))
        for name in names:
            await remove_worker(connection, name)
        return freed

    def _given(self, tasks: Sequence[Task]) -> FromClause:
        return self.database.given(
            {"entry": BigInteger(), "fence": BigInteger()}, [(task.entry, task.fence) for task in tasks]
        )


async def remove_worker(connection: Connection, worker: str) -> None:
    """Remove a worker from the list of the living, with its shares of hosts and the origins it was learning."""
    for table in (shares, workers):
        await connection.execute(delete(table).where(table.c.worker == worker))
    leaving = update(learnings).where(learnings.c.worker == worker).values(worker=None, busy_until=None)
    await connection.execute(leaving)


def _is_ours(given: FromClause) -> ColumnElement[bool]:
    return (links.c.entry == given.c.entry) & (links.c.fence == given.c.fence) & (links.c.state == State.LEASED.value)


def _task(row: Any) -> Task:  # noqa: ANN401 - a row of `links`
    is_pending = row.pending_digest is not None and row.pending_url == row.url and row.key is not None
    has_validator = row.key is not None and row.held_url == row.url and (row.etag or row.last_modified)
    return Task(
        entry=row.entry,
        fence=row.fence,
        link=Link(row.source, row.row_key, row.position, row.url, row.page_url, row.local_url),
        host=row.host,
        attempt=row.attempts,
        validator=Validator(row.etag, row.last_modified) if has_validator else None,
        copy=Copy(row.key, row.digest, row.size) if row.key is not None else None,
        found=row.key if is_pending else row.found,
        pending=row.pending_digest if is_pending else None,
    )
