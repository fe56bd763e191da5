"""A catalogue, a store and an origin around `python -m rehost run`, each in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.journeys.fork_server import ForkServer, Program
from tests.origin import Origin
from tests.postgres import Postgres

TABLE = (
    "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url TEXT NOT NULL, main_image TEXT,"
    " main_image_local TEXT)"
)
LIMIT = 120.0  # seconds that a run may take

# Copies of all tables, and of the positions of their sequences, in a schema of their own: fifty times as fast as to
# drop the database and to create it again from a template.
KEEP = """
DROP SCHEMA IF EXISTS kept CASCADE;
CREATE SCHEMA kept;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('CREATE TABLE kept.%1$I AS TABLE public.%1$I', name);
    END LOOP;
    CREATE TABLE kept." sequences" AS SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public';
END $$
"""
RESTORE = """
SET client_min_messages = warning;
SET session_replication_role = replica;
DO $$ DECLARE name text; at bigint; BEGIN
    PERFORM pg_terminate_backend(pid, 60000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        IF to_regclass(format('kept.%I', name)) IS NULL THEN
            EXECUTE format('DROP TABLE public.%I CASCADE', name);
        ELSE
            EXECUTE format('DELETE FROM public.%I', name);
            EXECUTE format('INSERT INTO public.%1$I OVERRIDING SYSTEM VALUE TABLE kept.%1$I', name);
        END IF;
    END LOOP;
    FOR name, at IN SELECT sequencename, last_value FROM kept." sequences" LOOP
        PERFORM setval(format('public.%I', name), coalesce(at, 1), at IS NOT NULL);
    END LOOP;
END $$
"""

Command = Program | subprocess.Popen[str]


@dataclass
class World:
    """A catalogue, a store and an origin, before and after runs."""

    folder: Path
    origin: Origin
    postgres: Postgres | None
    database: str = "kills"
    settings: Mapping[str, str] = field(default_factory=dict)
    urls: Sequence[str] = ()
    fork_server: ForkServer | None = None

    @property
    def store(self) -> Path:
        return self.folder / "images"

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        if self.postgres is not None:
            text = self.postgres.run(statement, self.database)
            return [tuple(line.split("|")) for line in text.splitlines()]
        with contextlib.closing(sqlite3.connect(self.folder / "catalogue.db")) as connection, connection:
            return [tuple("" if cell is None else str(cell) for cell in row) for row in connection.execute(statement)]

    def environment(self) -> dict[str, str]:
        url = self.postgres.url(self.database) if self.postgres else f"sqlite:///{self.folder}/catalogue.db"
        return {
            **os.environ,
            **self.origin.environment(),
            "DATABASE_URL": url,
            "IMAGE_STORAGE_DIR": str(self.store),
            "IMAGE_MIN_FREE_BYTES": "0",
            **self.settings,
        }

    def start(
        self,
        *before: str,
        verb: str = "run --quiet",
        options: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> Command:
        arguments = [*verb.split(), "--base", str(self.folder), *options]
        environment = {**self.environment(), **(settings or {})}
        if self.fork_server is not None and not before:
            return self.fork_server.start(arguments, environment)
        command = [*before, sys.executable, "-m", "rehost", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)

    def run(self, *before: str) -> subprocess.CompletedProcess[str]:
        with self.start(*before) as process:
            return ended(process)

    def run_traced(self, *options: str, verb: str = "run --quiet") -> subprocess.CompletedProcess[str]:
        """Run under strace, which starts when everything is imported."""
        assert self.fork_server is not None
        arguments = [*verb.split(), "--base", str(self.folder)]
        with self.fork_server.start(arguments, self.environment(), held=True) as process:
            strace = ["strace", "-f", "-qq", *options, "-p", str(process.pid)]
            with subprocess.Popen(strace, stderr=subprocess.DEVNULL) as tracer:
                wait_for_tracer(process.pid)
                process.go()
                done = ended(process)
                tracer.wait(timeout=LIMIT)
        return done

    def run_killed(self, verb: str, call: str, number: int) -> int:
        """Kill a program when a thread makes this system call for the n-th time; return how many calls one made."""
        assert self.fork_server is not None
        arguments = [*verb.split(), "--base", str(self.folder)]
        with self.fork_server.start(arguments, self.environment(), killed_at=(call, number)) as process:
            ended(process)
        return process.calls

    def keep(self) -> None:
        """Remember everything as it is now."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self.folder, self._kept)
        if self.postgres is not None:
            self.sql(KEEP)

    def restore(self) -> None:
        """Make everything as it was when it was kept."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder)
        if self.postgres is not None:
            self.sql(RESTORE)
        self.origin.requests.clear()

    @property
    def _kept(self) -> Path:
        return self.folder.with_name("kept")

    def add(self, case_id: int, url: str) -> None:
        self.sql(f"INSERT INTO ad_cases VALUES ({case_id}, 'https://www.ads.example/{case_id}', '{url}', NULL)")

    def fill(self, urls: Sequence[str]) -> None:
        """Add a row for each URL, with case ids from 1 on, or after those of the call before."""
        start = len(self.urls) + 1
        self.urls = [*self.urls, *urls]
        rows = [f"({case_id}, 'https://www.ads.example/', '{url}', NULL)" for case_id, url in enumerate(urls, start)]
        for start in range(0, len(rows), 500):  # Linux takes 128 KiB in one argument
            self.sql(f"INSERT INTO ad_cases VALUES {','.join(rows[start : start + 500])}")

    def held(self) -> set[str]:
        """Return the links of the rows that point at a copy."""
        return {url for (url,) in self.sql("SELECT main_image FROM ad_cases WHERE main_image_local IS NOT NULL")}

    def check_rows(self) -> None:
        """Assert that no row points at a missing or incomplete file."""
        whole = {hashlib.sha256(self.origin.picture(request)).hexdigest() for request in self.urls}
        for case_id, local in self.sql("SELECT case_id, main_image_local FROM ad_cases"):
            if local:
                file = self.store / local.removeprefix("/static/images/")
                assert file.is_file(), f"case {case_id} points at {local}, which is not there"
                assert hashlib.sha256(file.read_bytes()).hexdigest() in whole, f"case {case_id} has a broken picture"

    def check_end(self, deleted: Collection[int] = ()) -> None:
        """Assert that every row has the image of its current link, and that only deleted rows have left other files."""
        self.check_rows()
        expected = {}
        for case_id, url, local in self.sql("SELECT case_id, main_image, main_image_local FROM ad_cases"):
            assert local, f"case {case_id} is not held"
            file = self.store / local.removeprefix("/static/images/")
            assert file.read_bytes() == self.origin.picture(url), f"case {case_id} has another link's picture"
            expected[file] = url
        folders = {self.store / str(case_id) for case_id in deleted}
        files = {path for path in self.store.rglob("*") if path.is_file() and path.parent not in folders}
        stray = {path for path in files - expected.keys() if not path.is_relative_to(self.store / ".rehost/trash")}
        assert stray <= {self.store / ".rehost" / name for name in ("lock", "store-id")}


class Watched:
    """Makes an origin take 50 ms for each image, and counts requests."""

    def __init__(self) -> None:
        self._requests = 0
        self._changed = threading.Condition()

    def __call__(self, _host: str, path: str, _headers: Mapping[str, str]) -> str | None:
        with self._changed:
            self._requests += 1
            self._changed.notify_all()
        return "slow" if path.startswith("/picture/") else None

    def wait(self, number: int) -> None:
        """Return after this many requests."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._requests >= number, LIMIT), (
                f"{self._requests} of {number} requests"
            )


def ended(process: Command) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=LIMIT)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_for_tracer(pid: int) -> None:
    """Return when a tracer is attached to this process."""
    end = time.monotonic() + 10.0
    while "\nTracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < end, "strace did not attach"
        time.sleep(0.002)


def wait_for_end_of(group: int) -> None:
    """Return when this process group is empty."""
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError(f"processes of the group {group} outlived their command")
