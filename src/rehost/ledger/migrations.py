"""The numbered steps that create and change our tables; the first command that needs them applies them, in a lock.

A ledger may have millions of links, and other workers and readers at work. So a migration is either quick however many
rows there are (new tables, columns that may be NULL or have a constant default: no row is rewritten), and then one
transaction that waits for a lock for LOCK_SECONDS at most and tries again, as all later readers wait behind it; or it
is long, and then made of steps that keep no reader or writer waiting, and that can be killed anywhere: the next process
completes them. New tables take all of it in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from rehost.db import Connection, Database, Session, now
from rehost.errors import LedgerError
from rehost.ledger import schema

log = logging.getLogger(__name__)

LOCK_SECONDS = 2.0
"""How long a quick migration waits for a table's lock; then it lets the others pass, and tries again."""

BATCH = 10_000  # entries that a long step changes in one transaction
PROGRESS_SECONDS = 5.0  # between two lines about a long step
_LONGEST_SECONDS = 86_400.0  # of one statement: CREATE INDEX CONCURRENTLY waits for the end of every old snapshot
_LOCK = func.hashtextextended("rehost long migrations", 0)


@dataclass(frozen=True, slots=True)
class InBatches:
    """A statement that changes links, a batch of entries at a time, and leaves alone what it has changed already."""

    statement: str  # `{entries}` stands for the condition which entries

    def at_once(self) -> Sequence[str]:
        """Return the statements for a table that nobody else uses."""
        return [self.statement.format(entries="true")]

    async def apply(self, session: Session, _database: Database, report: Callable[[str], None]) -> None:
        """Apply it to all batches."""
        async with session.begin(writing=False) as connection:
            last = await connection.scalar(select(func.max(schema.links.c.entry))) or 0
        for first in range(0, last, BATCH):
            entries = f"entry > {first} AND entry <= {first + BATCH}"
            async with session.begin(writing=True) as connection:
                await connection.exec_driver_sql(self.statement.format(entries=entries))
            report(f"links up to entry {min(first + BATCH, last)} of {last}")


@dataclass(frozen=True, slots=True)
class NewIndex:
    """An index, made beside readers and writers, and the one that it replaces."""

    name: str
    on: str  # what follows ON
    replaces: str

    def at_once(self) -> Sequence[str]:
        """Return the statements for a table that nobody else uses."""
        return [f"CREATE INDEX IF NOT EXISTS {self.name} ON {self.on}", f"DROP INDEX IF EXISTS {self.replaces}"]

    async def apply(self, session: Session, database: Database, report: Callable[[str], None]) -> None:
        """Make it, unless an earlier process did; what one that was killed left of it is useless and is dropped."""
        if database.is_sqlite or database.is_pooled:
            async with session.begin(writing=True) as connection:
                for statement in self.at_once():
                    await connection.exec_driver_sql(statement)
            return
        async with session.begin(writing=False) as connection:
            is_valid = await connection.scalar(text(_IS_VALID).bindparams(name=self.name))
        if is_valid is False:
            await _outside_transactions(session, f"DROP INDEX CONCURRENTLY {self.name}")
        if not is_valid:
            making = _outside_transactions(session, f"CREATE INDEX CONCURRENTLY {self.name} ON {self.on}")
            await _reported(making, partial(self._report, database, report))
        await _outside_transactions(session, f"DROP INDEX CONCURRENTLY IF EXISTS {self.replaces}")

    async def _report(self, database: Database, report: Callable[[str], None]) -> None:
        for row in await database.fetch_all(text(_INDEX_PROGRESS)):
            done = f" {100 * row.done // row.total}%" if row.total else ""
            report(f"index {self.name}, {row.phase}{done}")


_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
_INDEX_PROGRESS = (
    "SELECT phase, greatest(blocks_total, tuples_total, lockers_total) AS total,"
    " greatest(blocks_done, tuples_done, lockers_done) AS done FROM pg_stat_progress_create_index"
    " WHERE datname = current_database()"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, never changed later. `{moment}`, `{serial}` and `{real}` stand for each database's own type names."""

    number: int
    name: str
    statements: tuple[str, ...] = ()
    long: tuple[InBatches | NewIndex, ...] = ()  # in place of statements

    def at_once(self) -> Sequence[str]:
        """Return the statements for tables that nobody else uses."""
        return [*self.statements, *(statement for step in self.long for statement in step.at_once())]


MIGRATIONS = (
    Migration(
        1,
        "first tables",
        (
            """CREATE TABLE rehost_links (
                entry {serial},
                source text NOT NULL, row_key text NOT NULL, position integer NOT NULL,
                url text NOT NULL, page_url text, host text NOT NULL, present boolean NOT NULL DEFAULT true,
                state text NOT NULL DEFAULT 'wanted', due_at {moment} NOT NULL, fence bigint NOT NULL DEFAULT 0,
                worker text, attempts integer NOT NULL DEFAULT 0, reason text, evidence text,
                noted_at {moment} NOT NULL, changed_at {moment}, visited_at {moment},
                found text, pending_digest text, pending_url text,
                key text, digest text, size bigint, held_url text, final_url text, local_url text,
                format text, width integer, height integer, frames integer, etag text, last_modified text,
                held_at {moment}, former_key text,
                UNIQUE (source, row_key, position)
            )""",
            "CREATE INDEX rehost_links_open ON rehost_links (source, host, due_at) WHERE state <> 'held' AND present",
            "CREATE INDEX rehost_links_key ON rehost_links (key) WHERE key IS NOT NULL",
            "CREATE INDEX rehost_links_former ON rehost_links (former_key) WHERE former_key IS NOT NULL",
            "CREATE INDEX rehost_links_digest ON rehost_links (digest) WHERE digest IS NOT NULL",
            """CREATE TABLE rehost_runs (
                run {serial},
                source text NOT NULL, worker text NOT NULL, host text NOT NULL, pid integer NOT NULL,
                os_user text NOT NULL, version text NOT NULL, started_at {moment} NOT NULL, ended_at {moment},
                held integer, unchanged integer, adopted integer, failed integer, overtaken integer, size bigint,
                seconds {real}, interrupted boolean, reasons text, undone_at {moment}
            )""",
            """CREATE TABLE rehost_changes (
                change {serial},
                run bigint NOT NULL, source text NOT NULL, row_key text NOT NULL, position integer NOT NULL,
                url text NOT NULL, before_url text, after_url text, changed_at {moment} NOT NULL
            )""",
            "CREATE INDEX rehost_changes_run ON rehost_changes (run, change)",
            "CREATE INDEX rehost_changes_row ON rehost_changes (source, row_key, position)",
            """CREATE TABLE rehost_origins (
                origin text PRIMARY KEY, referer text NOT NULL, evidence text NOT NULL, learned_at {moment} NOT NULL
            )""",
            """CREATE TABLE rehost_decoys (
                origin text NOT NULL, digest text NOT NULL, evidence text NOT NULL, learned_at {moment} NOT NULL,
                PRIMARY KEY (origin, digest)
            )""",
            """CREATE TABLE rehost_hosts (
                host text PRIMARY KEY, allowance integer NOT NULL DEFAULT 0, proven boolean NOT NULL DEFAULT false,
                paused_until {moment}, evidence text
            )""",
            "CREATE TABLE rehost_workers (worker text PRIMARY KEY, alive_until {moment} NOT NULL)",
            """CREATE TABLE rehost_shares (
                worker text NOT NULL, host text NOT NULL, wanted integer NOT NULL, slots integer NOT NULL,
                reserved integer NOT NULL, PRIMARY KEY (worker, host)
            )""",
        ),
    ),
    Migration(
        2,
        "budgets over all workers",
        (
            """CREATE TABLE rehost_learnings (
                origin text PRIMARY KEY, extra integer NOT NULL, fresh_at {moment} NOT NULL,
                worker text, busy_until {moment}
            )""",
            "CREATE TABLE rehost_budgets (host text PRIMARY KEY, day integer NOT NULL, taken integer NOT NULL)",
        ),
    ),
    Migration(
        3,
        "crews and mended rows",
        (
            "ALTER TABLE rehost_runs ADD COLUMN crew bigint",
            "ALTER TABLE rehost_runs ADD COLUMN mended integer",
            "CREATE INDEX rehost_runs_crew ON rehost_runs (crew) WHERE crew IS NOT NULL",
        ),
    ),
    Migration(
        4,
        "visits",
        (
            """CREATE TABLE rehost_visits (
                entry bigint NOT NULL, slot integer NOT NULL, turn bigint NOT NULL, run bigint NOT NULL,
                first_at {moment} NOT NULL, last_at {moment} NOT NULL, times integer NOT NULL,
                outcome text NOT NULL, reason text, evidence text, digest text, url text NOT NULL,
                PRIMARY KEY (entry, slot)
            )""",
        ),
    ),
    Migration(5, "deaths", ("ALTER TABLE rehost_links ADD COLUMN deaths integer NOT NULL DEFAULT 0",)),
    Migration(
        6,
        "hosts as requests have them",  # `?` is db.OTHER_HOST: the next sync reads these again
        long=(
            InBatches(
                """UPDATE rehost_links SET host = '?' WHERE {entries} AND host <> '?'
                AND (rtrim(host, 'abcdefghijklmnopqrstuvwxyz0123456789._-') <> '' OR host = ''
                OR rtrim(host, '.0123456789') <> host OR replace(host, '0x', '') <> host)"""
            ),
        ),
    ),
    Migration(7, "damage", ("ALTER TABLE rehost_links ADD COLUMN damage text",)),
    Migration(
        8,
        "decoys by folder",
        (
            # What was known of whole origins says nothing of a folder: it is learned again.
            "DROP TABLE rehost_decoys",
            """CREATE TABLE rehost_decoys (
                origin text NOT NULL, folder text NOT NULL, digest text NOT NULL, evidence text NOT NULL,
                learned_at {moment} NOT NULL, confirmed_at {moment}, PRIMARY KEY (origin, folder, digest)
            )""",
            "UPDATE rehost_learnings SET extra = 0",
            "ALTER TABLE rehost_links ADD COLUMN suspected_at {moment}",
        ),
    ),
    Migration(9, "what stopped a run", ("ALTER TABLE rehost_runs ADD COLUMN stopped text",)),
    Migration(10, "stop", ("ALTER TABLE rehost_runs ADD COLUMN stop_at {moment}",)),
    Migration(11, "links that wait for a pause", ("ALTER TABLE rehost_links ADD COLUMN waits_for text",)),
    Migration(
        12,
        "stores and losses",
        (
            """CREATE TABLE rehost_stores (
                number {serial}, store text NOT NULL, folder text NOT NULL, machine text NOT NULL,
                since {moment} NOT NULL
            )""",
            "ALTER TABLE rehost_changes ADD COLUMN lost boolean",
        ),
    ),
    Migration(
        13,
        "upkeep",
        (
            "ALTER TABLE rehost_links ADD COLUMN verified_at {moment}",
            "ALTER TABLE rehost_links ADD COLUMN rescued text",
            "ALTER TABLE rehost_links ADD COLUMN sought_at {moment}",
            "ALTER TABLE rehost_runs ADD COLUMN verb text",
            "ALTER TABLE rehost_changes ADD COLUMN before_key text",
            "ALTER TABLE rehost_changes ADD COLUMN before_digest text",
            "ALTER TABLE rehost_changes ADD COLUMN after_digest text",
            """CREATE TABLE rehost_passes (
                name text PRIMARY KEY, cursor bigint NOT NULL, began_at {moment} NOT NULL, ended_at {moment},
                copies bigint NOT NULL, size bigint NOT NULL, found bigint NOT NULL
            )""",
            """CREATE TABLE rehost_findings (
                finding {serial},
                kind text NOT NULL, source text, row_key text, position integer, key text, evidence text NOT NULL,
                found_at {moment} NOT NULL, last_at {moment} NOT NULL, run bigint, mended_at {moment}, mended_by text
            )""",
            "CREATE INDEX rehost_findings_open ON rehost_findings (kind, key) WHERE mended_at IS NULL",
            """CREATE TABLE rehost_freezes (
                origin text PRIMARY KEY, run bigint NOT NULL, frozen_at {moment} NOT NULL, evidence text NOT NULL,
                answers bigint NOT NULL, bad bigint NOT NULL, examples text NOT NULL,
                decision text, decided_at {moment}
            )""",
            """CREATE TABLE rehost_answers (
                origin text PRIMARY KEY, since {moment} NOT NULL, answers bigint NOT NULL, bad bigint NOT NULL
            )""",
            """CREATE TABLE rehost_takedowns (
                takedown {serial},
                what text NOT NULL, legal boolean NOT NULL, os_user text NOT NULL,
                began_at {moment} NOT NULL, ended_at {moment}, allowed_at {moment}, receipt text
            )""",
            """CREATE TABLE rehost_tombstones (
                kind text NOT NULL, value text NOT NULL, takedown bigint NOT NULL, named boolean NOT NULL,
                PRIMARY KEY (kind, value, takedown)
            )""",
        ),
    ),
    Migration(
        14,
        "the order of leases",
        long=(
            NewIndex(
                "rehost_links_due",
                "rehost_links (source, host, due_at, entry) WHERE state <> 'held' AND present",
                replaces="rehost_links_open",
            ),
        ),
    ),
    Migration(
        15,
        "moves",
        (
            """CREATE TABLE rehost_moves (
                move {serial},
                from_place text NOT NULL, from_store text NOT NULL, to_place text NOT NULL, to_store text NOT NULL,
                phase text NOT NULL, began_at {moment} NOT NULL, ended_at {moment}, emptied_at {moment}
            )""",
            "CREATE TABLE rehost_moved (entry bigint PRIMARY KEY, key text, digest text NOT NULL, evidence text)",
        ),
    ),
)

LATEST = MIGRATIONS[-1].number

_JOURNAL = "CREATE TABLE IF NOT EXISTS rehost_migrations (number integer PRIMARY KEY, name text, applied_at {moment})"
_POSTGRESQL = {
    "moment": "timestamptz",
    "serial": "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "real": "double precision",
}
_SQLITE = {"moment": "real", "serial": "integer PRIMARY KEY", "real": "real"}


async def version(database: Database) -> int:
    """Return the number of the last migration applied here; 0 if our tables do not exist.

    Raises:
        LedgerError: the tables belong to a later version of rehost.
    """
    there = await database.read(_version)
    if there > LATEST:
        raise LedgerError(
            "{place} was last used by a later version of rehost (its tables have number {there}, this version knows "
            "{latest}): install that version.",
            place=database.place.place,
            there=there,
            latest=LATEST,
        )
    return there


async def migrate(database: Database, number: int | None = None) -> None:
    """Bring our tables up to date, or to what they were after the migration of this number; do nothing if they are.

    Raises:
        LedgerError: this user may not create tables, or the tables belong to a later version of rehost.
    """
    wanted = LATEST if number is None else number
    there = await version(database)
    if there == 0:
        await database.transact(lambda connection: _create(connection, database, wanted), slow=True)
        return
    for migration in MIGRATIONS[there:wanted]:
        if migration.long:
            await database.hold(partial(_apply_long, database, migration))
        else:
            await database.transact(partial(_apply, database, migration), slow=True)


async def _version(connection: Connection) -> int:
    is_sqlite = connection.dialect.name == "sqlite"
    look = "count(*) FROM sqlite_master WHERE name = '{}'" if is_sqlite else "to_regclass('{}')"
    if not (await connection.exec_driver_sql(f"SELECT {look.format(schema.migrations.name)}")).scalar():
        return 0
    return int(await connection.scalar(select(func.coalesce(func.max(schema.migrations.c.number), 0))) or 0)


async def _create(connection: Connection, database: Database, wanted: int) -> None:
    await database.lock(connection, "migrations")
    if await _version(connection):
        return  # another process did it
    with _granted(database):
        await connection.exec_driver_sql(_JOURNAL.format(**_words(database)))
        for migration in MIGRATIONS[:wanted]:
            await _apply_at_once(connection, database, migration)


async def _apply(database: Database, migration: Migration, connection: Connection) -> None:
    await database.lock(connection, "migrations")
    if await _version(connection) < migration.number:
        await database.limit_locks(connection, LOCK_SECONDS)
        with _granted(database):
            await _apply_at_once(connection, database, migration)


async def _apply_at_once(connection: Connection, database: Database, migration: Migration) -> None:
    for statement in migration.at_once():
        await connection.exec_driver_sql(statement.format(**_words(database)))
    await _record(connection, database, migration)


@contextmanager
def _granted(database: Database) -> Iterator[None]:
    """Say what to do where this user may not create tables."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "42501":  # insufficient_privilege
            raise LedgerError(
                "{place} does not let the user {user} create tables: GRANT CREATE ON SCHEMA public, or name a database "
                "for rehost's own tables in REHOST_LEDGER_URL.",
                place=database.place.place,
                user=database.place.user,
            ) from error
        raise


async def _apply_long(database: Database, migration: Migration, session: Session) -> None:
    """Apply a long migration, one process at a time; the others wait here."""
    said = "another process is at it"

    def report(what: str) -> None:
        nonlocal said
        said = what

    async def say() -> None:
        log.warning("updating the ledger's tables, %d of %d (%s): %s", migration.number, LATEST, migration.name, said)

    await _reported(_take_turn(database, session), say)
    try:
        async with session.begin(writing=False) as connection:
            there = await _version(connection)
        for step in migration.long if there < migration.number else ():
            report("beginning")
            await _reported(step.apply(session, database, report), say)
        async with session.begin(writing=True) as connection:
            await _record(connection, database, migration)
    finally:
        if _has_turns(database):
            with suppress(SQLAlchemyError):  # a connection that is lost has released it
                async with session.begin(writing=True) as connection:
                    await connection.execute(select(func.pg_advisory_unlock(_LOCK)))


def _has_turns(database: Database) -> bool:
    """Return whether a lock of the session can be had: SQLite has none, and a pooler has no sessions."""
    return not database.is_sqlite and not database.is_pooled


async def _take_turn(database: Database, session: Session) -> None:
    """Wait for the lock, which is the session's, by asking again and again.

    A statement that waits in PostgreSQL has a snapshot, and CREATE INDEX CONCURRENTLY waits for the end of all these.
    """
    for _ in range(int(_LONGEST_SECONDS)):
        async with session.begin(writing=True) as connection:
            if not _has_turns(database):
                await database.lock(connection, "migrations")  # through a pooler all of this is one transaction
                return
            if await connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
                return
        await asyncio.sleep(1.0)
    raise LedgerError(
        "{place}: another process has been updating rehost's tables for a day. End it (see pg_stat_activity), then run "
        "again.",
        place=database.place.place,
    )


async def _reported(work: Coroutine[None, None, None], say: Callable[[], Awaitable[None]]) -> None:
    """Do the work, and call `say` every PROGRESS_SECONDS until it is done."""
    working = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({working}, timeout=PROGRESS_SECONDS))[0]:
            await say()
        await working
    finally:
        working.cancel()
        await asyncio.wait({working})


async def _outside_transactions(session: Session, statement: str) -> None:
    """Run a statement of PostgreSQL that no transaction may contain, and that may take hours."""
    driver = (await session.connection.get_raw_connection()).driver_connection
    assert driver is not None
    await driver.execute(statement, timeout=_LONGEST_SECONDS)


async def _record(connection: Connection, database: Database, migration: Migration) -> None:
    journal = database.insert(schema.migrations)
    values = journal.values(number=migration.number, name=migration.name, applied_at=now())
    await connection.execute(values.on_conflict_do_nothing())


def _words(database: Database) -> dict[str, str]:
    return _SQLITE if database.is_sqlite else _POSTGRESQL
