"""Databases of both kinds for tests that must hold on either, and an operator's table in them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from rehost.catalogue import Source, TableCatalogue
from rehost.catalogue.table import WriteBack
from rehost.clock import Clock
from rehost.db import Database
from rehost.ledger import Ledger, Worker, migrate
from rehost.ledger.reconcile import FoundFile
from rehost.model import Copy, Format, Image, Stored, Task

PREFIX = "/static/images/"
CASES = """CREATE TABLE ad_cases (
    case_id INTEGER PRIMARY KEY, source_url TEXT NOT NULL, title TEXT NOT NULL, main_image TEXT, main_image_local TEXT
)"""
IMAGE = Image(Format.PNG, 4, 3, 1)


class _CompiledStatements:
    """What SQLAlchemy has compiled for all engines: without this, every test compiles its statements again."""

    def __init__(self) -> None:
        self._kept: dict[object, object] = {}

    def get(self, key: tuple[Any, ...]) -> object | None:
        return self._kept.get(self._key(key))

    def __setitem__(self, key: tuple[Any, ...], compiled: object) -> None:
        self._kept[self._key(key)] = compiled

    def _key(self, key: tuple[Any, ...]) -> object:
        dialect, *others = key
        return (type(dialect), dialect.server_version_info, dialect.paramstyle, *others)


_COMPILED = _CompiledStatements()
Engine._compiled_cache = property(lambda _engine: _COMPILED, lambda _engine, _own: None)


@pytest.fixture(params=["postgresql", "sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database: empty, or with the tables of the fixture `database`."""
    if request.param == "sqlite":
        if "database" in request.fixturenames:
            (tmp_path / "test.db").write_bytes(_sqlite_template())
        return f"sqlite:///{tmp_path}/test.db"
    server = request.getfixturevalue("postgres")
    return server.url(request.getfixturevalue("postgres_database"))


def open_database(url: str, **options: float) -> Database:
    return Database(url, clock=Clock(), random=Random(1), **options)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database with the operator's table and ours, both empty."""
    async with open_database(database_url) as opened:
        yield opened


def make_tables(url: str) -> None:
    """Make the operator's table and ours in an empty database."""

    async def make() -> None:
        async with open_database(url) as opened:
            await execute(opened, CASES)
            await migrate(opened)

    with ThreadPoolExecutor() as pool:  # a thread of its own has an event loop of its own
        pool.submit(asyncio.run, make()).result()


@cache
def _sqlite_template() -> bytes:
    """Return a database file with these tables."""
    with tempfile.TemporaryDirectory() as folder:
        make_tables(f"sqlite:///{folder}/tables.db")
        return Path(folder, "tables.db").read_bytes()


async def execute(database: Database, sql: str, **values: object) -> list[tuple[object, ...]]:
    async def work(connection):
        result = await connection.execute(text(sql).bindparams(**values))
        return [tuple(row) for row in result] if result.returns_rows else []

    return await database.transact(work)


@contextmanager
def counted_buffers(table: str = "rehost_links") -> Iterator[list[int]]:
    """Yield a list that gets, for each statement with this table, the buffers that PostgreSQL reads for it.

    Each statement runs twice, the first time for EXPLAIN, in a savepoint that is rolled back.
    """
    counted: list[int] = []

    def explain(_connection, cursor, statement, parameters, _context, _executemany):
        if table not in statement:
            return
        cursor.execute("SAVEPOINT explained", ())
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        ((plan,),) = cursor.fetchall()
        cursor.execute("ROLLBACK TO SAVEPOINT explained", ())
        node = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
        counted.append(node["Shared Hit Blocks"] + node["Shared Read Blocks"])

    event.listen(Engine, "before_cursor_execute", explain)
    try:
        yield counted
    finally:
        event.remove(Engine, "before_cursor_execute", explain)


@asynccontextmanager
async def open_transaction(
    url: str, *statements: str, isolation: str = "READ COMMITTED", commits: bool = True
) -> AsyncIterator[None]:
    """Another program's transaction on PostgreSQL, which ends with the block."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level=isolation)
            for statement in statements:
                await connection.exec_driver_sql(statement)
            yield
            await (connection.commit() if commits else connection.rollback())
    finally:
        await engine.dispose()


async def put_ahead(database: Database, table: str, column: str) -> None:
    """Have a column's instants written by a clock that was 400 days ahead."""
    days = "400 * 86400" if database.is_sqlite else "interval '400 days'"
    await execute(database, f"UPDATE {table} SET {column} = {column} + {days}")


async def add_cases(database: Database, links: Sequence[str | None], first: int = 1) -> None:
    for number, link in enumerate(links, first):
        await execute(
            database,
            "INSERT INTO ad_cases VALUES (:id, :page, 'title', CAST(:link AS TEXT), NULL)",
            id=number,
            page=f"https://www.example.com/{number}",
            link=link,
        )


def url_of(key: str, _digest: str = "") -> str:
    return PREFIX + key


def make_ledger(
    database: Database, name: str = "worker", lease_seconds: float = 120.0, url: Callable[[str, str], str] = url_of
) -> Ledger:
    worker = Worker(name, "machine", 1, "operator", "0.0.0")
    return Ledger(database, worker, lease_seconds=lease_seconds, url=url)


def stored(task: Task, digest: str = "d" * 64, extension: str = "png", image: Image = IMAGE) -> Stored:
    key = f"{task.link.row_key}/main_image.{extension}"
    return Stored(task, Copy(key, digest, 5), image, spool=None, final_url=task.link.url)


@dataclass
class Peer:
    """One worker's catalogue and ledger, and the steps that a run makes of them."""

    database: Database
    catalogue: TableCatalogue
    ledger: Ledger

    async def note(self):
        return await self.ledger.sync.take_in("cases", self.catalogue.links())

    async def lease_all(self, limit: int = 1000) -> list[Task]:
        leased = [
            task
            for host in await self.ledger.leases.hosts("cases")
            for task in await self.ledger.leases.lease("cases", host, limit)
        ]
        return [*leased, *await self.ledger.leases.lease_suspects("cases")]

    async def record(self, run: int, outcomes) -> set[int]:
        async def work(transaction):
            ours = await self.ledger.leases.confirm(transaction, [outcome.task for outcome in outcomes])
            confirmed = [outcome for outcome in outcomes if outcome.task.entry in ours]
            changes = [
                WriteBack(outcome.task.link, url_of(outcome.copy.key))
                for outcome in confirmed
                if isinstance(outcome, Stored)
            ]
            written = await self.catalogue.write_back(changes, transaction)
            await self.ledger.results.record(transaction, run, confirmed, written.before, written.refused)
            return ours

        return await self.ledger.database.transact(work)

    async def hold_all(self, run: int = 1) -> list[Task]:
        tasks = await self.lease_all()
        await self.record(run, [stored(task) for task in tasks])
        return tasks

    async def compare(self, keys: Sequence[str], **options):
        async def listing():
            yield [FoundFile(key.split("/")[0], 0, key) for key in keys]

        return await self.ledger.reconcile.compare("cases", listing, **options)

    async def stale_rows(self):
        """Return what a run would mend: it looks for stale rows only if its sync says that there may be some."""
        if not (await self.note()).unpointed:
            return []
        groups = [group async for group in self.ledger.reconcile.stale_rows("cases", self.catalogue.links())]
        return [pair for group in groups for pair in group]

    async def point(self, run: int, pairs) -> int:
        """Point rows at the copies that are still held; return how many."""

        async def work(transaction):
            held = dict(await self.ledger.reconcile.lock_held(transaction, pairs))
            changes = [WriteBack(link, url_of(copy.key)) for link, copy in held.items()]
            before = (await self.catalogue.write_back(changes, transaction)).before
            rows = [(link, value, url_of(held[link].key)) for link, value in before.items()]
            await self.ledger.history.add_changes(transaction, run, rows)
            if before:
                await self.ledger.reconcile.mark_pointed(transaction, [(link, held[link]) for link in before])
            return len(before)

        return await self.ledger.database.transact(work)

    async def locals(self) -> dict[object, object]:
        return dict(await execute(self.database, "SELECT case_id, main_image_local FROM ad_cases ORDER BY case_id"))


async def open_peer(database: Database, name: str = "worker", lease_seconds: float = 120.0) -> Peer:
    return Peer(database, await TableCatalogue.open(database, Source()), make_ledger(database, name, lease_seconds))


@asynccontextmanager
async def another_peer(url: str, name: str, lease_seconds: float = 120.0) -> AsyncIterator[Peer]:
    """A worker with connections of its own, as another process would have."""
    async with open_database(url) as database:
        yield await open_peer(database, name, lease_seconds)


@pytest.fixture
async def peer(database: Database) -> Peer:
    """A worker whose ledger is in the catalogue's database."""
    return await open_peer(database)


@pytest.fixture
async def apart(database: Database, tmp_path: Path) -> AsyncIterator[Peer]:
    """A worker whose ledger is in a database of its own."""
    async with open_database(f"sqlite:///{tmp_path}/ledger.db") as own:
        await migrate(own)
        catalogue = await TableCatalogue.open(database, Source(), is_joint=False)
        yield Peer(database, catalogue, make_ledger(own))


@pytest.fixture(params=["joint", "apart"])
def either(request: pytest.FixtureRequest, peer: Peer, apart: Peer) -> Peer:
    """A worker whose ledger is in the catalogue's database, or in one of its own."""
    return peer if request.param == "joint" else apart


async def hold_apart(apart: Peer, *, write: bool) -> None:
    """Record all due links as held in a ledger of its own and, if `write`, write their rows."""
    tasks = await apart.lease_all()
    outcomes = [stored(task) for task in tasks]
    written = {task.link: task.link.local_url for task in tasks}
    results = apart.ledger.results
    await apart.ledger.database.transact(lambda transaction: results.record(transaction, 1, outcomes, written))
    if write:
        await apart.catalogue.write_back([WriteBack(each.task.link, url_of(each.copy.key)) for each in outcomes])


async def execute_in_ledger(apart: Peer, sql: str) -> list[tuple[object, ...]]:
    """Return the rows of a query in the ledger's own database."""

    async def work(connection):
        return [tuple(row) for row in await connection.execute(text(sql))]

    return await apart.ledger.database.transact(work)
