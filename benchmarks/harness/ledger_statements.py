"""Measure each statement of the ledger over many rows, with its own code: a program that prints JSON.

    python ledger_statements.py DATABASE_URL ROWS

The database must be empty. The output has the name and the seconds of each statement, and this process's peak memory
after it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from sqlalchemy import text

from harness.measuring import memory
from rehost.catalogue import Source, TableCatalogue
from rehost.clock import Clock
from rehost.db import Database, Session
from rehost.ledger import Ledger, Worker, migrate
from rehost.ledger.reconcile import FoundFile

HOSTS = 40
SOURCE = "cases"
KEY = "row_key || '/main_image.png'"
HOLD = (
    f"UPDATE rehost_links SET state = 'held', key = {KEY}, size = 400000, held_url = url,"
    f" digest = md5(row_key) || md5(url), local_url = '/static/images/' || {KEY}, held_at = noted_at,"
    " format = 'png', width = 9"
)
POINT = "UPDATE ad_cases SET main_image_local = '/static/images/' || case_id || '/main_image.png'"
CHANGE = "UPDATE ad_cases SET main_image = main_image || '?2' WHERE case_id % {rows} = 0"


async def _vacuum(session: Session) -> None:
    """Vacuum, as autovacuum does in time."""
    await session.connection.execution_options(isolation_level="AUTOCOMMIT")
    await session.connection.exec_driver_sql("VACUUM ANALYZE")


@dataclass
class Measurements:
    """The measurements so far."""

    database: Database
    rows: int
    said: list[tuple[str, float, int]] = field(default_factory=list)

    @contextmanager
    def measured(self, what: str) -> Iterator[None]:
        """Measure the block."""
        started = time.perf_counter()
        yield
        self.said.append((what, time.perf_counter() - started, memory(os.getpid())[0]))

    async def run(self, sql: str) -> None:
        """Run a statement."""
        await self.database.transact(lambda connection: connection.execute(text(sql)))

    async def make_rows(self) -> None:
        """Create the operator's table."""
        await self.run(
            "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url TEXT, title TEXT, main_image TEXT,"
            " main_image_local TEXT)"
        )
        await self.run(
            "INSERT INTO ad_cases SELECT n, 'https://www.example.com/case/' || n, 'A case of number ' || n,"
            f" 'https://host' || (n % {HOSTS}) || '.example.com/upload/20200628/1593336117' || n || '.png', NULL"
            f" FROM generate_series(1, {self.rows}) AS numbers(n)"
        )

    async def hold_all(self) -> None:
        """Mark every link as held, as a long first run leaves it."""
        await self.run(HOLD)
        await self.run(POINT)
        await self.database.hold(_vacuum)

    async def listing(self) -> AsyncIterator[Sequence[FoundFile]]:
        """Yield a store that lists every file."""
        for first in range(1, self.rows + 1, 5000):
            numbers = range(first, min(first + 5000, self.rows + 1))
            yield [FoundFile(str(number), 0, f"{number}/main_image.png") for number in numbers]


async def measure(url: str, rows: int) -> list[tuple[str, float, int]]:
    """Measure all statements."""
    async with Database(url, clock=Clock(), random=Random(1)) as database:
        parts = Measurements(database, rows)
        await parts.make_rows()
        await migrate(database)
        cases = await TableCatalogue.open(database, Source())
        worker = Worker("bench", "here", 1, "bench", "0")
        ledger = Ledger(database, worker, lease_seconds=120.0, url=lambda key, _digest: "/static/images/" + key)
        with parts.measured("record new links"):
            assert (await ledger.sync.take_in(SOURCE, cases.links())).new == rows
        with parts.measured("hosts with due links"):
            hosts = await ledger.leases.hosts(SOURCE)
        with parts.measured("lease 200"):
            assert len(await ledger.leases.lease(SOURCE, hosts[0], 200)) == min(200, rows // HOSTS)
        await parts.hold_all()
        await measure_held(parts, ledger, cases)
    return parts.said


async def measure_held(parts: Measurements, ledger: Ledger, cases: TableCatalogue) -> None:
    """Measure the statements of a later run."""
    with parts.measured("record, nothing new"):
        assert (await ledger.sync.take_in(SOURCE, cases.links())).changed == 0
    with parts.measured("hosts, nothing due"):
        assert not await ledger.leases.hosts(SOURCE)
    with parts.measured("rows without local URL, none"):
        assert not [group async for group in ledger.reconcile.stale_rows(SOURCE, cases.links())]
    with parts.measured("tally"):
        assert (await ledger.due.counts(SOURCE)).held == parts.rows
    with parts.measured("compare with all files listed"):
        assert (await ledger.reconcile.compare(SOURCE, parts.listing)).lost == 0
    await parts.run(CHANGE.format(rows=parts.rows // 100))
    with parts.measured("record, 100 links changed"):
        assert (await ledger.sync.take_in(SOURCE, cases.links())).changed == 100
    await parts.run("UPDATE ad_cases SET main_image_local = NULL")
    with parts.measured("rows without local URL, all"):
        found = [len(group) async for group in ledger.reconcile.stale_rows(SOURCE, cases.links())]
        assert sum(found) == parts.rows - 100


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2])))))
