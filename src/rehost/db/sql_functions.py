"""SQL expressions that PostgreSQL and SQLite spell differently.

Time is always the database's: workers on several machines agree on it (invariant 4).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import TIMESTAMP, ColumnElement, Dialect, Float, Integer, String, Text, func, literal, or_, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

# Scheme (or none), two slashes of either kind, user and password, then the host: as lax as browsers are, because this
# only groups links. PostgreSQL and Python read the expression alike.
HOST = r"^\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]{2}(?:[^/?#\\]*@)?(\[[^\]/?#]*\]|[^/?#:\\]*)"
_HOST = re.compile(HOST)
_HOST_CHARACTERS = 255  # no host is longer (RFC 1035, section 2.3.4), and an index has a limit too

NEVER = datetime(9999, 12, 31, tzinfo=UTC)


def host_of_text(url: str | None) -> str | None:
    """Return the lower-cased host of a URL, or an empty text; `host_of` calls this on SQLite."""
    if url is None:
        return None
    match = _HOST.match(url)
    return match[1].lower()[:_HOST_CHARACTERS] if match else ""


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
    """The lower-cased host of a column of URLs; an empty text if a URL has none."""

    type = String()
    inherit_cache = True
    name = "rehost_host"


class root_of(FunctionElement[str]):  # noqa: N801 - reads as an SQL function
    """The part of a URL before its path, as it is written: few different texts, however many links."""

    type = String()
    inherit_cache = True
    name = "rehost_root"


def is_over(instant: ColumnElement[datetime | None], longest_seconds: float) -> ColumnElement[bool]:
    """Return the condition that a time has passed, or lies further ahead than any is ever set.

    The latter happens when the clock was wrong as it was set; without this it would hold for as long as the error was.
    """
    return or_(instant < now(), instant > after(longest_seconds))


def blank(column: ColumnElement[str | None]) -> ColumnElement[bool]:
    """Return the condition that a column is NULL or has only spaces."""
    return or_(column.is_(None), func.trim(type_coerce(column, Text)) == "")


@compiles(now, "postgresql")
def _now_postgresql(_element: now, _compiler: SQLCompiler, **_kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    return "statement_timestamp()"


@compiles(now, "sqlite")
def _now_sqlite(_element: now, _compiler: SQLCompiler, **_kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    return "((julianday('now') - 2440587.5) * 86400.0)"  # the Julian day of 1970-01-01


@compiles(after, "postgresql")
def _after_postgresql(element: after, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    return f"(statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"


@compiles(after, "sqlite")
def _after_sqlite(element: after, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    return f"((julianday('now') - 2440587.5) * 86400.0 + {compiler.process(element.clauses, **kwargs)})"


@compiles(seconds_until, "postgresql")
def _seconds_postgresql(element: seconds_until, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - hook
    return f"extract(epoch FROM {compiler.process(element.clauses, **kwargs)} - statement_timestamp())::float"


@compiles(seconds_until, "sqlite")
def _seconds_sqlite(element: seconds_until, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - hook
    return f"({compiler.process(element.clauses, **kwargs)} - (julianday('now') - 2440587.5) * 86400.0)"


@compiles(today, "postgresql")
def _today_postgresql(_element: today, _compiler: SQLCompiler, **_kwargs: Any) -> str:  # noqa: ANN401 - hook
    return "floor(extract(epoch FROM statement_timestamp()) / 86400)::integer"


@compiles(today, "sqlite")
def _today_sqlite(_element: today, _compiler: SQLCompiler, **_kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    return "CAST(julianday('now') - 2440587.5 AS INTEGER)"


@compiles(host_of, "postgresql")
def _host_postgresql(element: host_of, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    url = compiler.process(element.clauses, **kwargs)
    return f"coalesce(left(lower(substring({url} from '{HOST}')), {_HOST_CHARACTERS}), '')"


@compiles(host_of, "sqlite")
def _host_sqlite(element: host_of, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    return f"rehost_host({compiler.process(element.clauses, **kwargs)})"


@compiles(root_of, "postgresql")
def _root_postgresql(element: root_of, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    url = compiler.process(element.clauses, **kwargs)
    return f"(split_part({url}, '/', 1) || '//' || split_part({url}, '/', 3))"


@compiles(root_of, "sqlite")
def _root_sqlite(element: root_of, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ANN401 - SQLAlchemy's hook
    url = compiler.process(element.clauses, **kwargs)
    rest = f"substr({url}, instr({url}, '//') + 2)"
    scheme = f"substr({url}, 1, instr({url}, '//') + 1)"
    return f"({scheme} || substr({rest}, 1, instr({rest} || '/', '/') - 1))"
