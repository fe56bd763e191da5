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

    The latter happens if the clock was wrong when the time was set; without this it would not pass for just as long.
    """
    return or_(instant < now(), instant > after(longest_seconds))


def blank(column: ColumnElement[str | None]) -> ColumnElement[bool]:
    """Return the condition that a column is NULL or has only spaces."""
    return or_(column.is_(None), func.trim(type_coerce(column, Text)) == "")


def _spell(function: type[FunctionElement[Any]], *, postgresql: str, sqlite: str) -> None:
    """Set how each database spells a function; `<x>` stands for its argument."""
    for dialect, template in (("postgresql", postgresql), ("sqlite", sqlite)):

        def spell(element: Any, compiler: SQLCompiler, template: str = template, **kwargs: Any) -> str:  # noqa: ANN401 - hook
            return template.replace("<x>", compiler.process(element.clauses, **kwargs))

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
_spell(
    host_of,
    postgresql=f"coalesce(left(lower(substring(<x> from '{HOST}')), {_HOST_CHARACTERS}), '')",
    sqlite="rehost_host(<x>)",
)
_spell(
    root_of,
    postgresql="(split_part(<x>, '/', 1) || '//' || split_part(<x>, '/', 3))",
    sqlite=(
        "(substr(<x>, 1, instr(<x>, '//') + 1) || substr(substr(<x>, instr(<x>, '//') + 2), 1,"
        " instr(substr(<x>, instr(<x>, '//') + 2) || '/', '/') - 1))"
    ),
)
