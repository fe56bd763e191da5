"""The backend in tests: its folder, databases created with its SQL files, its server as a process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.postgres import Postgres

BACKEND = Path(__file__).resolve().parents[2] / "backend"
INIT = BACKEND / "database/init.sql"
MIGRATION = BACKEND / "database/migrations/006_add_main_image_local_field.sql"

sys.path.insert(0, str(BACKEND))  # as its own programs have it


@pytest.fixture(scope="session")
def backend() -> Path:
    return BACKEND


@pytest.fixture(scope="session")
def ready_database(postgres: Postgres) -> str:
    """A database created with init.sql and the migration; without connections, so that it can be a template."""
    name = postgres.create_database()
    postgres.run(INIT.read_text(), name)
    postgres.run(MIGRATION.read_text(), name)
    return name


@pytest.fixture
def cases_database(postgres: Postgres, ready_database: str) -> Iterator[str]:
    """The name of a fresh database with an empty, migrated ad_cases."""
    name = postgres.create_database(template=ready_database)
    yield name
    postgres.drop_database(name)


def plain_environment(**settings: str) -> dict[str, str]:
    """The environment of a program that knows nothing but these settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, **settings}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def data(self):
        """What a success carries."""
        assert (self.status, self.json["code"], self.json["message"]) == (200, 200, "success"), self.body
        return self.json["data"]

    @property
    def results(self) -> list[int]:
        """The case_ids of a page of results, in their order."""
        return [case["case_id"] for case in self.data["results"]]


@dataclass(frozen=True)
class Api:
    """A running backend."""

    root: str

    def get(self, path: str, method: str = "GET") -> Reply:
        request = urllib.request.Request(self.root + path, method=method)
        with contextlib.ExitStack() as stack:
            try:
                reply = stack.enter_context(urllib.request.urlopen(request, timeout=30))
            except urllib.error.HTTPError as error:
                reply = stack.enter_context(error)
            return Reply(reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read())

    def search(self, query: str = "") -> Reply:
        return self.get(f"/api/v1/cases/search?{query}")


@contextlib.contextmanager
def serving(settings: dict[str, str], *, folder: Path = BACKEND) -> Iterator[Api]:
    """Run `uvicorn app.main:app` on a free port until the with-block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0", "--no-access-log"],
        cwd=folder,
        env=plain_environment(**settings),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                yield Api(found[1])
                break
        else:
            raise RuntimeError("".join(said))
    finally:
        process.terminate()
        process.communicate(timeout=30)
