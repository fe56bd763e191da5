"""What differs between PostgreSQL and SQLite: durable engines, and SQL expressions that the two spell differently.

Time is always the database's: workers on several machines agree on it (invariant 4).
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sqlalchemy import (
    TIMESTAMP,
    URL,
    Boolean,
    ColumnElement,
    Connection,
    Dialect,
    Float,
    Integer,
    String,
    Text,
    cast,
    event,
    func,
    literal,
    literal_column,
    make_url,
    or_,
    type_coerce,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from rehost.errors import OperatorError, SettingsError, missing_extra
from rehost.language import Message

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection


@contextmanager
def without_orm() -> Iterator[None]:
    """Let the block import parts of `sqlalchemy.ext.asyncio` alone: its `__init__` imports the ORM, a fifth of a start.

    Another import of the package runs its `__init__` as ever, with the parts that are imported already.
    """
    name = "sqlalchemy.ext.asyncio"
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    sys.modules[name] = package = ModuleType(name)
    package.__path__ = spec.submodule_search_locations
    try:
        yield
    finally:
        del sys.modules[name]


with without_orm():
    from sqlalchemy.ext.asyncio.engine import AsyncEngine, create_async_engine

BEGIN = "rehost_begin"  # execution option: how a transaction begins on SQLite
CONNECTIONS = 8  # open at once
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0  # after which a server without an answer, or a pool without a free connection, counts as away
LONG_ANSWER_SECONDS = 3600.0  # the same, for statements over whole tables: ten million rows are noted in minutes
# After half such a time PostgreSQL ends a transaction that sends nothing, within these bounds.
LEAST_SILENCE, MOST_SILENCE = 30.0, 300.0
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


def import_driver(url: str) -> None:
    """Import what `make_engines` will need, as far as it is installed."""
    with suppress(ModuleNotFoundError):
        with_driver(url).get_dialect().import_dbapi()


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one database; two, because asyncpg sets the time that an answer may take per connection."""

    prompt: AsyncEngine
    patient: AsyncEngine  # for statements over whole tables; on SQLite the same engine

    async def dispose(self) -> None:
        """Close all connections that are not in use."""
        await self.prompt.dispose()
        await self.patient.dispose()


def make_engines(url: URL, answer_seconds: float, *, reads_only: bool = False, is_pooled: bool = False) -> Engines:
    """Return the engines, not connected yet.

    Args:
        url: with our driver.
        answer_seconds: how long an answer may take, except to statements over whole tables.
        reads_only: the database is to refuse every statement that writes.
        is_pooled: suit a pooler between us and PostgreSQL, such as PgBouncer in transaction mode: it refuses parameters
            at the start that it does not know, and each transaction may run on another of its connections, so that no
            prepared statement lives longer.
    """
    make = partial(_make_engine, url, reads_only=reads_only, is_pooled=is_pooled)
    prompt = make(answer_seconds)
    return Engines(prompt, prompt if url.get_backend_name() == "sqlite" else make(LONG_ANSWER_SECONDS))


def _make_engine(url: URL, seconds: float, *, reads_only: bool, is_pooled: bool) -> AsyncEngine:
    pool = partial(create_async_engine, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=seconds)
    if url.get_backend_name() == "sqlite":
        engine = pool(url, connect_args={"timeout": BUSY_SECONDS, "factory": _Connection})
        if not reads_only:
            event.listen(engine.sync_engine, "do_connect", _make_sqlite_file)
        event.listen(engine.sync_engine, "do_connect", _try_sqlite)
        event.listen(engine.sync_engine, "connect", partial(_prepare_sqlite, _READING if reads_only else _WRITING))
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    place, arguments = _for_asyncpg(url, seconds, is_pooled=is_pooled)
    try:
        engine = pool(place, connect_args=arguments, execution_options={"postgresql_readonly": reads_only})
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error
    # These ask for types that we do not use, for each connection, and in two steps outside a transaction.
    for name in ("setup_asyncpg_json_codec", "setup_asyncpg_jsonb_codec"):
        setattr(engine.sync_engine.dialect, name, _ask_nothing)
    return engine


async def _ask_nothing(_connection: object) -> None:
    pass


def _for_asyncpg(url: URL, answer_seconds: float, *, is_pooled: bool) -> tuple[URL, dict[str, object]]:
    """Return the URL without its libpq parameters, and asyncpg's arguments for these.

    asyncpg reads most of them (TLS, `options`) only from a URL, so it gets one that contains nothing else.
    """
    given = dict(url.query)
    place: dict[str, str | Sequence[str]] = {name: given.pop(name) for name in ("host", "port") if name in given}
    seconds = given.pop("connect_timeout", CONNECT_SECONDS)
    name = given.pop("application_name", "rehost")
    arguments: dict[str, Any] = {
        "dsn": f"postgresql://?{urlencode(given)}",
        "timeout": float(str(seconds)),
        "command_timeout": answer_seconds,
        "server_settings": {"application_name": str(name)},
    }
    if not is_pooled:
        # A machine that is cut off within a transaction would keep its locks until TCP gives up: two hours.
        silence = f"{min(MOST_SILENCE, max(LEAST_SILENCE, answer_seconds / 2)) * 1000:.0f}"
        arguments["server_settings"] |= {"jit": "off", "idle_in_transaction_session_timeout": silence}
    if is_pooled:
        arguments |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        arguments["prepared_statement_name_func"] = str  # none: the next statement replaces one without a name
    return url.set(query=place), arguments


def check_file(path: str, error: type[OperatorError], *, must_exist: bool) -> None:
    """Check that a file is a SQLite database before the driver opens it (SQLite file format, section 1.3).

    The driver would create a missing file; `must_exist` prevents that.

    Raises:
        OperatorError: of the kind `error`: the file is missing, or something else.
    """
    if must_exist and is_missing(path):
        raise error(Message("The file {path} does not exist: check DATABASE_URL.", path=path))
    with suppress(OSError), Path(path).open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) not in {b"", _SQLITE_MAGIC}:
            raise error(Message("{database} is not a SQLite database: check DATABASE_URL.", database=path))


def is_missing(path: str) -> bool:
    """Return whether a SQLite file does not exist; of a URI nothing is known."""
    return not Path(path).exists() and not path.startswith("file:")


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


def _make_sqlite_file(_dialect: Dialect, _record: object, place: Sequence[str], options: dict[str, object]) -> None:
    if not options.get("uri"):  # a file that this creates is its owner's, and so are SQLite's files beside it
        with suppress(OSError):
            os.close(os.open(place[0], os.O_RDWR | os.O_CREAT, 0o600))


def _try_sqlite(_dialect: Dialect, _record: object, place: Sequence[str], options: dict[str, object]) -> None:
    # Tried first: of a file that cannot be opened, aiosqlite leaves a thread that raises once the loop is closed.
    sqlite3.connect(place[0], uri=bool(options.get("uri"))).close()


_WRITING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a reported commit is on disk (invariant 1)
)
_READING = ("PRAGMA query_only = ON",)


def _prepare_sqlite(pragmas: Sequence[str], connection: DBAPIConnection, _record: object) -> None:
    try:
        connection.isolation_level = None  # we begin transactions ourselves
        connection.create_function("rehost_host", 1, host_of_text, deterministic=True)
        connection.create_function("rehost_root", 2, root_of_text, deterministic=True)
        cursor = connection.cursor()
        cursor.execute("PRAGMA encoding")  # of text as bytes: UTF-8, UTF-16le or UTF-16be
        (encoding,) = cursor.fetchone() or ("UTF-8",)
        is_unreadable = partial(is_no_text, encoding=encoding)
        connection.create_function("rehost_unreadable", 1, is_unreadable, deterministic=True)
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()
    except BaseException:
        connection.close()  # otherwise its thread outlives us: the pool does not know the connection yet
        raise


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get(BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {begin}")


# Scheme (or none), two slashes of either kind, then a name that every parser reads alike, but for upper case: its last
# label is no number (which makes an IPv4 address), and no dot ends it. PostgreSQL and Python read the expression alike.
_SCHEME, _IN_LABEL = "[A-Za-z][A-Za-z0-9+.-]*:", "[A-Za-z0-9_-]"
PLAIN_HOST = rf"^\s*(?:{_SCHEME})?[/\\]{{2}}((?:{_IN_LABEL}+\.)*[A-Za-z_]{_IN_LABEL}*)(?::[0-9]*)?(?:[/?#\\]|$)"
_PLAIN_HOST = re.compile(PLAIN_HOST)
# What comes before the path: URL standard, section 4.4, for http and https (any number of slashes of either kind).
ROOT = rf"^\s*((?:{_SCHEME})?[/\\\t\r\n]*[^/\\?#]*)"
NO_SCHEME = r"^\s*(//|\\\\)"
HTTP = r"^\s*[Hh][Tt][Tt][Pp]:"
_ROOT, _NO_SCHEME, _HTTP = re.compile(ROOT), re.compile(NO_SCHEME), re.compile(HTTP)
_HOST_CHARACTERS = 255  # no host is longer (RFC 1035, section 2.3.4), and an index has a limit too
OTHER_HOST = "?"
"""What `host_of` returns where only the parser of URLs can tell the host, if there is one."""

NEVER = datetime(9999, 12, 31, tzinfo=UTC)


def host_of_text(url: str | None) -> str | None:
    """Return the lower-cased host of a URL, or OTHER_HOST; `host_of` calls this on SQLite."""
    if url is None:
        return None
    match = _PLAIN_HOST.match(url)
    return match[1].lower()[:_HOST_CHARACTERS] if match else OTHER_HOST


def root_of_text(url: str | None, page_url: str | None) -> str | None:
    """Return what `root_of` does; it calls this on SQLite."""
    root = _ROOT.match(url or "")
    if url is None or root is None:
        return None
    scheme = ("http:" if _HTTP.match(page_url or "") else "https:") if _NO_SCHEME.match(url) else ""
    return scheme + root[1]


def is_no_text(content: bytes, encoding: str) -> bool:
    """Return whether these bytes are no text, or have a NUL, at which JSON ends in SQLite (see `Database.given`)."""
    try:
        return "\0" in content.decode(encoding)
    except UnicodeDecodeError:
        return True


class Moment(TypeDecorator[datetime]):
    """A point in time, aware and in UTC; SQLite, which has no time zones, stores seconds since 1970."""

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type in this database."""
        return dialect.type_descriptor(Float() if dialect.name == "sqlite" else TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - the driver's type
        """Return the value as the driver takes it."""
        return value.timestamp() if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401 - the driver's type
        """Return the driver's value as an aware datetime."""
        if value is None:
            return None
        return datetime.fromtimestamp(value, UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class now(FunctionElement[datetime]):  # noqa: N801 - reads as an SQL function
    """The database's time; constant within a statement, so comparisons with it can use an index."""

    type = Moment()
    inherit_cache = True
    name = "rehost_now"


class after(FunctionElement[datetime]):  # noqa: N801 - reads as an SQL function
    """The database's time, so many seconds from now."""

    type = Moment()
    inherit_cache = True
    name = "rehost_after"

    def __init__(self, seconds: float | ColumnElement[float]) -> None:
        super().__init__(literal(seconds, Float) if isinstance(seconds, int | float) else seconds)


class seconds_until(FunctionElement[float]):  # noqa: N801 - reads as an SQL function
    """The seconds from now to a point in time, by the database's time."""

    type = Float()
    inherit_cache = True
    name = "rehost_seconds_until"


class today(FunctionElement[int]):  # noqa: N801 - reads as an SQL function
    """The number of the day in UTC, by the database's time; 1970-01-01 is 0."""

    type = Integer()
    inherit_cache = True
    name = "rehost_today"


class host_of(FunctionElement[str]):  # noqa: N801 - reads as an SQL function
    """The host of a column of URLs, as requests have it; OTHER_HOST where it is not a plain name."""

    type = String()
    inherit_cache = True
    name = "rehost_host"


class root_of(FunctionElement[str]):  # noqa: N801 - reads as an SQL function
    """The part of a URL before its path, as it is written: few different texts, however many links.

    The second argument is the page, whose scheme a URL without one has (`http.url.with_scheme_of`).
    """

    type = String()
    inherit_cache = True
    name = "rehost_root"


class exact_text(FunctionElement[str]):  # noqa: N801 - reads as an SQL function
    """A value as text that equals only itself, whatever the column's collation (one may ignore case, or accents)."""

    type = Text()
    inherit_cache = True
    name = "rehost_exact_text"


class is_unreadable(FunctionElement[bool]):  # noqa: N801 - reads as an SQL function
    """Whether any of these cells is no text: SQLite stores any bytes as text, PostgreSQL checks them."""

    type = Boolean()
    inherit_cache = True
    name = "rehost_is_unreadable"

    def __init__(self, *cells: ColumnElement[Any]) -> None:
        texts: ColumnElement[str] = literal_column("''", Text)
        for cell in cells:
            texts = texts + literal_column("' '", Text) + func.coalesce(cast(cell, Text), literal_column("''"))
        super().__init__(texts)


class NamedType(UserDefinedType[Any]):
    """A column type by its name in the database, to cast keys back to it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_kwargs: object) -> str:
        """Return the name as SQL."""
        return self.name


class byte_length(FunctionElement[int]):  # noqa: N801 - reads as an SQL function
    """The number of bytes of a text in UTF-8."""

    type = Integer()
    inherit_cache = True
    name = "rehost_byte_length"


def is_over(instant: ColumnElement[datetime | None], longest_seconds: float) -> ColumnElement[bool]:
    """Return the condition that a time has passed, or lies further ahead than any is ever set.

    The latter happens if the clock was wrong when the time was set; without this it would not pass for just as long.
    """
    return or_(instant < now(), instant > after(longest_seconds))


def blank(column: ColumnElement[str | None]) -> ColumnElement[bool]:
    """Return the condition that a column is NULL or has only spaces."""
    return or_(column.is_(None), func.trim(type_coerce(column, Text)) == "")


def _quoted(expression: str) -> str:
    """Return a regular expression for PostgreSQL, read alike if standard_conforming_strings is off."""
    return "E'" + expression.replace("\\", "\\\\") + "'"


def _spell(function: type[FunctionElement[Any]], *, postgresql: str, sqlite: str) -> None:
    """Set how each database spells a function; `<x>` stands for its argument, `<y>` for a second one."""
    for dialect, template in (("postgresql", postgresql), ("sqlite", sqlite)):

        def spell(element: Any, compiler: SQLCompiler, template: str = template, **kwargs: Any) -> str:  # noqa: ANN401 - hook
            for sign, argument in zip(("<x>", "<y>"), element.clauses, strict=False):
                template = template.replace(sign, compiler.process(argument, **kwargs))
            return template

        compiles(function, dialect)(spell)


_SECONDS = "((julianday('now') - 2440587.5) * 86400.0)"  # since 1970-01-01, which is that Julian day

_spell(now, postgresql="statement_timestamp()", sqlite=_SECONDS)
_spell(after, postgresql="(statement_timestamp() + make_interval(secs => <x>))", sqlite=f"({_SECONDS} + <x>)")
_spell(seconds_until, postgresql="extract(epoch FROM <x> - statement_timestamp())::float", sqlite=f"(<x> - {_SECONDS})")
_spell(
    today,
    postgresql="floor(extract(epoch FROM statement_timestamp()) / 86400)::integer",
    sqlite="CAST(julianday('now') - 2440587.5 AS INTEGER)",
)
_spell(exact_text, postgresql='(CAST(<x> AS text) COLLATE "default")', sqlite="(CAST(<x> AS TEXT) COLLATE BINARY)")
_spell(is_unreadable, postgresql="false", sqlite="rehost_unreadable(CAST(<x> AS BLOB))")
_spell(byte_length, postgresql="octet_length(<x>)", sqlite="length(CAST(<x> AS BLOB))")
_spell(
    host_of,
    postgresql=f"coalesce(left(lower(substring(<x> from {_quoted(PLAIN_HOST)})), {_HOST_CHARACTERS}), '{OTHER_HOST}')",
    sqlite="rehost_host(<x>)",
)
_spell(
    root_of,
    postgresql=(
        f"(CASE WHEN <x> !~ {_quoted(NO_SCHEME)} THEN '' WHEN <y> ~ {_quoted(HTTP)} THEN 'http:' ELSE 'https:' END"
        f" || substring(<x> from {_quoted(ROOT)}))"
    ),
    sqlite="rehost_root(<x>, <y>)",
)
