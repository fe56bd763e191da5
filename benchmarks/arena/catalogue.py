"""The operator's side: a PostgreSQL as it is run in earnest (fsync on), a table of links, and `rehost run` over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import Postgres, running_postgres

REHOST = str(Path(sys.executable).with_name("rehost"))
DATABASE = "bench"
EARNEST = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB", "max_connections": "100"}
TABLE = (
    "CREATE TABLE ad_cases (id BIGSERIAL PRIMARY KEY, case_id INTEGER UNIQUE NOT NULL, source_url TEXT NOT NULL,"
    " title VARCHAR(500) NOT NULL, main_image TEXT, main_image_local TEXT)"
)


@contextmanager
def postgresql() -> Iterator[Postgres]:
    """Run a PostgreSQL with its default settings for what makes it safe."""
    with running_postgres(EARNEST) as postgres:
        yield postgres


def fresh_table(postgres: Postgres, urls: Iterable[str], page: str = "https://example.com/") -> None:
    """Make the database anew, with a row per address."""
    postgres.drop_database(DATABASE)
    postgres.create_database(DATABASE)
    postgres.run(TABLE, DATABASE)
    add_rows(postgres, urls, page)


def add_rows(postgres: Postgres, urls: Iterable[str], page: str = "https://example.com/", first: int = 1) -> None:
    """Add a row per address, with case ids from `first` on."""
    rows = "".join(f"{number}\t{page}\tcase\t{url}\n" for number, url in enumerate(urls, first))
    copy = "COPY ad_cases (case_id, source_url, title, main_image) FROM STDIN"
    command = [postgres.psql, "-X", "-q", "-d", DATABASE, "-c", copy]
    subprocess.run(command, input=rows.encode(), env={**os.environ, **postgres.environment}, check=True)
    postgres.run("ANALYZE ad_cases", DATABASE)
    postgres.run("CHECKPOINT")


def settings(postgres: Postgres, *, concurrency: int = 10, verify: str = "structure", **others: str) -> dict[str, str]:
    """Return what rehost is told; what is not said here is as it comes."""
    return {
        "DATABASE_URL": postgres.url(DATABASE),
        "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        "IMAGE_DOWNLOAD_CONCURRENCY": str(concurrency),
        "IMAGE_VERIFY": verify,
        "IMAGE_MIN_FREE_BYTES": "0",
        **others,
    }


def run_command(folder: Path, *options: str) -> Sequence[str]:
    """Return a run into a folder."""
    return [REHOST, "run", "--quiet", "--base", str(folder.parent), "--storage-dir", str(folder), *options]


def unwritten(postgres: Postgres) -> str | None:
    """Return what is wrong where a row does not point at its copy."""
    left = int(postgres.run("SELECT count(*) FROM ad_cases WHERE main_image_local IS NULL", DATABASE))
    return f"{left} rows point at nothing" if left else None
