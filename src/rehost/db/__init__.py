"""Databases: the engine, transactions that bear outages, and the only place where dialects differ."""

from rehost.db.bulk import drop_temporary, load, make_temporary, temporary
from rehost.db.engine import Columns, Connection, Database, LinkRows
from rehost.db.session import Session, look_anew
from rehost.db.sql_functions import NEVER, Moment, after, blank, host_of, is_over, now, root_of, seconds_until

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
