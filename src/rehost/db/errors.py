"""What went wrong in a database: whether it passes, and the sentence that the operator reads.

PostgreSQL's codes: Appendix A of its manual. SQLite's names: sqlite.org/rescode.html. No sentence holds a password.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import TimeoutError as NoConnectionError

from rehost.errors import OperatorError, shortage

PASSING_CODES = frozenset({
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "55P03",  # lock not available
    "57P01",  # the server is shut down by its administrator
    "57P02",  # the server crashed
    "57P03",  # the server starts or stops just now
    "57P05",  # the session was idle for too long
})  # fmt: skip
PASSING_CLASSES = ("08",)  # connection exceptions
# A cached statement whose table has been altered is prepared anew by the next try. Its code, 0A000, is that of whatever
# a database does not support as well; asyncpg tells it apart (InvalidCachedStatementError).
PASSING_NAME = "InvalidCachedStatementError"
STARTING_UP = "57P03"

_SENTENCES = {
    "28P01": "{server} refuses the password of the user {user}: check DB_USER and DB_PASSWORD, or DATABASE_URL.",
    "28000": "{server} does not let the user {user} in ({message}): check DB_USER and the server's pg_hba.conf.",
    "3D000": "{server} has no database {database}: check DB_NAME, or create it with createdb.",
    "42P01": "{place}: {message}. Check the name of the table and its schema.",
    "42703": "{place}: {message}. For main_image_local run database/migrations/006_add_main_image_local_field.sql.",
    "42501": "{place}: {message}. Let its owner GRANT what is missing to the user {user}.",
    "22001": "{place}: {message}. Give the column for the local URL the type TEXT.",
    "25006": "{place} is read-only (a standby, or default_transaction_read_only): name the server that takes writes.",
    "53300": "{server} has no connection left: raise its max_connections, or run fewer workers.",
    "53100": "{server} has no disk space left: make room there, then run again.",
    "57P03": "{server} takes no connections yet ({message}): run again when it does.",
    "SQLITE_FULL": "There is no disk space left for {database}: make room, then run again.",
    "SQLITE_READONLY": "{database} cannot be written: check the rights of the file and of its folder.",
    "SQLITE_CANTOPEN": "{database} cannot be opened: check that its folder exists and can be written.",
    "SQLITE_NOTADB": "{database} is no SQLite database: check DATABASE_URL.",
    "SQLITE_CORRUPT": "{database} is damaged: restore it from a backup, or repair it with sqlite3's .recover.",
    "SQLITE_IOERR": "The disk of {database} fails ({message}).",
    "SQLITE_BUSY": "{database} is locked by another program for too long: find which, then run again.",
}


class Place:
    """Where a database is, in words that may be shown."""

    def __init__(self, *, host: str | None, port: int | None, database: str, user: str | None) -> None:
        self.server = f"The database server at {host}:{port}" if host else database
        self.place = f"The database {database} at {host}:{port}" if host else f"The database {database}"
        self.database = database
        self.user = user or "(none)"
        self.is_server = host is not None


class Elsewhere(Exception):  # noqa: N818 - said between the parts of this package
    """Another database than the one at work failed while its rows were read; raised from what it said.

    Attributes:
        place: where that one is.
        error: what its failures are to the operator.
    """

    def __init__(self, place: Place, error: type[OperatorError]) -> None:
        super().__init__(place.place)
        self.place = place
        self.error = error


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was made from, outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [getattr(each, "orig", None), each.__cause__]


def code_of(error: BaseException) -> str | None:
    """Return PostgreSQL's five characters or SQLite's name for an error, if it has one."""
    for each in causes(error):
        code = getattr(each, "sqlstate", None) or getattr(each, "sqlite_errorname", None)
        if isinstance(code, str):
            return code
    return None


def is_passing(error: BaseException) -> bool:
    """Tell whether the same transaction, tried again from its start, may go well."""
    code = code_of(error)
    if code is None:
        return is_unreachable(error) and _shortage(error) is None
    if any(type(each).__name__ == PASSING_NAME for each in causes(error)):
        return True
    return code in PASSING_CODES or code.startswith(PASSING_CLASSES) or is_locked(error)


def is_locked(error: BaseException) -> bool:
    """Tell whether another program holds the SQLite file."""
    return (code_of(error) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def is_unreachable(error: BaseException) -> bool:
    """Tell whether there was no connection, or it broke, or nothing came over it."""
    return any(
        isinstance(each, OSError | NoConnectionError)
        or getattr(each, "connection_invalidated", False)
        or type(each).__name__ in {"ConnectionDoesNotExistError", "InterfaceError"}
        for each in causes(error)
    )


def _is_silent(error: BaseException) -> bool:
    """Tell whether a time was up: of a statement, or of who waits for a connection while others wait for answers."""
    return any(
        isinstance(each, NoConnectionError) or (isinstance(each, TimeoutError) and not each.strerror)
        for each in causes(error)
    )


def _shortage(error: BaseException) -> OperatorError | None:
    """Return what it means where this process has too many files open to connect."""
    return next((short for each in causes(error) if (short := shortage(each))), None)


def sentence(error: BaseException, place: Place) -> str:
    """Return what happened and what the operator can do."""
    if (short := _shortage(error)) is not None:
        return str(short)
    code = code_of(error)
    is_silent = _is_silent(error)
    message = "no answer in time" if is_silent else _message(list(causes(error))[-1])
    if code is not None:
        for known, text in _SENTENCES.items():
            if code == known or (known.startswith("SQLITE_") and code.startswith(known)):
                return text.format(**vars(place), message=message)
    elif is_silent and place.is_server:
        return (
            f"{place.server} gives no answer: check that it runs, that DB_HOST and DB_PORT, or DATABASE_URL, lead to "
            "it, and that no other program keeps its tables locked (pg_stat_activity tells)."
        )
    elif is_unreachable(error) and place.is_server:
        return (
            f"{place.server} cannot be reached ({message}): check that it runs and that DB_HOST and DB_PORT, "
            "or DATABASE_URL, lead to it."
        )
    return f"{place.place}: {message}" + (f" ({code})." if code else ".")


def _message(error: BaseException) -> str:
    """Return an error's first line: what follows may show the contents of rows."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error.args[0] if error.args else error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
