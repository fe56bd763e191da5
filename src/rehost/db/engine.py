"""Transactions on PostgreSQL and SQLite that survive a short outage of the database.

SQLAlchemy silently omits SKIP LOCKED on SQLite: there a transaction that writes takes the one write lock at its start
(BEGIN IMMEDIATE), and readers go on beside it (WAL).

For large amounts of rows there are temporary tables, bulk loading, and statistics for the query planner.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    MetaData,
    Row,
    Select,
    Table,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import BigInteger, TypeEngine

from rehost.clock import Clock
from rehost.db.dialects import (
    ANSWER_SECONDS,
    BEGIN,
    BUSY_SECONDS,
    Engines,
    check_file,
    identity_of,
    is_missing,
    make_engines,
    with_driver,
    without_orm,
)
from rehost.db.errors import (
    STARTING_UP,
    OtherDatabase,
    OutageRetry,
    Place,
    code_of,
    is_database_error,
    is_locked,
    is_transient,
    operator_error,
)
from rehost.errors import CatalogueError, LedgerError, OperatorError

with without_orm():
    from sqlalchemy.ext.asyncio.engine import AsyncConnection

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

    from rehost.events import Listener

T = TypeVar("T")

Connection = AsyncConnection
Work = Callable[[AsyncConnection], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class LinkRows:
    """The operator's links as a selectable: columns row_key, position, url, page_url, local_url, host."""

    database: Database
    select: Select[*tuple[Any, ...]]


Columns = Mapping[str, TypeEngine[Any]]
"""Names and types of the columns of `Database.given`, in order."""

_STREAMED_ROWS = 500  # of one group


@dataclass(frozen=True, slots=True)
class Session:
    """One connection, for several transactions."""

    connection: AsyncConnection

    @asynccontextmanager
    async def begin(self, *, writing: bool) -> AsyncIterator[AsyncConnection]:
        """Open a transaction; it commits at the end, and rolls back on an error.

        Through a pooler, all of a session is one transaction, because the next one may run on another connection.
        """
        if self.connection.in_transaction():
            yield self.connection
            return
        await self.connection.execution_options(**{BEGIN: "IMMEDIATE" if writing else "DEFERRED"})
        async with self.connection.begin():
            yield self.connection


class Database:
    """One database; open it with `async with`."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        random: Random,
        outage_seconds: float = 120.0,
        answer_seconds: float = ANSWER_SECONDS,
        must_exist: bool = False,
        listen: Listener = lambda _event: None,
        reads_only: bool = False,
    ) -> None:
        """Take the URL of a PostgreSQL or SQLite database, with or without a driver in its scheme.

        Args:
            url: `postgresql://user:password@host:port/name` or `sqlite:///path`.
            clock: for the waits while the database is away.
            random: for their jitter.
            outage_seconds: how long a database that was reached once may be away.
            answer_seconds: how long an answer may take before the database counts as away.
            must_exist: refuse to create a SQLite file that is missing.
            listen: is called with DatabaseAway and DatabaseBack.
            reads_only: change nothing, not even a missing file or SQLite's journal mode.

        Raises:
            SettingsError: the URL is not one of PostgreSQL or SQLite.
        """
        self._url = with_driver(url)
        self._clock = clock
        self._random = random
        self._outage_seconds = outage_seconds
        self._answer_seconds = answer_seconds
        self._must_exist = must_exist or reads_only
        self.reads_only = reads_only
        self._listen = listen
        self._was_reached = False
        self._engines: Engines | None = None
        self._is_pooled: bool | None = None  # unknown before the first connection
        self._file: tuple[int, int] | None = None  # device and inode of a SQLite file, as it was opened
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.place = Place(
            host=None if self.is_sqlite else self._url.host or "localhost",
            port=self._url.port or 5432,
            database=self._url.database or "",
            user=self._url.username,
        )

    async def __aenter__(self) -> Self:
        self._engines = self._make_engines(is_pooled=True)  # suits every server, so the first connection can tell
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engines, self._engines = self._engines, None
        if engines is not None:
            await engines.dispose()

    @property
    def is_pooled(self) -> bool:
        """Return whether a pooler, such as PgBouncer, is between us and PostgreSQL; known from the first session on."""
        return bool(self._is_pooled)

    def is_missing(self) -> bool:
        """Return whether this is a SQLite file that does not exist."""
        return self.is_sqlite and is_missing(self.place.database)

    async def reopen_if_replaced(self) -> None:
        """Reopen a SQLite file that was replaced: an open connection would go on with the old one unnoticed.

        Raises:
            LedgerError: the file is missing.
        """
        if not self.is_sqlite or not self._was_reached:
            return
        found = identity_of(self.place.database)
        if found is None:
            raise LedgerError(
                "{database} is missing: put it back, or check DATABASE_URL.", database=self.place.database
            )
        if found != self._file:
            self._file = found
            await self._open().dispose()

    # --- transactions

    async def transact(self, work: Work[T], *, error: type[OperatorError] = LedgerError, slow: bool = False) -> T:
        """Run `work` in one transaction that may write, and return its result.

        After a transient error (a restart, a deadlock, a lock) `work` runs again from its start.

        Args:
            work: runs within the transaction, perhaps more than once.
            error: the kind of error that is raised.
            slow: `work` goes over whole tables, so an answer may take minutes.

        Raises:
            OperatorError: of the kind `error`, with a sentence for the operator.
        """
        return await self._persist(work, error, writing=True, slow=slow)

    async def read(self, work: Work[T], *, error: type[OperatorError] = LedgerError, slow: bool = False) -> T:
        """Run `work` in one transaction that only reads; on SQLite it waits for no writer. Otherwise as `transact`."""
        return await self._persist(work, error, writing=False, slow=slow)

    async def fetch_all(
        self, query: Executable, *, error: type[OperatorError] = LedgerError, slow: bool = False
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """Return all rows of a query that is a transaction of its own, as `read` runs it."""

        async def work(connection: AsyncConnection) -> Sequence[Row[*tuple[Any, ...]]]:
            return (await connection.execute(query)).all()

        return await self.read(work, error=error, slow=slow)

    async def execute(self, statement: Executable, *, slow: bool = False) -> int:
        """Run a statement that is a transaction of its own, as `transact` does; return how many rows it wrote.

        On SQLite that number is -1 for a statement with a CTE, such as one that uses `given`.
        """

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self.transact(work, slow=slow)

    @contextmanager
    def raising(self, error: type[OperatorError]) -> Iterator[None]:
        """Raise database errors within the block as this kind; transient ones go on to `transact`, which retries."""
        try:
            yield
        except (SQLAlchemyError, OSError) as caught:
            if is_transient(caught):
                raise
            raise operator_error(caught, self.place, error) from caught

    async def hold(
        self, work: Callable[[Session], Awaitable[T]], *, error: type[OperatorError] = LedgerError, slow: bool = True
    ) -> T:
        """Run `work` with one connection, for several transactions or temporary tables; otherwise as `transact`."""
        retry: OutageRetry | None = None
        while True:
            try:
                async with self._session(error, slow=slow) as session:
                    done = await work(session)
            except Exception as caught:
                if not is_database_error(caught):
                    raise
                retry = retry or self._retry(error)
                await retry.wait(caught)
            else:
                if retry is not None:
                    retry.reset()
                return done

    async def walk(self, steps: Callable[[Session], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Yield what `steps` yields with one connection; after an outage call it again, to go on from where it was."""
        retry: OutageRetry | None = None
        while True:
            try:
                async with self._session(LedgerError, slow=True) as session, aclosing(steps(session)) as going:
                    async for step in going:
                        if retry is not None:
                            retry.reset()
                        yield step
                break
            except Exception as caught:
                if not is_database_error(caught):
                    raise
                retry = retry or self._retry(LedgerError)
                await retry.wait(caught)

    @asynccontextmanager
    async def _session(self, error: type[OperatorError], *, slow: bool) -> AsyncIterator[Session]:
        if self.is_sqlite and not self._was_reached:
            check_file(self.place.database, error, must_exist=self._must_exist)
        await self._look_for_pooler()
        engine = self._open().patient if slow else self._open().prompt
        async with engine.connect() as connection:
            if self.is_sqlite and not self._was_reached:
                self._file = identity_of(self.place.database)
            self._was_reached = True
            async with connection.begin() if self._is_pooled else nullcontext():
                if self._is_pooled and slow:
                    await connection.exec_driver_sql("SET LOCAL jit = off")
                yield Session(connection)

    def _make_engines(self, *, is_pooled: bool) -> Engines:
        return make_engines(self._url, self._answer_seconds, reads_only=self.reads_only, is_pooled=is_pooled)

    async def _look_for_pooler(self) -> None:
        """Find out from the first connection whether a pooler is between us and PostgreSQL.

        A pooler makes up the process number that it gives to its clients (PostgreSQL, section 54.2.9).
        """
        if self._is_pooled is not None or self.is_sqlite:
            return
        async with self._open().prompt.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            is_pooled = driver.get_server_pid() != await connection.scalar(select(func.pg_backend_pid()))
            if not is_pooled:
                await connection.invalidate()  # closed at once: other engines take over
        if self._is_pooled is None and not is_pooled:  # of several that looked at the same time, the first decides
            self._engines = self._make_engines(is_pooled=False)
        self._is_pooled = is_pooled

    async def _persist(self, work: Work[T], error: type[OperatorError], *, writing: bool, slow: bool) -> T:
        async def once(session: Session) -> T:
            async with session.begin(writing=writing) as connection:
                return await work(connection)

        return await self.hold(once, error=error, slow=slow)

    def _retry(self, error: type[OperatorError]) -> OutageRetry:
        return OutageRetry(self._clock, self._random, self.place, error, self._max_outage, self._listen)

    def _max_outage(self, caught: BaseException) -> float:
        """Return for how many seconds to retry after this error."""
        if self._was_reached or code_of(caught) == STARTING_UP:
            return self._outage_seconds
        # Switching a file to WAL locks all of it, and SQLite does not always call its busy handler meanwhile.
        return BUSY_SECONDS if is_locked(caught) else 0.0

    def _open(self) -> Engines:
        if self._engines is None:
            raise RuntimeError("the database is used outside `async with`")
        return self._engines

    async def lock(self, connection: AsyncConnection, name: str, silence_seconds: float | None = None) -> None:
        """Let only one transaction for each name past this point, until it ends; on SQLite writers are alone anyway.

        Args:
            connection: in a transaction.
            name: of the lock.
            silence_seconds: after so long without a statement from us the transaction is over, so that a machine that
                is cut off does not keep the others waiting; by default half the time that an answer may take.
        """
        if self.is_sqlite:
            return
        lock: list[ColumnElement[Any]] = [func.pg_advisory_xact_lock(func.hashtextextended(f"rehost {name}", 0))]
        if silence_seconds is not None:
            limit = f"{silence_seconds * 1000:.0f}"
            lock.insert(0, func.set_config("idle_in_transaction_session_timeout", limit, True))  # noqa: FBT003 - local
        await connection.execute(select(*lock))

    async def limit_locks(self, connection: AsyncConnection, seconds: float) -> None:
        """Bound the wait for each lock until this transaction or savepoint ends, and check constraints at once.

        A constraint that is deferred to the commit would fail the whole transaction, and name no row.
        """
        if not self.is_sqlite:
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")
            await connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    # --- statements

    async def allow_large_joins(self, connection: AsyncConnection) -> None:
        """Give this transaction the memory for joins of whole tables (on PostgreSQL; SQLite walks its indexes)."""
        if not self.is_sqlite:
            await connection.exec_driver_sql("SET LOCAL work_mem = '64MB'")

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Return an INSERT statement that supports ON CONFLICT."""
        if self.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415 - spares the import of the other dialect

            return insert(table)
        from sqlalchemy.dialects.postgresql import insert as insert_there  # noqa: PLC0415 - as above

        return insert_there(table)

    def given(self, columns: Columns, rows: Sequence[Sequence[object]]) -> FromClause:
        """Return rows of Python values as a table to select from: one parameter a column, however many rows.

        Its further column `number` counts the rows from 1.
        """
        if self.is_sqlite:
            each = func.json_each(json.dumps([list(row) for row in rows], ensure_ascii=False)).table_valued(
                "key", "value"
            )
            picked: list[ColumnElement[Any]] = [
                cast(func.json_extract(each.c.value, f"$[{index}]"), type_).label(name)
                for index, (name, type_) in enumerate(columns.items())
            ]
            return select(*picked, (cast(each.c.key, BigInteger) + 1).label("number")).cte("given")
        arrays = [
            bindparam(None, [row[index] for row in rows], type_=ARRAY(type_), unique=True)
            for index, type_ in enumerate(columns.values())
        ]
        return (
            func.unnest(*arrays)
            .table_valued(
                *[column(name, type_) for name, type_ in columns.items()], with_ordinality="number", name="given"
            )
            .render_derived()
        )

    async def stream(
        self, query: Select[*tuple[Any, ...]], error: type[OperatorError] = CatalogueError
    ) -> AsyncGenerator[Sequence[Sequence[Any]], None]:
        """Yield a query's rows in groups, in bounded memory, for a transaction of another database.

        There is no retry here: the other transaction retries, and learns from OtherDatabase which of the two failed.
        """
        query = query.execution_options(yield_per=_STREAMED_ROWS)
        try:
            await self._look_for_pooler()
            async with self._open().patient.connect() as connection, connection.stream(query) as result:
                async for rows in result.partitions():
                    yield rows
        except Exception as caught:
            if not is_database_error(caught):
                raise
            raise OtherDatabase(self.place, error) from caught


_MANY_ROWS = 10_000  # new rows from which on PostgreSQL should not wait for its autovacuum
_SAMPLE_ROWS = 1000  # that SQLite reads of each index: milliseconds, however large the table is


@asynccontextmanager
async def temporary(connection: AsyncConnection, table: Table) -> AsyncIterator[None]:
    """Make a temporary table on this connection for the length of the block."""
    await make_temporary(connection, table)
    yield
    await drop_temporary(connection, table)


def temporary_table(name: str, columns: Columns, key: str | None = None) -> Table:
    """Return a temporary table for `temporary` to make; `key` names the column of its primary key."""
    made = [Column(each, type_, primary_key=each == key, autoincrement=False) for each, type_ in columns.items()]
    return Table(name, MetaData(), *made, prefixes=["TEMPORARY"])


async def make_temporary(connection: AsyncConnection, table: Table) -> None:
    """Make a temporary table on this connection, in place of one that an earlier user of it may have left."""
    await drop_temporary(connection, table)
    await connection.execute(CreateTable(table))


async def drop_temporary(connection: AsyncConnection, table: Table) -> None:
    """Drop a temporary table, if it exists."""
    schema = "temp" if _is_sqlite(connection) else "pg_temp"
    await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {schema}.{table.name}")


async def load(
    connection: AsyncConnection, table: Table, groups: AsyncGenerator[Iterable[Sequence[object]], None]
) -> None:
    """Load groups of rows into a table; each row has a value for every column, in the table's order.

    PostgreSQL loads them by COPY, SQLite by one prepared INSERT: fit for millions of rows.
    """
    names = [each.name for each in table.columns]
    async with aclosing(groups):
        if _is_sqlite(connection):
            columns, marks = ", ".join(names), ", ".join("?" for _ in names)
            async for group in groups:
                if rows := [tuple(row) for row in group]:
                    await connection.exec_driver_sql(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", rows)  # noqa: S608 - our own names
            return
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        async for group in groups:
            await driver.copy_records_to_table(table.name, records=group, columns=names)
        await connection.exec_driver_sql(f"ANALYZE pg_temp.{table.name}")


async def analyze(connection: AsyncConnection, table: Table, new: int) -> None:
    """Update the planner's statistics of a table to which `new` rows were added.

    Without them SQLite takes any table for a small one: a join of all rows took a step for each pair of rows.
    """
    is_sqlite = _is_sqlite(connection)
    if new <= (0 if is_sqlite else _MANY_ROWS):
        return
    if is_sqlite:
        await connection.exec_driver_sql(f"PRAGMA analysis_limit = {_SAMPLE_ROWS}")
    await connection.exec_driver_sql(f"ANALYZE {table.name}")


def _is_sqlite(connection: AsyncConnection) -> bool:
    return connection.dialect.name == "sqlite"
