"""Databases: connections, transactions that survive outages, and all differences between PostgreSQL and SQLite."""

from rehost.db.dialects import NEVER, Moment, after, blank, host_of, is_over, now, root_of, seconds_until, today
from rehost.db.engine import (
    Columns,
    Connection,
    Database,
    LinkRows,
    Session,
    analyze,
    drop_temporary,
    load,
    make_temporary,
    temporary,
    temporary_table,
)

__all__ = [
    "NEVER",
    "Columns",
    "Connection",
    "Database",
    "LinkRows",
    "Moment",
    "Session",
    "after",
    "analyze",
    "blank",
    "drop_temporary",
    "host_of",
    "is_over",
    "load",
    "make_temporary",
    "now",
    "root_of",
    "seconds_until",
    "temporary",
    "temporary_table",
    "today",
]
