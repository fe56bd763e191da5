"""Writes rows to ad_cases in groups: adds new cases, and updates known ones in the columns that the file has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from importing.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from importing.rows import Row

_TYPES = {
    "case_id": "int",
    "score": "int",
    "favourite": "int",
    "publish_time": "date",
    "images": "jsonb",
    "tags": "jsonb",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that the table does not accept."""

    case_id: int
    why: str


@dataclass(frozen=True, slots=True)
class Written:
    """The result of writing a group of rows."""

    added: int
    updated: int
    refused: Sequence[Refused] = ()


async def missing_columns(connection: asyncpg.Connection) -> set[str]:
    """Return the columns that a file may fill but this table lacks.

    Raises:
        LookupError: the table does not exist.
    """
    found = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('ad_cases') AND attnum > 0 AND NOT attisdropped"
    )
    if not found:
        raise LookupError("ad_cases")
    return set(COLUMNS) - {each["attname"] for each in found}


async def write(connection: asyncpg.Connection, rows: Mapping[int, Row], missing: set[str]) -> Written:
    """Write rows by their case_id: all at once, or one by one if the table refuses some."""
    written = []
    for columns, alike in _alike(rows.values(), missing).items():
        try:
            written.append(await _upsert(connection, columns, alike))
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            written.extend([await _try_one(connection, columns, row) for row in alike])
    return Written(
        added=sum(each.added for each in written),
        updated=sum(each.updated for each in written),
        refused=[row for each in written for row in each.refused],
    )


def _alike(rows: Iterable[Row], missing: set[str]) -> dict[tuple[str, ...], list[Row]]:
    """Group rows by their columns: a column that a row lacks keeps its value in the table."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(sorted(row.keys() - missing)), []).append(row)
    return groups


async def _try_one(connection: asyncpg.Connection, columns: Sequence[str], row: Row) -> Written:
    try:
        return await _upsert(connection, columns, [row])
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        case_id = row["case_id"]
        assert isinstance(case_id, int)
        return Written(0, 0, [Refused(case_id, str(error))])


async def _upsert(connection: asyncpg.Connection, columns: Sequence[str], rows: Sequence[Row]) -> Written:
    arrays = ", ".join(f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(columns, 1))
    names = ", ".join(columns)
    # An empty page never replaces the one that the table has.
    fresh = {name: f"EXCLUDED.{name}" for name in columns if name != "case_id"}
    fresh["source_url"] = "COALESCE(NULLIF(EXCLUDED.source_url, ''), cases.source_url)"
    sets = ", ".join(f"{name} = {value}" for name, value in fresh.items())
    sql = (
        f"INSERT INTO ad_cases AS cases ({names}) SELECT * FROM unnest({arrays}) "  # noqa: S608  names are constants
        f"ON CONFLICT (case_id) DO UPDATE SET {sets} RETURNING xmax = 0 AS added"
    )
    outcome = await connection.fetch(sql, *([row[name] for row in rows] for name in columns))
    added = sum(each["added"] for each in outcome)
    return Written(added, len(outcome) - added)
