"""Errors of databases: whether a retry may help, and the sentence that the operator reads.

PostgreSQL's codes: Appendix A of its manual. SQLite's names: sqlite.org/rescode.html. No sentence contains a password.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from rehost.clock import Clock
from rehost.errors import OperatorError, cause_of, shortage
from rehost.language import Message

if TYPE_CHECKING:
    from rehost.events import Listener

_TRANSIENT_CODES = frozenset({
    "25P03",  # the transaction was idle for too long
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "55P03",  # lock not available
    "57P01",  # the server is shut down by its administrator
    "57P02",  # the server crashed
    "57P03",  # the server is starting or stopping
    "57P05",  # the session was idle for too long
})  # fmt: skip
_TRANSIENT_CLASSES = ("08",)  # connection exceptions
# A cached statement whose table was altered is prepared again by the next try. Its code, 0A000, also stands for
# everything that a database does not support; asyncpg has a class of its own for it.
_TRANSIENT_CLASS = "InvalidCachedStatementError"
STARTING_UP = "57P03"
AWAY = frozenset({"57P01", "57P02", STARTING_UP})
_LOCKED = "55P03"
_CANCELLED = "57014"  # a statement took longer than statement_timeout
_NOT_OF_ROWS = ("08", "53", "57", "58")  # connection, resources, intervention, system
_OF_ROWS = ("SQLITE_CONSTRAINT", "SQLITE_ERROR", "SQLITE_MISMATCH", "SQLITE_TOOBIG")
_EVIDENCE_CHARACTERS = 300

_POOLER = (
    "{server}: {message}. If that is a connection pooler such as PgBouncer, give it pool_mode transaction or session, "
    "and DATABASE_URL no options; or use the database's own port."
)
SENTENCES = {
    "08003": _POOLER,
    "08P01": _POOLER,
    "28P01": "{server} refuses the password of the user {user}: check DB_USER and DB_PASSWORD, or DATABASE_URL.",
    "28000": "{server} rejects the user {user} ({message}): check DB_USER, or DATABASE_URL, and its pg_hba.conf.",
    "3D000": "{server} has no database {database}: check DB_NAME, or DATABASE_URL, or create it with createdb.",
    "42P01": "{place}: {message}. Check the name of the table and its schema.",
    "42703": "{place}: {message}. For main_image_local run database/migrations/006_add_main_image_local_field.sql.",
    "42501": "{place}: {message}. Have its owner GRANT it to the user {user}: SELECT and UPDATE on the source's table, "
    "and all on tables named rehost_*.",
    "22001": "{place}: {message}. Give the column for the local URL the type TEXT.",
    "25006": "{place} is read-only (a standby, or default_transaction_read_only): use a server that accepts writes.",
    "53300": "{server} has no free connection: raise its max_connections, or run fewer workers.",
    "53100": "{server} has no disk space left: free some there, then run again.",
    "55P03": "{place}: {message}. Another program keeps a table locked (see pg_stat_activity): end it, then run again.",
    "57P03": "{server} does not accept connections yet ({message}): run again when it does.",
    "SQLITE_FULL": "There is no disk space left for {database}: free some, then run again.",
    "SQLITE_READONLY": "{database} cannot be written to: check the permissions of the file and its folder.",
    "SQLITE_CANTOPEN": "{database} cannot be opened: check that its folder exists and can be written to.",
    "SQLITE_NOTADB": "{database} is not a SQLite database: check DATABASE_URL.",
    "SQLITE_CORRUPT": "{database} is damaged: restore it from a backup, or repair it with sqlite3's .recover.",
    "SQLITE_IOERR": "{database} cannot be read or written because of a disk error ({message}).",
    "SQLITE_BUSY": "Another program has kept {database} locked for too long: find it, then run again.",
}


class Place:
    """Where a database is, in words that users may see; `server` and `place` begin a sentence."""

    def __init__(self, *, host: str | None, port: int | None, database: str, user: str | None) -> None:
        where = {"database": database, "host": host, "port": port}
        self.server = Message("The database server at {host}:{port}", **where) if host else database
        self.place = Message("The database {database} at {host}:{port}" if host else "The database {database}", **where)
        self.database = database
        self.user = user or Message("(none)")
        self.is_server = host is not None


class OtherDatabase(Exception):  # noqa: N818 - only used within this package
    """Another database failed while a transaction of this one read its rows; raised from that database's error.

    Attributes:
        place: where the other database is.
        error: the kind of OperatorError for its failures.
    """

    def __init__(self, place: Place, error: type[OperatorError]) -> None:
        super().__init__(place.place)
        self.place = place
        self.error = error


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, outermost first."""
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


def is_transient(error: BaseException) -> bool:
    """Return whether the same transaction may succeed if it is tried again from its start."""
    code = code_of(error)
    if code is None:
        return is_unreachable(error) and _shortage(error) is None
    if any(type(each).__name__ == _TRANSIENT_CLASS for each in causes(error)):
        return True
    return code in _TRANSIENT_CODES or code.startswith(_TRANSIENT_CLASSES) or is_locked(error)


def is_locked(error: BaseException) -> bool:
    """Return whether another program has locked the SQLite file."""
    return (code_of(error) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def is_of_rows(error: BaseException) -> bool:
    """Return whether a statement may have failed because of some of its rows: a trigger, a constraint, a lock."""
    code = code_of(error) or ""
    if code.startswith("SQLITE_"):
        return code.startswith(_OF_ROWS)
    if code in {_LOCKED, _CANCELLED}:
        return True
    return bool(code) and not code.startswith(_NOT_OF_ROWS) and not is_transient(error)


def is_locked_row(error: BaseException) -> bool:
    """Return whether a lock of another transaction was in the way for too long."""
    return code_of(error) in {_LOCKED, _CANCELLED}


def evidence_of(error: BaseException) -> str:
    """Return the database's own words for the failure of one row: one line, bounded."""
    return f"{_message(list(causes(error))[-1])[:_EVIDENCE_CHARACTERS]} ({code_of(error)})"


def is_unreachable(error: BaseException) -> bool:
    """Return whether no connection could be made, or one broke, or no answer came over it."""
    return any(
        isinstance(each, OSError | NoConnectionError)
        or getattr(each, "connection_invalidated", False)
        or type(each).__name__ in {"ConnectionDoesNotExistError", "InterfaceError"}
        for each in causes(error)
    )


def _is_silent(error: BaseException) -> bool:
    """Return whether a statement timed out, or a wait for a connection while all of them wait for answers."""
    return any(
        isinstance(each, NoConnectionError) or (isinstance(each, TimeoutError) and not each.strerror)
        for each in causes(error)
    )


def _shortage(error: BaseException) -> OperatorError | None:
    """Return the error for a process that has too many files open to connect, if this is the cause."""
    return next((short for each in causes(error) if (short := shortage(each))), None)


def is_database_error(error: Exception) -> bool:
    """Return whether an error came from a database; drivers raise some of theirs, and the system's, unwrapped."""
    module = type(error).__module__
    return isinstance(error, OtherDatabase | SQLAlchemyError | OSError) or module.startswith(("asyncpg", "sqlite3"))


def operator_error(caught: BaseException, place: Place, error: type[OperatorError]) -> OperatorError:
    """Return the error for the operator, of the kind `error` unless another database failed."""
    if isinstance(caught, OtherDatabase):
        return caught.error(sentence_for(caught, caught.place))
    return error(sentence_for(caught, place))


def sentence_for(error: BaseException, place: Place) -> Message:
    """Return a sentence that says what happened and what the operator can do."""
    if (short := _shortage(error)) is not None:
        return short.messages[0]
    code = code_of(error)
    is_silent = _is_silent(error)
    message = Message("no response in time") if is_silent else _message(list(causes(error))[-1])
    if code is not None:
        for known, text in SENTENCES.items():
            if code == known or (known.startswith("SQLITE_") and code.startswith(known)):
                return Message(text, **vars(place), message=message)
    elif is_silent and place.is_server:
        return Message(
            "{server} does not respond: check that it is running, that DB_HOST and DB_PORT, or DATABASE_URL, point to "
            "it, and that no other program keeps its tables locked (see pg_stat_activity).",
            server=place.server,
        )
    elif is_unreachable(error) and place.is_server:
        if "SSL" in message:  # asyncpg's words, and those of Python's ssl
            return Message(
                "{server} cannot be reached over TLS ({message}): check `sslmode` and `sslrootcert` in DATABASE_URL.",
                server=place.server,
                message=message,
            )
        return Message(
            "{server} cannot be reached ({message}): check that it is running and that DB_HOST and DB_PORT, or "
            "DATABASE_URL, point to it.",
            server=place.server,
            message=message,
        )
    message = Message("{message} ({code})", message=message, code=code) if code else message
    return Message("{place}: {message}.", place=place.place, message=message)


def _message(error: BaseException) -> Message:
    """Return the first line of an error's message; the lines after it may show the contents of rows."""
    if isinstance(error, OSError) and error.strerror:
        return cause_of(error)
    lines = str(error.args[0] if error.args else error).strip().splitlines()
    return Message(lines[0] if lines else type(error).__name__)


FIRST_WAIT = 0.05
LONGEST_WAIT = 3.0
"""Seconds between two tries during an outage; the first wait, doubled up to the longest."""


@dataclass(slots=True)
class OutageRetry:
    """The retries of one transaction, or of several on one connection.

    An outage counts from its first failure, however long the work that failed had taken.
    """

    clock: Clock
    random: Random
    place: Place
    error: type[OperatorError]
    max_seconds: Callable[[BaseException], float]  # of an outage with this error
    listen: Listener
    _since: float | None = None
    _wait: float = FIRST_WAIT
    _is_away: bool = False

    async def wait(self, caught: Exception) -> None:
        """Wait a moment, after which another try is worth it.

        Raises:
            OperatorError: another try cannot help, or the outage has lasted too long.
        """
        now = self.clock.monotonic()
        self._since = now if self._since is None else self._since
        if not is_transient(caught) or now - self._since >= self.max_seconds(caught):
            raise operator_error(caught, self.place, self.error) from caught
        if is_unreachable(caught) or code_of(caught) in AWAY:
            from rehost.events import DatabaseAway

            self._is_away = True
            self.listen(DatabaseAway(self.place.server, now - self._since))
        await self.clock.sleep(self._wait * self.random.uniform(0.5, 1.5))
        self._wait = min(LONGEST_WAIT, self._wait * 2)

    def reset(self) -> None:
        """Count from the beginning: the work has gone on since the last failure."""
        if self._is_away and self._since is not None:
            from rehost.events import DatabaseBack

            self.listen(DatabaseBack(self.place.server, self.clock.monotonic() - self._since))
        self._since, self._wait, self._is_away = None, FIRST_WAIT, False
