"""Runs killed at every important system call, and at random moments: rows stay correct, and the next run completes.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import LIMIT, TABLE, World, ended
from tests.origin import Origin

COMMITS = {"sqlite": "pwrite64", "postgresql": "write"}  # SQLite syncs by fdatasync; uvloop sends by write
CALLS = ("write", "fsync", "fdatasync", "linkat", "rename", "unlink", "unlinkat", "mkdir", "rmdir")
MANY = {"write": 300, "pwrite64": 30, "fdatasync": 5}  # at least this many calls are made; of the others two
MOST_CALLS = 2000  # more than are ever made of one kind by one thread
INSTANTS = 200


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def world(
    engine: str,
    origin: Origin,
    fork_server: ForkServer,
    proof: Mapping[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    server = request.getfixturevalue("postgres") if engine == "postgresql" else None
    world = World(tmp_path / "world", origin, server, settings=proof, fork_server=fork_server)
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
    """Make three rows due, one with a changed link of the same extension; yield a function that restores that."""
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
        pytest.skip("strace is not installed: apt install strace")
    full = request.config.getoption("full")
    kills = 0
    for call in sample(list(dict.fromkeys([*CALLS, COMMITS[engine]])), 1):
        for number in range(1, MOST_CALLS) if full else [1, *sample(range(2, MANY.get(call, 2) + 1), 1)]:
            again()
            trace = world.folder.with_name("trace")
            world.run_traced("-o", str(trace), f"-einject={call}:signal=KILL:when={number}", f"-etrace={call}")
            world.check_rows()
            done = world.run()
            assert done.returncode == 0, f"{call} {number}: {done.stdout}{done.stderr}"
            world.check_end()
            assert_no_picture_was_fetched_more_than_twice(world, f"{call} {number}")
            if most_of_one_thread(call, trace) < number:
                break  # the run has no more calls of this kind
            kills += 1
    assert kills


def most_of_one_thread(call: str, trace: Path) -> int:
    """Return how often one thread made this call, which is how strace counts `when=`."""
    made = Counter(line.split()[0] for line in trace.read_text().splitlines() if f" {call}(" in line)
    return max(made.values(), default=0)


def assert_no_picture_was_fetched_more_than_twice(world: World, when: str) -> None:
    for url in world.urls:
        times = world.origin.count(urlsplit(url).path)
        assert times <= 2, f"{when}: {url} was asked for {times} times"


@pytest.mark.timeout(3600)
def test_a_run_killed_at_random_moments_converges(world: World, sample) -> None:
    world.urls = [world.origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(120)]
    for number, url in enumerate(world.urls, 1):
        world.add(number, url)
    dice = random.Random(7)
    instants = [dice.uniform(0.05, 1.5) for _ in range(INSTANTS)]
    for instant in sample(instants, 3):
        process = world.start()
        time.sleep(instant)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LIMIT)
        world.check_rows()
        if process.returncode == 0:  # it ended before the kill: change links and start again
            for number in range(1, 60):
                url = world.origin.url("picture", f"{dice.randrange(10**6)}.jpg", host="pics.example")
                world.urls = [*world.urls, url]
                world.sql(f"UPDATE ad_cases SET main_image = '{url}' WHERE case_id = {number}")

    # A link that was visited alone when the third kill came is taken for the cause.
    with world.start(options=["--retry", "worker-died"]) as process:
        done = ended(process)

    assert done.returncode == 0, done.stdout + done.stderr
    world.check_end()
