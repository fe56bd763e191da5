"""Databases: the engine, transactions that bear outages, and the only place where dialects differ."""

from rehost.database.engine import Columns, Connection, Database, LinkRows
from rehost.database.expressions import NEVER, Moment, after, blank, host_of, is_over, now, root_of, seconds_until
from rehost.database.session import Session, look_anew
from rehost.database.temporary import drop_temporary, load, make_temporary, temporary

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
    "drop_temporary",
    "host_of",
    "is_over",
    "load",
    "look_anew",
    "make_temporary",
    "now",
    "root_of",
    "seconds_until",
    "temporary",
]
