"""Repairs killed at every important system call: no row points at nothing, no bytes are lost, the next call completes.

The same on SQLite and on PostgreSQL. `./dev test` takes a seeded sample, `--full` all.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.journeys.fork_server import ForkServer
from tests.journeys.test_kills import CALLS, COMMITS, MANY, MOST_CALLS, most_of_one_thread
from tests.journeys.world import TABLE, World, ended
from tests.origin import Origin
from tests.pictures import picture

REPAIR = "verify --repair --quiet"
DAMAGED = {1: b"<html>damaged", 3: picture(999)}  # by case
GONE = "/picture/2.jpg"  # at the origin; its file is gone too


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def world(
    engine: str, fork_server: ForkServer, proof: Mapping[str, str], tmp_path, request: pytest.FixtureRequest
) -> Iterator[World]:
    server = request.getfixturevalue("postgres") if engine == "postgresql" else None
    mood: dict[str, str] = {}
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin:
        database = server.create_database() if server else ""
        world = World(tmp_path / "world", origin, server, database, settings=proof, fork_server=fork_server)
        world.folder.mkdir()
        world.sql(TABLE)
        world.fill([origin.url("picture", f"{number}.jpg", host="pics.example") for number in range(1, 5)])
        assert world.run().returncode == 0
        mood[GONE] = "not-found"
        for case, content in DAMAGED.items():
            file(world, case).write_bytes(content)
        file(world, 2).unlink()
        world.sql("UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 4")
        yield world
        if server:
            server.drop_database(database)


@pytest.fixture
def again(world: World) -> Iterator[Callable[[], None]]:
    """Yield a function that restores the damaged world."""
    kept, server = world.folder.with_name("kept"), world.postgres
    shutil.copytree(world.folder, kept)
    template = f"{world.database}_kept"
    if server:
        server.create_database(template, template=world.database)

    def again() -> None:
        shutil.rmtree(world.folder)
        shutil.copytree(kept, world.folder)
        if server:
            server.drop_database(world.database)
            server.create_database(world.database, template=template)

    yield again
    if server:
        server.drop_database(template)


def file(world: World, case: int):
    return world.store / f"{case}/main_image.jpg"


def locals_of(world: World) -> dict[int, str]:
    return {int(case): local for case, local in world.sql("SELECT case_id, main_image_local FROM ad_cases") if local}


def check_after_kill(world: World, when: str) -> None:
    """Assert that every row points at a file that is whole or the damaged one; the file of row 2 is gone already."""
    for case in locals_of(world).keys() - {2}:
        whole = world.origin.picture(world.urls[case - 1])
        assert file(world, case).read_bytes() in {whole, DAMAGED.get(case)}, f"{when}: {case}"


def check_end(world: World, when: str) -> None:
    """Assert that row 2 is cleared, the others have their pictures, and the damaged bytes are in the trash."""
    assert locals_of(world).keys() == {1, 3, 4}, when
    for case in (1, 3, 4):
        assert file(world, case).read_bytes() == world.origin.picture(world.urls[case - 1]), f"{when}: {case}"
    kept = {hashlib.sha256(each.read_bytes()).digest() for each in world.store.rglob(".rehost/**/*") if each.is_file()}
    assert {hashlib.sha256(each).digest() for each in DAMAGED.values()} <= kept, when


@pytest.mark.timeout(3600)
def test_invariant_1_no_kill_of_a_repair_leaves_a_row_without_its_file(world, engine, again, sample, request) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt install strace")
    full, kills = request.config.getoption("full"), 0
    for call in sample(list(dict.fromkeys([*CALLS, COMMITS[engine]])), 1):
        for number in range(1, MOST_CALLS) if full else [1, *sample(range(2, MANY.get(call, 2) + 1), 1)]:
            again()
            trace, when = world.folder.with_name("trace"), f"{call} {number}"
            options = ["-o", str(trace), f"-einject={call}:signal=KILL:when={number}", f"-etrace={call}"]
            world.run_traced(*options, verb=REPAIR)
            check_after_kill(world, when)
            with world.start(verb=REPAIR) as process:
                done = ended(process)
            assert done.returncode == 0, f"{when}: {done.stdout}{done.stderr}"
            check_end(world, when)
            if most_of_one_thread(call, trace) < number:
                break  # there are no more calls of this kind
            kills += 1
    assert kills or not full  # this may not make the calls of a sample
