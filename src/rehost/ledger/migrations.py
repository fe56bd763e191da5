"""The numbered steps that create and change our tables; the first command that needs them applies them, in a lock."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, inspect, select
from sqlalchemy.exc import DBAPIError

from rehost.db import Connection, Database, now
from rehost.errors import LedgerError
from rehost.ledger import schema


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, never changed later. `{moment}`, `{serial}` and `{real}` stand for each database's own type names."""

    number: int
    name: str
    statements: tuple[str, ...]


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
        (
            """UPDATE rehost_links SET host = '?'
                WHERE rtrim(host, 'abcdefghijklmnopqrstuvwxyz0123456789._-') <> '' OR host = ''
                OR rtrim(host, '.0123456789') <> host OR replace(host, '0x', '') <> host""",
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
        (
            """CREATE INDEX rehost_links_due ON rehost_links (source, host, due_at, entry)
                WHERE state <> 'held' AND present""",
            "DROP INDEX rehost_links_open",
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
    if await version(database) < wanted:
        await database.transact(lambda connection: _apply(connection, database, wanted), slow=True)


async def _version(connection: Connection) -> int:
    if not await connection.run_sync(lambda sync: inspect(sync).has_table(schema.migrations.name)):
        return 0
    return int(await connection.scalar(select(func.coalesce(func.max(schema.migrations.c.number), 0))) or 0)


async def _apply(connection: Connection, database: Database, wanted: int) -> None:
    await database.lock(connection, "migrations")
    words = _SQLITE if database.is_sqlite else _POSTGRESQL
    there = await _version(connection)
    try:
        await connection.exec_driver_sql(_JOURNAL.format(**words))
        for migration in MIGRATIONS:
            if there < migration.number <= wanted:
                for statement in migration.statements:
                    await connection.exec_driver_sql(statement.format(**words))
                await connection.execute(
                    schema.migrations.insert().values(number=migration.number, name=migration.name, applied_at=now())
                )
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "42501":  # insufficient_privilege
            raise LedgerError(
                "{place} does not let the user {user} create tables: GRANT CREATE ON SCHEMA public, or name a database "
                "for rehost's own tables in REHOST_LEDGER_URL.",
                place=database.place.place,
                user=database.place.user,
            ) from error
        raise
