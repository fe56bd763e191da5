"""Lessor: one link, one worker, until the lease ends by the database's clock (invariant 4).

Every lease raises the entry's fence; whoever comes with an older one is refused. On PostgreSQL claimers step over each
other's rows (SKIP LOCKED); on SQLite they come one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, select, update

from rehost.db import Connection, Database, after, now
from rehost.ledger.due import is_due, is_place
from rehost.ledger.schema import links, workers
from rehost.model import Copy, Link, State, Task, Validator

# What a task is made of.
_TASK = [
    *(links.c.entry, links.c.fence, links.c.host, links.c.attempts),
    *(links.c.source, links.c.row_key, links.c.position, links.c.url, links.c.page_url, links.c.local_url),
    *(links.c.key, links.c.digest, links.c.size, links.c.found, links.c.pending_digest, links.c.pending_url),
    *(links.c.held_url, links.c.etag, links.c.last_modified),
]


@dataclass(frozen=True, slots=True)
class LeaseManager:
    """Lessor of one worker."""

    database: Database
    worker: str
    seconds: float

    async def lease(self, source: str, host: str, limit: int) -> Sequence[Task]:
        """Lease up to `limit` due links of one host, those that have been due for longest first."""
        is_theirs = (links.c.source == source) & (links.c.host == host)
        return await self._lease(select(links.c.entry).where(is_theirs).order_by(links.c.due_at).limit(limit))

    async def lease_one(self, source: str, row_key: str, position: int) -> Task | None:
        """Lease this one link, if it is due and nobody else has it."""
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

        # Whoever holds a lease is on the list of workers in the same moment, so that `bury` finds what it held.
        living = self.database.insert(workers).values(worker=self.worker, alive_until=after(self.seconds))

        async def work(connection: Connection) -> list[Task]:
            tasks = [_task(row) for row in await connection.execute(leasing)]
            if tasks:
                await connection.execute(living.on_conflict_do_nothing())
            return tasks

        return await self.database.transact(work)

    async def renew(self, tasks: Sequence[Task]) -> None:
        """Move the end of these leases on, where they are still ours."""
        if tasks:
            given = self._given(tasks)
            renewing = update(links).values(due_at=after(self.seconds)).where(_is_ours(given))
            await self.database.transact(lambda connection: connection.execute(renewing))

    async def release(self, tasks: Sequence[Task]) -> None:
        """Give these leases back unvisited, where they are still ours."""
        if tasks:
            given = self._given(tasks)
            releasing = (
                update(links)
                .values(state=State.WANTED.value, due_at=now(), attempts=links.c.attempts - 1)
                .where(_is_ours(given))
            )
            await self.database.transact(lambda connection: connection.execute(releasing))

    async def confirm(self, connection: Connection, tasks: Sequence[Task]) -> set[int]:
        """Lock these entries; return the numbers of those whose lease nobody has taken over, ended or not."""
        if not tasks:
            return set()
        given = self._given(tasks)
        confirming = (
            select(links.c.entry).join(given, _is_ours(given)).order_by(links.c.entry).with_for_update(of=links)
        )
        return set(await connection.scalars(confirming))

    def _given(self, tasks: Sequence[Task]) -> FromClause:
        return self.database.given(
            {"entry": BigInteger(), "fence": BigInteger()}, [(task.entry, task.fence) for task in tasks]
        )


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
