"""Takedowns killed at every important system call: the next run completes them, and no row points at nothing.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.journeys.fork_server import ForkServer
from tests.journeys.test_kills import CALLS, COMMITS, MANY, MOST_CALLS, most_of_one_thread
from tests.journeys.world import TABLE, World, ended
from tests.origin import Origin


@pytest.fixture(params=["sqlite", "postgresql"])
def world(
    fork_server: ForkServer, proof: Mapping[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[World]:
    """Three rows of one picture, which is in the trash too, and a row of another one."""
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with Origin() as origin:
        world = World(tmp_path / "world", origin, server, settings=proof, fork_server=fork_server)
        world.folder.mkdir()
        if server is not None:
            server.drop_database(world.database)
            server.create_database(world.database)
        world.sql(TABLE)
        one, other = (origin.url("picture", f"{number}.jpg", host="pics.example") for number in (1, 2))
        world.fill([one, one, f"{one}?again", other])
        done = world.run()
        assert done.returncode == 0, done.stderr
        content = origin.picture(one)
        digest = hashlib.sha256(content).hexdigest()
        trashed = world.store / ".rehost/trash/replaced" / digest[:2] / digest
        trashed.parent.mkdir(parents=True)
        trashed.write_bytes(content)
        yield world
        if server is not None:
            server.drop_database(world.database)
            server.drop_database("kept")


def keep(world: World) -> None:
    shutil.copytree(world.folder, world.folder.with_name("kept"))
    if world.postgres is not None:
        world.postgres.drop_database("kept")
        world.postgres.create_database("kept", template=world.database)


def restore(world: World) -> None:
    shutil.rmtree(world.folder)
    shutil.copytree(world.folder.with_name("kept"), world.folder)
    if world.postgres is not None:
        world.postgres.drop_database(world.database)
        world.postgres.create_database(world.database, template="kept")


def call(world: World, verb: str) -> None:
    with world.start(verb=verb) as process:
        done = ended(process)
    assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"


def check_gone(world: World, when: str) -> None:
    """Assert that the picture is nowhere, that its rows are cleared, and that the other one is held."""
    rows = dict(world.sql("SELECT case_id, main_image_local FROM ad_cases"))
    assert rows == {"1": "", "2": "", "3": "", "4": "/static/images/4/main_image.jpg"}, when
    left = [path for path in world.store.rglob("*") if path.is_file() and path.read_bytes() == picture_of(world)]
    assert left == [], when
    [(allowed, ended_at, links)] = world.sql(
        "SELECT count(allowed_at), count(ended_at), (SELECT count(*) FROM rehost_links WHERE reason = 'taken-down')"
        " FROM rehost_takedowns"
    )
    assert (allowed, ended_at, links) == ("0", "1", "3"), when


def picture_of(world: World) -> bytes:
    return world.origin.picture(world.urls[0])


@pytest.mark.timeout(3600)
def test_invariant_1_a_takedown_killed_at_any_system_call_is_completed(world: World, sample, request) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt install strace")
    full, kills, forget = request.config.getoption("full"), 0, f"forget {world.urls[0]}"
    keep(world)
    calls = [*dict.fromkeys([*CALLS, COMMITS["postgresql" if world.postgres else "sqlite"]])]
    for name in sample(calls, 2):
        for number in range(1, MOST_CALLS) if full else [1, *sample(range(2, MANY.get(name, 2) + 1), 1)]:
            when = f"{name} {number}"
            restore(world)
            trace = world.folder.with_name("trace")
            inject = f"-einject={name}:signal=KILL:when={number}"
            world.run_traced("-o", str(trace), inject, f"-etrace={name}", verb=forget)
            world.check_rows()
            call(world, "run --quiet")
            if not begun(world):
                call(world, forget)
            check_gone(world, when)
            if most_of_one_thread(name, trace) < number:
                break  # there are no more calls of this kind
            kills += 1
    assert kills or not full  # this may not make the calls of a sample


def begun(world: World) -> bool:
    return world.sql("SELECT count(*) FROM rehost_takedowns") != [("0",)]
