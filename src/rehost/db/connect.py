"""Engines for the two kinds of database, each set up so that a commit that is told is kept."""

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
ANSWER_SECONDS = 60.0  # until a server that says nothing, or lends no connection, counts as away
MUCH_SECONDS = 600.0  # the same, of statements over whole tables
_SQLITE_MAGIC = b"SQLite format 3\0"
BUSY_SECONDS = 30.0


def with_driver(text: str) -> URL:
    """Return a URL with the driver that we use, whatever driver it names.

    Raises:
        SettingsError: the URL is of no database that we know.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (SQLAlchemyError, ValueError):  # ValueError: a port that is no number
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
    """The engines of one database: how long a server may be silent is said of a connection, not of a statement."""

    prompt: AsyncEngine
    patient: AsyncEngine  # for statements over whole tables; on SQLite the same one

    async def dispose(self) -> None:
        """Close all connections that nobody uses."""
        await self.prompt.dispose()
        await self.patient.dispose()


def make_engines(url: URL, answer_seconds: float) -> Engines:
    """Return the engines; nothing is connected yet."""
    prompt = _make_engine(url, answer_seconds)
    return Engines(prompt, prompt if url.get_backend_name() == "sqlite" else _make_engine(url, MUCH_SECONDS))


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
    """Return a URL with nothing but the place of the database, and asyncpg's arguments for libpq's parameters in it.

    Most of them (those of TLS, `options`) asyncpg takes from a URL alone, which says nothing else here.
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
    """Refuse a file that is no database before the driver has it (SQLite file format, section 1.3).

    One that is not there would be made: `must_exist` refuses that.
    """
    if must_exist and not Path(path).exists() and not path.startswith("file:"):
        raise error(f"There is no file {path}: check DATABASE_URL.")
    with suppress(OSError), Path(path).open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) not in {b"", _SQLITE_MAGIC}:
            raise error(f"{path} is no SQLite database: check DATABASE_URL.")


def identity_of(file: str) -> tuple[int, int] | None:
    """Return what tells a file from any other that may take its place; None where there is none."""
    try:
        there = Path(file).stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


class _Connection(sqlite3.Connection):
    """Gives up its locks when it is closed.

    SQLite keeps them while a statement is left that was not read to its end (sqlite3_close_v2), and a task that was
    cancelled within one leaves it, in the traceback, until somebody collects garbage.
    """

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


def _try_sqlite(_dialect: Dialect, _record: object, place: Sequence[str], options: dict[str, object]) -> None:
    # A file that cannot be opened leaves aiosqlite's thread behind, which complains once the loop is closed.
    sqlite3.connect(place[0], uri=bool(options.get("uri"))).close()


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    try:
        connection.isolation_level = None  # we begin our transactions ourselves
        connection.create_function("rehost_host", 1, host_of_text, deterministic=True)
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # a commit that is told is on the disk (invariant 1)
        cursor.close()
    except BaseException:
        connection.close()  # its thread would outlive us: nobody else knows of it yet
        raise


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get(BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {begin}")
