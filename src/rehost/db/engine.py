"""The engine: connections, transactions that bear a short outage, and bulk statements, for PostgreSQL and SQLite.

SQLite drops SKIP LOCKED without a word: there a transaction that writes takes the one write lock at its start
(BEGIN IMMEDIATE), readers go on beside it (WAL).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import ARRAY, ColumnElement, FromClause, Select, Table, bindparam, cast, column, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, TypeEngine

from rehost.clock import Clock
from rehost.db.connect import (
    ANSWER_SECONDS,
    BUSY_SECONDS,
    Engines,
    check_file,
    identity_of,
    make_engines,
    with_driver,
)
from rehost.db.errors import STARTING_UP, Elsewhere, Place, code_of, is_locked, is_passing, sentence
from rehost.db.retry import OutageRetry, is_ours
from rehost.db.session import Session
from rehost.errors import CatalogueError, LedgerError, OperatorError

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

T = TypeVar("T")

Connection = AsyncConnection
Work = Callable[[AsyncConnection], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class LinkRows:
    """The operator's links as a selectable: columns row_key, position, url, page_url, local_url, host."""

    database: Database
    select: Select[*tuple[Any, ...]]


Columns = Mapping[str, TypeEngine[Any]]
"""What `Database.given` takes: the names and types of its columns, in order."""


class Database:
    """One database, opened by `async with`."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        random: Random,
        outage_seconds: float = 120.0,
        answer_seconds: float = ANSWER_SECONDS,
        must_exist: bool = False,
    ) -> None:
        """Take a URL of PostgreSQL or SQLite, with or without a driver in its scheme.

        Args:
            url: `postgresql://user:password@host:port/name` or `sqlite:///path`.
            clock: for the waits while the database is away.
            random: for their jitter.
            outage_seconds: how long a database that was reached once may be away.
            answer_seconds: how long it may be silent before it counts as away.
            must_exist: refuse a SQLite file that is not there, which would be made otherwise.

        Raises:
            SettingsError: the URL is of no database that we know.
        """
        self._url = with_driver(url)
        self._clock = clock
        self._random = random
        self._outage_seconds = outage_seconds
        self._answer_seconds = answer_seconds
        self._must_exist = must_exist
        self._was_reached = False
        self._engines: Engines | None = None
        self._file: tuple[int, int] | None = None  # SQLite's, as it was opened
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.place = Place(
            host=None if self.is_sqlite else self._url.host or "localhost",
            port=self._url.port or 5432,
            database=self._url.database or "",
            user=self._url.username,
        )

    async def __aenter__(self) -> Self:
        self._engines = make_engines(self._url, self._answer_seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        engines, self._engines = self._engines, None
        if engines is not None:
            await engines.dispose()

    async def look(self) -> None:
        """Leave a SQLite file that is no longer at its place: an open connection goes on with it unseen.

        Raises:
            LedgerError: there is none at its place.
        """
        if not self.is_sqlite or not self._was_reached:
            return
        there = identity_of(self.place.database)
        if there is None:
            raise LedgerError(f"{self.place.database} is gone: put it back, or check DATABASE_URL.")
        if there != self._file:
            self._file = there
            await self._open().dispose()

    # --- transactions

    async def transact(self, work: Work[T], *, error: type[OperatorError] = LedgerError, much: bool = False) -> T:
        """Run `work` in one transaction that may write, and return its result.

        What passes by itself (a restart, a deadlock, a lock) is waited out, and `work` run again from its start.

        Args:
            work: what to do.
            error: the kind of what is raised.
            much: it goes over whole tables, so that a server may be silent for minutes and yet be there.

        Raises:
            OperatorError: of the kind `error`, with a sentence.
        """
        return await self._persist(work, error, writing=True, much=much)

    async def read(self, work: Work[T], *, error: type[OperatorError] = LedgerError, much: bool = False) -> T:
        """Run `work` in one transaction that only reads; on SQLite it waits for nobody. Otherwise as `transact`."""
        return await self._persist(work, error, writing=False, much=much)

    @contextmanager
    def blaming(self, error: type[OperatorError]) -> Any:  # noqa: ANN401 - a context manager's own type
        """Raise what cannot pass, within, as an error of this kind; what can pass is left to `transact`."""
        try:
            yield
        except (SQLAlchemyError, OSError) as caught:
            if is_passing(caught):
                raise
            raise error(sentence(caught, self.place)) from caught

    async def hold(
        self, work: Callable[[Session], Awaitable[T]], *, error: type[OperatorError] = LedgerError, much: bool = True
    ) -> T:
        """Run `work` over one connection, for several transactions or temporary tables; otherwise as `transact`."""
        patience = self._patience(error)
        while True:
            try:
                async with self._session(error, much=much) as session:
                    return await work(session)
            except Exception as caught:
                if not is_ours(caught):
                    raise
                await patience.bear(caught)

    async def walk(
        self, steps: Callable[[Session], AsyncGenerator[T, None]], *, error: type[OperatorError] = LedgerError
    ) -> AsyncGenerator[T, None]:
        """Yield what `steps` yields over one connection; after an outage it is called anew, to go on by itself."""
        patience = self._patience(error)
        while True:
            try:
                async with self._session(error, much=True) as session, aclosing(steps(session)) as going:
                    async for step in going:
                        patience.renew()
                        yield step
                break
            except Exception as caught:
                if not is_ours(caught):
                    raise
                await patience.bear(caught)

    @asynccontextmanager
    async def _session(self, error: type[OperatorError], *, much: bool) -> AsyncIterator[Session]:
        if self.is_sqlite and not self._was_reached:
            check_file(self.place.database, error, must_exist=self._must_exist)
        engine = self._open().patient if much else self._open().prompt
        async with engine.connect() as connection:
            if self.is_sqlite and not self._was_reached:
                self._file = identity_of(self.place.database)
            self._was_reached = True
            yield Session(connection)

    async def _persist(self, work: Work[T], error: type[OperatorError], *, writing: bool, much: bool) -> T:
        async def once(session: Session) -> T:
            async with session.begin(writing=writing) as connection:
                return await work(connection)

        return await self.hold(once, error=error, much=much)

    def _patience(self, error: type[OperatorError]) -> OutageRetry:
        return OutageRetry(self._clock, self._random, self.place, error, self._seconds)

    def _seconds(self, caught: BaseException) -> float:
        """Return the seconds for which a database that answers so is waited for."""
        if self._was_reached or code_of(caught) == STARTING_UP:
            return self._outage_seconds
        # To turn a file to WAL takes it whole, and SQLite tells some who come meanwhile so at once.
        return BUSY_SECONDS if is_locked(caught) else 0.0

    def _open(self) -> Engines:
        if self._engines is None:
            raise RuntimeError("the database is used outside its `async with`")
        return self._engines

    async def lock(self, connection: AsyncConnection, name: str) -> None:
        """Let one transaction at a time be past this point, for each name; on SQLite each transaction is alone."""
        if not self.is_sqlite:
            await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"rehost {name}", 0))))

    # --- statements

    async def expect_much(self, connection: AsyncConnection) -> None:
        """Let this transaction's joins of whole tables stay in memory (on PostgreSQL; SQLite walks its indexes)."""
        if not self.is_sqlite:
            await connection.exec_driver_sql("SET LOCAL work_mem = '64MB'")

    def insert(self, table: Table) -> postgresql.Insert | sqlite.Insert:
        """Return an INSERT that knows ON CONFLICT."""
        if self.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415 - each engine without the other's dialect

            return insert(table)
        from sqlalchemy.dialects.postgresql import insert as insert_there  # noqa: PLC0415 - as above

        return insert_there(table)

    def given(self, columns: Columns, rows: Sequence[Sequence[object]]) -> FromClause:
        """Return rows of Python values as something to select from: one parameter a column, however many rows.

        It has a further column `number`, from 1 on.
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
        self, query: Select[*tuple[Any, ...]], *, group: int = 500
    ) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """Yield a query's rows in groups, in bounded memory, for a transaction of another database.

        Without a second try: whoever runs that transaction has it, and knows by `Elsewhere` which of the two failed.
        """
        query = query.execution_options(yield_per=group)
        try:
            async with self._open().patient.connect() as connection, connection.stream(query) as result:
                async for rows in result.partitions():
                    yield rows
        except Exception as caught:
            if not is_ours(caught):
                raise
            raise Elsewhere(self.place, CatalogueError) from caught
