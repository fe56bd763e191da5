"""Killed at every system call that matters, and at any instant: rows stay true, and the next run converges.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.origin import Origin
from tests.postgres import Postgres

TABLE = (
    "CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url TEXT NOT NULL, main_image TEXT,"
    " main_image_local TEXT)"
)
COMMITS = {"sqlite": ("pwrite64", "fdatasync"), "postgresql": ("sendto",)}
CALLS = ("write", "fsync", "syncfs", "link", "rename", "unlink")
STEP = 3  # of the calls of one kind, --full kills at every one; counted per thread
MOST_CALLS = 60
LIMIT = 120.0


@dataclass
class World:
    """A catalogue, a store and the origin; what a run finds and leaves."""

    folder: Path
    origin: Origin
    postgres: Postgres | None
    database: str = "kills"

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
        }

    def start(self, *before: str) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-m", "rehost", "run", "--quiet", "--base", str(self.folder)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment(), text=True, start_new_session=True, **pipes)

    def run(self, *before: str) -> subprocess.CompletedProcess[str]:
        with self.start(*before) as process:
            out, err = process.communicate(timeout=LIMIT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def add(self, case_id: int, url: str) -> None:
        self.sql(f"INSERT INTO ad_cases VALUES ({case_id}, 'https://www.ads.example/{case_id}', '{url}', NULL)")

    def check_rows(self) -> None:
        """No row points at a file that is missing or not whole."""
        whole = {hashlib.sha256(self.origin.picture(request)).hexdigest() for request in self.urls}
        for case_id, local in self.sql("SELECT case_id, main_image_local FROM ad_cases"):
            if local:
                file = self.store / local.removeprefix("/static/images/")
                assert file.is_file(), f"case {case_id} points at {local}, which is not there"
                assert hashlib.sha256(file.read_bytes()).hexdigest() in whole, f"case {case_id} has a broken picture"

    def check_end(self) -> None:
        """Everything is held, as the rows' links are now, and nothing else lies about."""
        self.check_rows()
        expected = {}
        for case_id, url, local in self.sql("SELECT case_id, main_image, main_image_local FROM ad_cases"):
            assert local, f"case {case_id} is not held"
            file = self.store / local.removeprefix("/static/images/")
            assert file.read_bytes() == self.origin.picture(url), f"case {case_id} has another link's picture"
            expected[file] = url
        stray = {path for path in self.store.rglob("*") if path.is_file()} - expected.keys()
        assert stray <= {self.store / ".rehost" / "lock"}

    urls: Sequence[str] = ()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def world(engine: str, origin: Origin, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    server = request.getfixturevalue("postgres") if engine == "postgresql" else None
    world = World(tmp_path / "world", origin, server)
    world.folder.mkdir()
    if server is not None:
        server.drop_database(world.database)
        server.create_database(world.database)
    world.sql(TABLE)
    yield world
    if server is not None:
        server.drop_database(world.database)


@pytest.fixture
def again(world: World) -> Iterator[Callable[[], None]]:
    """Three rows are due, one of them with a changed link of the same ending; call it to have that state back."""
    urls = [world.origin.url("picture", f"{name}.jpg", host="pics.example") for name in ("old", "new", "two", "three")]
    world.urls = urls
    world.add(1, urls[0])
    done = world.run()
    assert done.returncode == 0, done.stderr
    world.sql(f"UPDATE ad_cases SET main_image = '{urls[1]}' WHERE case_id = 1")
    world.add(2, urls[2])
    world.add(3, urls[3])
    kept = world.folder.with_name("kept")
    shutil.copytree(world.folder, kept)
    if world.postgres is not None:
        world.postgres.drop_database("kept")
        world.postgres.create_database("kept", template=world.database)

    def again() -> None:
        shutil.rmtree(world.folder)
        shutil.copytree(kept, world.folder)
        if world.postgres is not None:
            world.postgres.drop_database(world.database)
            world.postgres.create_database(world.database, template="kept")
        world.origin.requests.clear()

    yield again
    if world.postgres is not None:
        world.postgres.drop_database("kept")


@pytest.mark.timeout(3600)
def test_invariant_1_no_kill_leaves_a_row_without_its_file(world: World, engine: str, again, sample, request) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not there: apt install strace")
    full = request.config.getoption("full")
    kills = 0
    for call in sample([*CALLS, *COMMITS[engine]], 3):
        numbers = range(1, MOST_CALLS)
        for number in numbers if full else sorted(random.Random(call).sample(numbers[:20], STEP)):
            again()
            trace = world.folder.with_name("trace")
            traced = ["strace", "-f", "-qq", "-o", str(trace), f"-einject={call}:signal=KILL:when={number}"]
            world.run(*traced, f"-etrace={call}")
            world.check_rows()
            done = world.run()
            assert done.returncode == 0, f"{call} {number}: {done.stdout}{done.stderr}"
            world.check_end()
            assert_no_picture_was_fetched_more_than_twice(world, f"{call} {number}")
            if "KILL" not in trace.read_text():
                break  # the run has no more calls of this kind
            kills += 1
    assert kills


def assert_no_picture_was_fetched_more_than_twice(world: World, when: str) -> None:
    for url in world.urls:
        times = world.origin.count(urlsplit(url).path)
        assert times <= 2, f"{when}: {url} was asked for {times} times"


@pytest.mark.timeout(3600)
def test_killed_at_random_instants_a_larger_run_converges(world: World, sample) -> None:
    world.urls = [world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(120)]
    for number, url in enumerate(world.urls, 1):
        world.add(number, url)
    dice = random.Random(7)
    instants = [dice.uniform(0.3, 2.5) for _ in range(100)]
    for instant in sample(instants, 5):
        process = world.start()
        time.sleep(instant)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LIMIT)
        world.check_rows()
        if process.returncode == 0:  # it was done before: anew, with changed links
            for number in range(1, 60):
                url = world.origin.url("picture", f"{dice.randrange(10**6)}.jpg", host="pics.example")
                world.urls = [*world.urls, url]
                world.sql(f"UPDATE ad_cases SET main_image = '{url}' WHERE case_id = {number}")

    done = world.run()

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
