"""Databases: the engine, transactions that bear outages, and the only place where dialects differ."""

from rehost.database.engine import Columns, Connection, Database, LinkRows
from rehost.database.expressions import NEVER, Moment, after, blank, host_of, now, root_of, seconds_until
from rehost.database.session import Session, look_anew

__all__ = [
    "NEVER",
    "Columns",
    "Connection",
    "Database",
    "LinkRows",
    "Moment",
    "Session",
    "after",
    "blank",
    "host_of",
    "look_anew",
    "now",
    "root_of",
    "seconds_until",
]
