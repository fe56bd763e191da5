"""A deployment for each journey."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.journeys.deployment import DATABASE, Case, Deployment, Hosts, made_cases, make_checkout
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import TABLE, Watched, World
from tests.origin import Origin
from tests.postgres import Postgres


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


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a `python` with only the standard library."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    return folder / "bin"


@pytest.fixture
def bare_deployment(postgres: Postgres, bare_python: Path, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment before the manual's first step: a database without a table."""
    postgres.drop_database(DATABASE)
    postgres.create_database(DATABASE)
    hosts = Hosts()
    with Origin(hosts) as origin:
        deployment = Deployment(make_checkout(tmp_path), postgres, origin, hosts, bare_python)
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
    made = made_cases(40)
    deployment.import_cases(made)
    return made
