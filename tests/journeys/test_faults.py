"""Faults of disk and database during a run: one message, exit status 3, no row fails, and the next run completes.

`./dev test` takes a seeded sample, `--full` all. The disk is a real, small file system (tmpfs), which only root can
mount.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import SEED
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import LIMIT, TABLE, Command, Watched, World
from tests.origin import Origin
from tests.postgres import Postgres

HOST = "pics.example"
LINKS = 60
MIDDLE = 25  # requests after which a fault in the middle of a run happens
ROLE = "clerk"  # not a superuser, so that PostgreSQL checks its privileges
SAMPLE = 4

Done = subprocess.CompletedProcess[str]


@dataclass
class Scene:
    """A deployment on its own file system, in which faults are injected."""

    world: World
    watched: Watched

    def run(
        self,
        *before: str,
        options: Sequence[str] = (),
        meanwhile: Callable[[Command], None] | None = None,
        **settings: str,
    ) -> Done:
        """Run once; `meanwhile` is called in the middle of it."""
        with self.world.start(*before, options=options, settings=settings) as command:
            if meanwhile is not None:
                self.watched.wait(MIDDLE)
                meanwhile(command)
            out, err = command.communicate(timeout=2 * LIMIT)
        return subprocess.CompletedProcess(command.args, command.returncode, out, err)

    def mount(self, options: str) -> None:
        """Change the options of the file system."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.world.folder)], check=True)

    @property
    def server(self) -> Postgres:
        assert self.world.postgres is not None
        return self.world.postgres

    def administer(self, statement: str) -> None:
        """Run a statement in a database without faults; {} in it is the name of the world's database."""
        self.server.run(statement.format(self.world.database))

    def cut(self) -> None:
        """End every connection to the world's database."""
        activity = f"pg_stat_activity WHERE datname = '{self.world.database}'"
        self.server.run(f"SELECT pg_terminate_backend(pid) FROM {activity}")

    def as_role(self) -> dict[str, str]:
        return {"DATABASE_URL": self.server.url(self.world.database).replace("postgres@", f"{ROLE}@")}


# --- the disk of the store


def disk_full_for_several(scene: Scene) -> Done:
    scene.mount("size=160k")
    done = scene.run(options=("--workers", "3"))
    scene.mount("size=16m")
    return done


def disk_full(scene: Scene) -> Done:
    scene.mount("size=160k" if scene.world.postgres else "size=600k")  # SQLite's file is on it too
    done = scene.run()
    scene.mount("size=16m")
    return done


def below_the_floor(scene: Scene) -> Done:
    state = os.statvfs(scene.world.folder)
    return scene.run(IMAGE_MIN_FREE_BYTES=str(state.f_bavail * state.f_frsize - 50_000), IMAGE_DOWNLOAD_CONCURRENCY="2")


def far_below_the_floor(scene: Scene) -> Done:
    return scene.run(IMAGE_MIN_FREE_BYTES="1TiB")


def no_inodes(scene: Scene) -> Done:
    scene.mount("nr_inodes=80")
    done = scene.run()
    scene.mount("nr_inodes=2000")
    return done


def read_only(scene: Scene) -> Done:
    scene.mount("ro")
    done = scene.run()
    scene.mount("rw")
    return done


def failing(calls: str, error: str, when: str) -> Callable[[Scene], Done]:
    """Make system calls fail, counted per thread; a real file system cannot be made to fail at a given moment."""

    def run(scene: Scene) -> Done:
        if shutil.which("strace") is None:
            pytest.skip("strace is not there: apt install strace")
        injected = f"-einject={calls}:error={error}:when={when}"
        return scene.world.run_traced("-o", "/dev/null", injected, f"-etrace={calls}")

    return run


def few_files(number: int) -> Callable[[Scene], Done]:
    return lambda scene: scene.run("prlimit", f"--nofile={number}")


def few_files_in_the_middle(scene: Scene) -> Done:
    def limit(command: Command) -> None:
        opened = len(list(Path(f"/proc/{command.pid}/fd").iterdir()))
        subprocess.run(["prlimit", f"--pid={command.pid}", f"--nofile={opened - 6}"], check=True)

    return scene.run(meanwhile=limit)


# --- the database


def read_only_transactions(scene: Scene) -> Done:
    scene.administer("ALTER DATABASE {} SET default_transaction_read_only = on")
    done = scene.run()
    scene.administer("ALTER DATABASE {} RESET default_transaction_read_only")
    return done


def read_only_in_the_middle(scene: Scene) -> Done:
    def turn(_command: Command) -> None:
        scene.administer("ALTER DATABASE {} SET default_transaction_read_only = on")
        scene.cut()

    done = scene.run(meanwhile=turn)
    scene.administer("ALTER DATABASE {} RESET default_transaction_read_only")
    return done


def standby(scene: Scene) -> Done:
    """Run against a standby server, which is read-only."""
    signal_file = scene.server.folder / "data" / "standby.signal"
    scene.server.stop()
    signal_file.touch()
    scene.server.start()
    done = scene.run()
    scene.server.stop()
    signal_file.unlink()
    scene.server.start()
    return done


def missing(grants: str) -> Callable[[Scene], Done]:
    """Grant the role only these privileges."""

    def run(scene: Scene) -> Done:
        scene.world.sql(grants)
        done = scene.run(**scene.as_role())
        scene.world.sql(f"GRANT CREATE ON SCHEMA public TO {ROLE}; GRANT SELECT, UPDATE ON ad_cases TO {ROLE}")
        scene.world.settings = {**scene.world.settings, **scene.as_role()}
        return done

    return run


def revoked(scene: Scene) -> Done:
    scene.world.sql(f"GRANT CREATE ON SCHEMA public TO {ROLE}; GRANT SELECT, UPDATE ON ad_cases TO {ROLE}")
    scene.world.settings = {**scene.world.settings, **scene.as_role()}
    done = scene.run(meanwhile=lambda _command: scene.world.sql(f"REVOKE UPDATE ON ad_cases FROM {ROLE}"))
    scene.world.sql(f"GRANT UPDATE ON ad_cases TO {ROLE}")
    return done


def no_connection(scene: Scene) -> Done:
    scene.administer(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    done = scene.run(**scene.as_role())
    scene.administer(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    return done


def no_connection_any_more(scene: Scene) -> Done:
    """Close all connections of a run and allow no new ones, for longer than it waits."""

    def limit(_command: Command) -> None:
        scene.administer(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
        scene.cut()

    scene.world.sql(f"GRANT CREATE ON SCHEMA public TO {ROLE}; GRANT SELECT, UPDATE ON ad_cases TO {ROLE}")
    scene.world.settings = {**scene.world.settings, **scene.as_role()}
    done = scene.run(meanwhile=limit)
    scene.administer(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
    return done


def gone(scene: Scene) -> Done:
    """Stop the server for longer than a run waits."""
    done = scene.run(meanwhile=lambda _command: scene.server.stop(signal.SIGQUIT))
    scene.server.start()
    return done


def locked(scene: Scene) -> Done:
    """Hold SQLite's file for longer than a run waits."""
    with closing(sqlite3.connect(scene.world.folder / "catalogue.db", isolation_level=None)) as holder:

        def lock(_command: Command) -> None:
            holder.execute("BEGIN IMMEDIATE")

        return scene.run(meanwhile=lock)


@dataclass(frozen=True)
class Fault:
    """A fault, and the message that the operator reads."""

    name: str
    happen: Callable[[Scene], Done]
    says: str
    engines: tuple[str, ...] = ("postgresql", "sqlite")
    is_long: bool = False  # the run first waits for minutes


SYNCS = "fsync,fdatasync,syncfs"
RENAMES = "rename,renameat,renameat2,link,linkat"
FULL = "disk is full|No space left on device|no disk space left"
FAILS = "input/output error|because of a disk error"
FEW = "needs up to [0-9]+ open files, but only [0-9]+ are allowed: raise `ulimit -Hn`"
POSTGRES, SQLITE = ("postgresql",), ("sqlite",)

FAULTS = [
    Fault("disk full", disk_full, FULL),
    Fault("disk full for several workers", disk_full_for_several, FULL, POSTGRES),
    Fault("below the floor", below_the_floor, "less than IMAGE_MIN_FREE_BYTES"),
    Fault("far below the floor", far_below_the_floor, "less than IMAGE_MIN_FREE_BYTES"),
    Fault("no inodes", no_inodes, "no inodes left|No space left on device"),
    Fault("read-only", read_only, "read-only|cannot be (written to|opened)"),
    Fault("read-only in the middle", failing(f"mkdir,{RENAMES}", "EROFS", "9+"), "read-only"),
    Fault("syncs fail", failing(SYNCS, "EIO", "3+"), FAILS),
    Fault("one sync fails", failing("syncfs", "EIO", "1"), FAILS),
    Fault("names fail", failing(RENAMES, "EIO", "2+"), FAILS),
    *(Fault(f"{number} files", few_files(number), FEW) for number in (8, 12, 16, 20, 24, 32, 48, 64)),
    Fault("few files in the middle", few_files_in_the_middle, "too many open files|Too many open files"),
    Fault("read-only transactions", read_only_transactions, "is read-only", POSTGRES),
    Fault("read-only transactions in the middle", read_only_in_the_middle, "is read-only", POSTGRES),
    Fault("standby", standby, "is read-only", POSTGRES),
    Fault("no CREATE", missing(f"GRANT SELECT, UPDATE ON ad_cases TO {ROLE}"), "create tables: GRANT CREATE", POSTGRES),
    Fault("no SELECT", missing(f"GRANT CREATE ON SCHEMA public TO {ROLE}"), "for table ad_cases.*GRANT", POSTGRES),
    Fault(
        "no UPDATE",
        missing(f"GRANT CREATE ON SCHEMA public TO {ROLE}; GRANT SELECT ON ad_cases TO {ROLE}"),
        "for table ad_cases.*GRANT",
        POSTGRES,
    ),
    Fault("UPDATE revoked", revoked, "for table ad_cases.*GRANT", POSTGRES),
    Fault("no connection", no_connection, "has no free connection", POSTGRES),
    Fault("no connection any more", no_connection_any_more, "has no free connection", POSTGRES, is_long=True),
    Fault("database gone", gone, "cannot be reached", POSTGRES, is_long=True),
    Fault("database locked", locked, "Another program has kept .* locked", SQLITE, is_long=True),
]
CASES = [(engine, fault) for fault in FAULTS for engine in fault.engines]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        cases = CASES
        if not metafunc.config.getoption("full"):
            cases = random.Random(f"{SEED} faults").sample([case for case in CASES if not case[1].is_long], SAMPLE)
        metafunc.parametrize(("engine", "fault"), cases, ids=[f"{fault.name}-{engine}" for engine, fault in cases])


@pytest.fixture
def scene(
    engine: str, fork_server: ForkServer, proof: Mapping[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    watched = Watched()
    with small_disk(tmp_path / "world") as disk, Origin(watched) as origin:
        server = request.getfixturevalue("postgres") if engine == "postgresql" else None
        world = World(
            disk, origin, server, settings={"IMAGE_DOWNLOAD_CONCURRENCY": "6", **proof}, fork_server=fork_server
        )
        if server is not None:
            world.database = server.create_database()
            server.run(f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        world.sql(TABLE)
        world.fill([origin.url("picture", f"{number}.jpg", host=HOST) for number in range(LINKS)])
        yield Scene(world, watched)
        if server is not None:
            server.drop_database(world.database)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,nr_inodes=2000,mode=755", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.timeout(600)
def test_a_fault_is_one_message_and_no_row_fails(scene: Scene, fault: Fault) -> None:
    done = fault.happen(scene)

    assert done.returncode == 3, done.stdout + done.stderr
    assert re.fullmatch(rf"rehost: [^\n]*({fault.says})[^\n]*\n", done.stderr), done.stderr
    assert failed(scene.world) == 0
    scene.world.check_rows()

    again = scene.world.run()

    assert again.returncode == 0, again.stdout + again.stderr
    scene.world.check_end()


def failed(world: World) -> int:
    """Return how many links count as failed; 0 if our tables do not exist yet."""
    known = "information_schema.tables" if world.postgres else "sqlite_master"
    column = "table_name" if world.postgres else "name"
    if not world.sql(f"SELECT 1 FROM {known} WHERE {column} = 'rehost_links'"):
        return 0
    [(number,)] = world.sql("SELECT count(*) FROM rehost_links WHERE reason IS NOT NULL")
    return int(number)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["postgresql"])
def test_a_run_survives_closed_connections(scene: Scene, request: pytest.FixtureRequest) -> None:
    cuts = 40 if request.config.getoption("full") else 8

    def cut(command: Command) -> None:
        for _ in range(cuts):
            scene.cut()
            if command.poll() is not None:
                break

    done = scene.run(meanwhile=cut, IMAGE_DOWNLOAD_CONCURRENCY="2")

    assert (done.returncode, done.stderr) == (0, "")
    scene.world.check_end()
