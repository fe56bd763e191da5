"""Databases: the engine, transactions that bear outages, and the only place where dialects differ."""

from rehost.database.engine import Connection, Database, LinkRows
from rehost.database.expressions import NEVER, Moment, after, blank, host_of, now, seconds_until

__all__ = [
    "NEVER",
    "Connection",
    "Database",
    "LinkRows",
    "Moment",
    "after",
    "blank",
    "host_of",
    "now",
    "seconds_until",
]
