"""SQLAlchemy engines for PostgreSQL and SQLite, set up so that a reported commit is durable."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from rehost.db.sql_functions import host_of_text
from rehost.errors import OperatorError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection

BEGIN = "rehost_begin"  # execution option: how a transaction begins on SQLite
CONNECTIONS = 8  # open at once
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0  # after which a server without an answer, or a pool without a free connection, counts as away
LONG_ANSWER_SECONDS = 600.0  # the same, for statements over whole tables
_SQLITE_MAGIC = b"SQLite format 3\0"
BUSY_SECONDS = 30.0


def with_driver(text: str) -> URL:
    """Return the URL with the driver that we use in place of any that it names.

    Raises:
        SettingsError: the URL is not one of PostgreSQL or SQLite.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (SQLAlchemyError, ValueError):  # ValueError: the port is not a number
        backend = None
    if backend in {"postgresql", "postgres"}:
        return url.set(drivername="postgresql+asyncpg")
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise SettingsError("DATABASE_URL names no file for SQLite: write sqlite:///path/to/file.db.")
        return url.set(drivername="sqlite+aiosqlite")
    raise SettingsError("DATABASE_URL must begin with postgresql:// or sqlite:///.")


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one database; two, because asyncpg sets the time that an answer may take per connection."""

    prompt: AsyncEngine
    patient: AsyncEngine  # for statements over whole tables; on SQLite the same engine

    async def dispose(self) -> None:
        """Close all connections that are not in use."""
        await self.prompt.dispose()
        await self.patient.dispose()


def make_engines(url: URL, answer_seconds: float) -> Engines:
    """Return the engines, not connected yet."""
    prompt = _make_engine(url, answer_seconds)
    return Engines(prompt, prompt if url.get_backend_name() == "sqlite" else _make_engine(url, LONG_ANSWER_SECONDS))


def _make_engine(url: URL, seconds: float) -> AsyncEngine:
    pool = partial(create_async_engine, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=seconds)
    if url.get_backend_name() == "sqlite":
        engine = pool(url, connect_args={"timeout": BUSY_SECONDS, "factory": _Connection})
        event.listen(engine.sync_engine, "do_connect", _try_sqlite)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    place, arguments = _for_asyncpg(url, seconds)
    try:
        return pool(place, connect_args=arguments)
    except ModuleNotFoundError as error:
        raise SettingsError("PostgreSQL needs the package asyncpg: pip install 'rehost[postgresql]'.") from error


def _for_asyncpg(url: URL, answer_seconds: float) -> tuple[URL, dict[str, object]]:
    """Return the URL without its libpq parameters, and asyncpg's arguments for these.

    asyncpg reads most of them (TLS, `options`) only from a URL, so it gets one that contains nothing else.
    """
    given = dict(url.query)
    place: dict[str, str | Sequence[str]] = {name: given.pop(name) for name in ("host", "port") if name in given}
    seconds = given.pop("connect_timeout", CONNECT_SECONDS)
    name = given.pop("application_name", "rehost")
    arguments = {
        "dsn": f"postgresql://?{urlencode(given)}",
        "timeout": float(str(seconds)),
        "command_timeout": answer_seconds,
        "server_settings": {"application_name": str(name), "jit": "off"},
    }
    return url.set(query=place), arguments


def check_file(path: str, error: type[OperatorError], *, must_exist: bool) -> None:
    """Check that a file is a SQLite database before the driver opens it (SQLite file format, section 1.3).

    The driver would create a missing file; `must_exist` prevents that.

    Raises:
        OperatorError: of the kind `error`: the file is missing, or something else.
    """
    if must_exist and not Path(path).exists() and not path.startswith("file:"):
        raise error(f"The file {path} does not exist: check DATABASE_URL.")
    with suppress(OSError), Path(path).open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) not in {b"", _SQLITE_MAGIC}:
            raise error(f"{path} is not a SQLite database: check DATABASE_URL.")


def identity_of(file: str) -> tuple[int, int] | None:
    """Return device and inode of a file, which differ once another file has taken its place; None if it is missing."""
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Connection(sqlite3.Connection):
    """Releases its locks when it is closed.

    SQLite keeps them while a statement exists that was not read to its end (sqlite3_close_v2), and the traceback of a
    task that was cancelled within a statement keeps that alive until the garbage collector runs.
    """

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


def _try_sqlite(_dialect: Dialect, _record: object, place: Sequence[str], options: dict[str, object]) -> None:
    # Tried first: of a file that cannot be opened, aiosqlite leaves a thread that raises once the loop is closed.
    sqlite3.connect(place[0], uri=bool(options.get("uri"))).close()


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    try:
        connection.isolation_level = None  # we begin transactions ourselves
        connection.create_function("rehost_host", 1, host_of_text, deterministic=True)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # a reported commit is on disk (invariant 1)
        cursor.close()
    except BaseException:
        connection.close()  # otherwise its thread outlives us: the pool does not know the connection yet
        raise


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get(BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {begin}")
