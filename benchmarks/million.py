"""A million rows: what noting them costs, what finding 100 changes costs, and a run that has nothing to do.

The peak is this process's memory, Python and SQLAlchemy included.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from random import Random

from sqlalchemy import text

from arena import catalogue, place
from rehost.catalogue import Source, TableCatalogue
from rehost.clock import SystemClock
from rehost.database import Database
from rehost.ledger import SqlLedger, Worker, migrate
from rehost.ports import Found

HOSTS = 40


@contextmanager
def measured(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what:<58} {time.perf_counter() - started:8.2f} s   peak {peak} MiB", flush=True)


async def listing(rows: int) -> AsyncIterator[Sequence[Found]]:
    for first in range(1, rows + 1, 5000):
        yield [
            Found(str(number), 0, f"{number}/main_image.png") for number in range(first, min(first + 5000, rows + 1))
        ]


async def run(database: Database, sql: str) -> None:
    await database.transact(lambda connection: connection.execute(text(sql)))


async def make_rows(database: Database, rows: int) -> None:
    await run(
        database,
        "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url TEXT, title TEXT, main_image TEXT,"
        " main_image_local TEXT)",
    )
    numbers = (
        f"generate_series(1, {rows}) AS numbers(n)"
        if not database.is_sqlite
        else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c)"
    )
    await run(
        database,
        "INSERT INTO ad_cases SELECT n, 'https://www.example.com/case/' || n, 'A case of number ' || n,"
        f" 'https://host' || (n % {HOSTS}) || '.example.com/upload/20200628/1593336117' || n || '.png', NULL"
        f" FROM {numbers}",
    )


async def hold_all(database: Database) -> None:
    """Make every link held, as a long first run leaves it."""
    digest = (
        "'0123456789abcdef0123456789abcdef0123456789abcdef' || substr('0000000000000000' || row_key, -16)"
        if database.is_sqlite
        else "md5(row_key) || md5(url)"
    )
    await run(
        database,
        "UPDATE rehost_links SET state = 'held', key = row_key || '/main_image.png', size = 400000, held_url = url,"
        f" digest = {digest}, local_url = '/static/images/' || row_key || '/main_image.png', held_at = noted_at,"
        " format = 'png', width = 9",
    )
    await run(database, "UPDATE ad_cases SET main_image_local = '/static/images/' || case_id || '/main_image.png'")
    if not database.is_sqlite:  # what autovacuum does by and by
        async with database.session() as session:
            await session.connection.execution_options(isolation_level="AUTOCOMMIT")
            await session.connection.exec_driver_sql("VACUUM ANALYZE")


async def measure(url: str, rows: int) -> None:
    async with Database(url, clock=SystemClock(), random=Random(1)) as database:
        await make_rows(database, rows)
        await migrate(database)
        cases = await TableCatalogue.open(database, Source())
        worker = Worker("bench", "here", 1, "bench", "0")
        ledger = SqlLedger(database, worker=worker, lease_seconds=120.0, url=lambda key: "/static/images/" + key)
        with measured(f"note {rows} new links"):
            print(await ledger.note("cases", cases.links()))
        with measured("hosts with due links"):
            assert len(await ledger.hosts("cases")) == HOSTS
        with measured("lease 200"):
            assert len(await ledger.lease("cases", "host7.example.com", 200)) == 200
        await hold_all(database)
        with measured("nothing to do: note + hosts + unpointed + tally"):
            with measured("  note"):
                print(await ledger.note("cases", cases.links()))
            with measured("  hosts"):
                print(await ledger.hosts("cases"))
            with measured("  unpointed"):
                print([len(group) async for group in ledger.unpointed("cases", cases.links())])
            with measured("  tally"):
                print(await ledger.tally("cases"))
        with measured(f"compare with {rows} listed files"):
            print(await ledger.compare("cases", listing(rows)))
        await run(database, f"UPDATE ad_cases SET main_image = main_image || '?2' WHERE case_id % {rows // 100} = 0")
        with measured("find 100 changed links"):
            print(await ledger.note("cases", cases.links()))
        await run(database, "UPDATE ad_cases SET main_image_local = NULL")
        with measured("find all rows cleared (unpointed, nothing written)"):
            print(sum([len(group) async for group in ledger.unpointed("cases", cases.links())]))


def main() -> None:
    """Measure once."""
    parser = place.options(__doc__ or "")
    parser.add_argument("--sqlite", action="store_true", help="on SQLite, in place of PostgreSQL")
    arguments = parser.parse_args()
    rows = round(1_000_000 * arguments.scale)
    with place.workplace(arguments.folder, 3000 * rows) as ground:
        if arguments.sqlite:
            asyncio.run(measure(f"sqlite:///{ground}/bench.db", rows))
        else:
            with catalogue.postgresql() as server:
                asyncio.run(measure(server.url(), rows))


if __name__ == "__main__":
    main()
