"""The command line of the import: progress, bad rows by line, a summary, an exit status."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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
Puts a catalogue of cases into the table ad_cases of the database that DATABASE_URL or DB_* name (environment, or .env
in the folder of the backend). A case that the table has already, by its case_id, takes over the columns that the file
has; main_image_local is never touched."""
EPILOG = """\
FILE is CSV with a header line, JSON Lines or a JSON array of objects, in UTF-8, plain or compressed by gzip. Its
columns are those of ad_cases: case_id and title are needed, unknown ones are passed over.

Exit status: 0 all rows are in the table; 1 some rows were bad, the others are in; 2 usage; 3 the file cannot be read,
or the database cannot be used."""


class CannotImportError(Exception):
    """The import cannot go on; the message says what to do."""


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
        print(error, file=sys.stderr)
        return 2
    except (CannotImportError, UnreadableFileError) as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{file} cannot be read: {error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Interrupted: what was read before is in the table; run it again.", file=sys.stderr)
        return 130


async def _import(file: Path, size: int, url: str) -> int:
    if not url.startswith("postgresql"):
        raise CannotImportError("The table ad_cases is in PostgreSQL: set DATABASE_URL or DB_* to it")
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
        raise CannotImportError(f"The database cannot be reached ({error}): check DB_HOST and DB_PORT") from error


@dataclass(slots=True)
class _Import:
    """Gathers rows into groups, writes them, and counts."""

    connection: asyncpg.Connection
    missing: set[str]
    bar: tqdm[None]
    added: int = 0
    updated: int = 0
    bad: int = 0
    _rows: dict[int, Row] = field(default_factory=dict)
    _lines: dict[int, int] = field(default_factory=dict)

    async def take(self, record: Record) -> None:
        """Take one record in; of two with the same case_id the later one's values hold."""
        if record.fields is None:
            self._name(record.line, record.fault)
            return
        try:
            values = row(record.fields)
        except BadRowError as error:
            self._name(record.line, str(error))
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
        """Write what has gathered."""
        written = await write(self.connection, self._rows, self.missing)
        self.added += written.added
        self.updated += written.updated
        for refused in written.refused:
            self._name(self._lines[refused.case_id], refused.why)
        self._rows.clear()
        self._lines.clear()

    def summary(self) -> str:
        """Return the end of the import in a few lines."""
        lines = [f"{self.added} cases added, {self.updated} updated, {self.bad} bad rows left out."]
        if self.missing:
            lines.append(f"The table lacks these columns, they were left out: {', '.join(sorted(self.missing))}.")
        return "\n".join(lines)

    def _name(self, line: int, why: str) -> None:
        self.bad += 1
        self.bar.write(f"line {line}: {why}", file=sys.stderr)
