"""The command line of the import: progress, invalid rows with their lines, a summary, an exit status."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
from tqdm import tqdm

import checkout
import rehost
from address import plain
from importing.files import Record, UnreadableFileError, read
from importing.rows import BadRowError, Row, row
from importing.table import missing_columns, write

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = 500  # rows in one statement
CONNECT_SECONDS = 10.0

DESCRIPTION = """\
Imports a catalogue of cases into the table ad_cases of the database that DATABASE_URL or DB_* name (in the environment
or in .env in the backend's folder). If the table already has a case (by case_id), the columns of the file replace its
values; main_image_local is never changed."""
EPILOG = """\
FILE is CSV with a header line, JSON Lines or a JSON array of objects, in UTF-8, plain or compressed with gzip. Its
columns are those of ad_cases: case_id and title are required, unknown ones are ignored.

Exit status: 0 all rows were imported; 1 some rows were invalid, the others were imported; 2 usage; 3 the file cannot be
read, or the database cannot be used."""


class CannotImportError(Exception):
    """The import cannot continue; the message says what to do."""


class UnreachableError(CannotImportError):
    """The database cannot be reached."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        "import_cases.py", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", type=Path)
    file: Path = parser.parse_args(arguments).file
    try:
        settings = rehost.load_settings(checkout.BACKEND, os.environ, {})
        return asyncio.run(_import(file, file.stat().st_size, settings.database_url))
    except rehost.SettingsError as error:
        print(error.translated(), file=sys.stderr)
        return 2
    except (CannotImportError, UnreadableFileError) as error:
        print(error, file=sys.stderr)
        if isinstance(error, UnreachableError) and not settings.found:
            print(f"{checkout.BACKEND} has no .env: copy env.example to .env, and name the database", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{file} cannot be read: {error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Interrupted: the rows read so far are in the table; run it again for the rest.", file=sys.stderr)
        return 130


async def _import(file: Path, size: int, url: str) -> int:
    if not url.startswith("postgresql"):
        raise CannotImportError("The table ad_cases is in PostgreSQL: set DATABASE_URL or DB_* accordingly")
    connection = await _connect(url)
    try:
        missing = await missing_columns(connection)
        with tqdm(total=size, desc=file.name, unit="B", unit_scale=True, disable=None) as bar:
            done = _Import(connection, missing, bar)
            try:
                for record in read(file, lambda position: bar.update(position - bar.n)):
                    await done.take(record)
            finally:
                await done.flush()
    except LookupError as error:
        raise CannotImportError("The database has no table ad_cases: run database/init.sql first") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise CannotImportError(f"The database stopped the import: {error}; run it again") from error
    finally:
        connection.terminate()
    print(done.summary())
    return 1 if done.bad else 0


async def _connect(url: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(plain(url), timeout=CONNECT_SECONDS)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise CannotImportError(f"{error}: check DB_USER and DB_PASSWORD") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise CannotImportError(f"{error}: create it, or check DB_NAME") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        place, cause = urlsplit(url), str(error) or "no answer in time"
        raise UnreachableError(
            f"The database server at {place.hostname or 'localhost'}:{place.port or 5432} cannot be reached "
            f"({re.sub(r'^.Errno [0-9]+. ', '', cause)}): check that it is running, and DB_HOST and DB_PORT"
        ) from error


@dataclass(slots=True)
class _Import:
    """Collects rows into groups, writes them, and counts the results."""

    connection: asyncpg.Connection
    missing: set[str]
    bar: tqdm[None]
    added: int = 0
    updated: int = 0
    bad: int = 0
    _rows: dict[int, Row] = field(default_factory=dict)
    _lines: dict[int, int] = field(default_factory=dict)

    async def take(self, record: Record) -> None:
        """Add one record; of two with the same case_id, the values of the later one win."""
        if record.fields is None:
            self._report(record.line, record.fault)
            return
        try:
            values = row(record.fields)
        except BadRowError as error:
            self._report(record.line, str(error))
            return
        case_id = values["case_id"]
        assert isinstance(case_id, int)
        if case_id in self._rows:
            await self.flush()
        self._rows[case_id] = values
        self._lines[case_id] = record.line
        if len(self._rows) >= GROUP:
            await self.flush()

    async def flush(self) -> None:
        """Write the collected rows."""
        written = await write(self.connection, self._rows, self.missing)
        self.added += written.added
        self.updated += written.updated
        for refused in written.refused:
            self._report(self._lines[refused.case_id], refused.why)
        self._rows.clear()
        self._lines.clear()

    def summary(self) -> str:
        """Return the summary of the import."""
        cases, rows = "case" if self.added == 1 else "cases", "row" if self.bad == 1 else "rows"
        lines = [f"{self.added} {cases} added, {self.updated} updated, {self.bad} invalid {rows} skipped."]
        if self.missing:
            lines.append(f"The table lacks these columns, which were skipped: {', '.join(sorted(self.missing))}.")
        return "\n".join(lines)

    def _report(self, line: int, why: str) -> None:
        self.bad += 1
        self.bar.write(f"line {line}: {why}", file=sys.stderr)
