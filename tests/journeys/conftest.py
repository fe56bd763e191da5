"""A deployment for each journey."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.journeys.deployment import DATABASE, Case, Deployment, Hosts, made_cases, make_checkout
from tests.journeys.fork_server import ForkServer
from tests.journeys.killer import MACHINES
from tests.journeys.world import TABLE, Watched, World
from tests.origin import Origin
from tests.postgres import Postgres

SMALL = "forty_cases"
MANY = {"write": 200, "pwrite64": 30, "fdatasync": 5}  # at least this many calls are made; of the others two
ALWAYS = ("mkdir",)  # every verb makes it
MOST_CALLS = 2000  # more than are ever made of one kind by one thread


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """The process that starts programs without delay."""
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture(scope="session")
def proof(request: pytest.FixtureRequest) -> dict[str, str]:
    """How images are verified in tests of something else: by decoding with --full, otherwise by their structure.

    A decoder process takes a third of a second to start, in every program of every test.
    """
    return {"IMAGE_VERIFY": "decode" if request.config.getoption("full") else "structure"}


@pytest.fixture
def watched() -> Watched:
    """The origin's behaviour, which also counts requests."""
    return Watched()


@pytest.fixture
def world(
    postgres: Postgres,
    watched: Watched,
    fork_server: ForkServer,
    proof: Mapping[str, str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    """A table in PostgreSQL and a watched origin, for commands with the SETTINGS of the module."""
    with Origin(watched) as origin:
        settings = {**request.module.SETTINGS, **proof}
        world = World(tmp_path, origin, postgres, postgres.create_database(), settings, fork_server=fork_server)
        world.sql(TABLE)
        yield world
        postgres.drop_database(world.database)


@pytest.fixture
def kill_world(
    engine: str, fork_server: ForkServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[World, dict[str, str | bytes]]]:
    """An empty table in a database of this engine, and what the origin does for a path in place of the picture."""
    server = request.getfixturevalue("postgres") if engine == "postgresql" else None
    database = server.create_database() if server else ""
    mood: dict[str, str | bytes] = {}
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin:
        settings = {"IMAGE_VERIFY": "structure"}  # decoding is not what kills are about
        world = World(tmp_path / "world", origin, server, database, settings, fork_server=fork_server)
        world.folder.mkdir()
        world.sql(TABLE)
        yield world, mood
    if server:
        server.drop_database(database)


@pytest.fixture
def kill(call: str, sample: Callable[..., list[int]], request: pytest.FixtureRequest) -> Callable[..., Iterator[str]]:
    """Restore a world and kill a verb there at each `call` in turn; yield in words what was killed.

    Without --full, at the first and at one other.
    """
    if os.uname().machine not in MACHINES:
        pytest.skip(f"the numbers of system calls on {os.uname().machine} are not known here")
    full = request.config.getoption("full")

    def kill(world: World, verb: str) -> Iterator[str]:
        for number in range(1, MOST_CALLS) if full else [1, *sample(range(2, MANY.get(call, 2) + 1), 1)]:
            world.restore()
            made = world.run_killed(verb, call, number)
            assert made or call not in ALWAYS
            yield f"{verb}, {call} {number}"
            if made < number:
                return  # it makes no more calls of this kind
        assert not full

    return kill


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a `python` with only the standard library."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    return folder / "bin"


@pytest.fixture
def bare_deployment(
    postgres: Postgres, bare_python: Path, fork_server: ForkServer, proof: Mapping[str, str], tmp_path: Path
) -> Iterator[Deployment]:
    """A deployment before the manual's first step: a database without a table."""
    postgres.drop_database(DATABASE)
    postgres.create_database(DATABASE)
    hosts = Hosts()
    with Origin(hosts) as origin:
        deployment = Deployment(make_checkout(tmp_path), postgres, origin, hosts, bare_python, fork_server, proof)
        deployment.configure()
        yield deployment
    postgres.drop_database(DATABASE)


@pytest.fixture
def deployment(bare_deployment: Deployment) -> Deployment:
    """A deployment with an empty, migrated table."""
    bare_deployment.make_table()
    return bare_deployment


@pytest.fixture
def small(deployment: Deployment) -> list[Case]:
    """Forty cases in the table, without copies."""
    made, server = made_cases(40), deployment.postgres
    if server.run(f"SELECT 1 FROM pg_database WHERE datname = '{SMALL}'"):
        server.drop_database(DATABASE)
        server.create_database(DATABASE, template=SMALL)
    else:
        deployment.import_cases(made)
        server.create_database(SMALL, template=DATABASE)
    return made
