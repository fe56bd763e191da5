"""A link that ends each process that visits it: the others are held, and it is deferred by itself after a few runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest
from tests.journeys.fork_server import ForkServer, Program
from tests.journeys.world import ended
from tests.origin import Origin
from tests.server.conftest import free_socket, listens
from tests.server.wire import ask

HOSTS = ("one.example", "two.example", "three.example")
LINKS = 300

# With this, the visit of a link with `poison` in it ends the process, as a defect of a library would.
MORTAL = """
import os, signal
from rehost.run.visitor import Visitor

visit = Visitor.visit

async def visit_or_die(self, task, **options):
    if "poison" in task.link.url:
        os.kill(os.getpid(), signal.SIGKILL)
    return await visit(self, task, **options)

Visitor.visit = visit_or_die
"""


class Victim:
    """A catalogue with one poisonous link among good ones, in SQLite, and the program that dies of it."""

    def __init__(self, folder: Path, origin: Origin, fork_server: ForkServer) -> None:
        self.folder = folder
        self.origin = origin
        self.fork_server = fork_server
        self.sql("CREATE TABLE ad_cases (case_id INTEGER PRIMARY KEY, source_url, main_image, main_image_local)")

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(self.folder / "c.db", timeout=30)) as connection, connection:
            return list(connection.execute(statement, values))

    def fill(self, number: int, poison: int) -> None:
        for case in range(1, number + 1):
            name = "poison.jpg" if case == poison else f"{case}.jpg"
            url = self.origin.url("permissive", name, host=HOSTS[case % len(HOSTS)])
            self.sql("INSERT INTO ad_cases (case_id, main_image) VALUES (?, ?)", case, url)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{self.folder}/c.db",
            "IMAGE_STORAGE_DIR": str(self.folder / "images"),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_CONNECT_TO": self.origin.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            "IMAGE_READ_THROUGH": "on",
            "IMAGE_LEASE_SECONDS": "5",
        }

    def start(self, *arguments: str) -> Program:
        return self.fork_server.start([*arguments, "--base", str(self.folder)], self.environment(), before=MORTAL)

    def run(self, workers: int) -> subprocess.CompletedProcess[str]:
        with self.start("run", "--quiet", "--workers", str(workers)) as process:
            return ended(process)

    def held(self) -> int:
        return int(str(self.sql("SELECT count(*) FROM ad_cases WHERE main_image_local IS NOT NULL")[0][0]))

    def not_held(self) -> list[tuple[object, ...]]:
        return self.sql("SELECT row_key, state, reason, deaths FROM rehost_links WHERE state <> 'held'")


@pytest.fixture
def victim(tmp_path, fork_server):
    with Origin() as origin:
        yield Victim(tmp_path, origin, fork_server)


@pytest.mark.timeout(600)
@pytest.mark.sampled(1)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_link_that_ends_its_process_is_deferred_by_itself_after_four_deaths(victim, workers):
    victim.fill(LINKS, poison=150)

    ends = [victim.run(workers) for _ in range(5)]

    assert ends[0].returncode == -signal.SIGKILL or "A worker process died (exit code -9)" in ends[0].stderr
    assert ends[-1].returncode == 0, ends[-1].stderr
    assert victim.held() == LINKS - 1
    assert victim.not_held() == [("150", "deferred", "worker-died", 4)]


@pytest.mark.timeout(300)
async def test_a_picture_that_ends_the_server_is_deferred_by_itself_after_four_deaths(victim):
    victim.fill(8, poison=4)
    statuses = []
    for _ in range(6):
        with free_socket() as chosen:
            port = chosen.getsockname()[1]
        with victim.start("serve", "--api-port", str(port)) as process:
            try:
                while not await listens(port):
                    assert process.poll() is None
                    await asyncio.sleep(0.05)
                asking = (ask(port, f"/image/cases/{case}") for case in range(1, 9))
                replies = await asyncio.gather(*asking, return_exceptions=True)
                statuses.append([getattr(reply, "status", None) for reply in replies])
            finally:
                process.send_signal(signal.SIGKILL)
        if statuses[-1] == [200, 200, 200, 503, 200, 200, 200, 200]:
            break

    assert statuses[-1] == [200, 200, 200, 503, 200, 200, 200, 200], statuses
    assert victim.not_held() == [("4", "deferred", "worker-died", 4)]
