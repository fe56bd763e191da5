"""A PostgreSQL with production settings (fsync on), a table of links, and `rehost run` over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import Postgres, running_postgres

REHOST = str(Path(sys.executable).with_name("rehost"))
RECORD = (sys.executable, str(Path(__file__).with_name("record_links.py")))
DATABASE = "bench"
EARNEST = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB", "max_wal_size": "1GB"}
PAGE = "https://example.com/"
TABLE = (
    "CREATE TABLE ad_cases (id BIGSERIAL PRIMARY KEY, case_id INTEGER UNIQUE NOT NULL, source_url TEXT NOT NULL,"
    " title VARCHAR(500) NOT NULL, main_image TEXT, main_image_local TEXT)"
)


@contextmanager
def postgresql() -> Iterator[Postgres]:
    """Run a PostgreSQL with its default durability settings."""
    with running_postgres(EARNEST, in_memory=False) as postgres:
        yield postgres


def fresh_table(postgres: Postgres, rows: Iterable[tuple[str, str]], database: str = DATABASE) -> None:
    """Create a database again with these rows."""
    postgres.drop_database(database)
    postgres.create_database(database)
    postgres.run(TABLE, database)
    add_rows(postgres, rows, database=database)


def add_made_up_rows(postgres: Postgres, first: int, last: int, url: str, database: str = DATABASE) -> None:
    """Add rows with these case ids, without passing any through this process; `url` is SQL for the link of row `n`."""
    if first <= last:
        adding = (
            f"INSERT INTO ad_cases (case_id, source_url, title, main_image) SELECT n, '{PAGE}', 'case', {url}"
            f" FROM generate_series({first}, {last}) AS numbers(n)"
        )
        postgres.run(adding, database, seconds=3600)
        postgres.run("ANALYZE ad_cases", database)
    postgres.run("CHECKPOINT", seconds=1800)


def add_rows(postgres: Postgres, rows: Iterable[tuple[str, str]], first: int = 1, database: str = DATABASE) -> None:
    """Add rows with a link and the page that shows it; case ids begin at `first`."""
    lines = "".join(f"{number}\t{page}\tcase\t{url}\n" for number, (url, page) in enumerate(rows, first))
    copy = "COPY ad_cases (case_id, source_url, title, main_image) FROM STDIN"
    command = [postgres.psql, "-X", "-q", "-d", database, "-c", copy]
    subprocess.run(command, input=lines.encode(), env={**os.environ, **postgres.environment}, check=True)
    postgres.run("ANALYZE ad_cases", DATABASE)
    postgres.run("CHECKPOINT")


def on(page: str, urls: Iterable[str]) -> list[tuple[str, str]]:
    """Return rows for these links, all on one page."""
    return [(url, page) for url in urls]


def settings(postgres: Postgres, *, concurrency: int = 10, verify: str = "structure", **others: str) -> dict[str, str]:
    """Return the settings of rehost; all others have their defaults."""
    return {
        "DATABASE_URL": postgres.url(DATABASE),
        "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        "IMAGE_DOWNLOAD_CONCURRENCY": str(concurrency),
        "IMAGE_VERIFY": verify,
        "IMAGE_MIN_FREE_BYTES": "0",
        **others,
    }


def run_command(folder: Path, *options: str) -> Sequence[str]:
    """Return the command of a run that stores to a folder."""
    return [REHOST, "run", "--quiet", "--base", str(folder.parent), "--storage-dir", str(folder), *options]


def unwritten(postgres: Postgres) -> str | None:
    """Return an error if a row does not point at its copy."""
    left = int(postgres.run("SELECT count(*) FROM ad_cases WHERE main_image_local IS NULL", DATABASE))
    return f"{left} rows have no local URL" if left else None
