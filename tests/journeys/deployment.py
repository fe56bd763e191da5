"""An operator's machine: a checkout, a database, a shell, and the hosts of the links.

Its Python has the project's dependencies on its path, but not rehost, which the scripts find in ../src.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import http.client
import re
import shlex
import shutil
import site
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.journeys.fork_server import ForkServer
from tests.journeys.world import ended
from tests.origin import Origin
from tests.postgres import Postgres

CHECKOUT = Path(__file__).resolve().parents[2]
DATABASE = "ad_case_db"  # the manual's name
COMMAND_SECONDS = 120

MIGRATE = "psql -U postgres -d ad_case_db -f database/migrations/006_add_main_image_local_field.sql"
DOWNLOAD = "python scripts/download_all_images.py"


# The same in a program that is forked: it imports rehost and its packages in no time.
FORKED = """
import os, runpy, sys
os.chdir({folder!r})
os.environ["PWD"] = {folder!r}
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Case:
    """A row of the catalogue: the columns about images."""

    case_id: int
    main_image: str
    source_url: str = ""


# the manual's own example of a case
EXAMPLE = Case(
    297041, "https://oss.adquan.com/upload/20200628/159333611702b57de84188551c.png", "https://www.adquan.com/"
)


@dataclass(frozen=True)
class Measured:
    """What a command needed."""

    status: int
    seconds: float
    megabytes: float  # the largest resident set of the command


@dataclass
class Hosts:
    """Behaviour of the hosts: one requires its own site as Referer, others refuse foreign ones.

    `turned` overrides this for single links: link -> behaviour. `reached` is set when request number `alarm` arrives.
    """

    usual: str | None = None
    turned: dict[str, object] = field(default_factory=dict)
    alarm: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    seen: int = 0

    def __call__(self, host: str, path: str, _headers: object) -> object:
        self.seen += 1
        if self.alarm and self.seen >= self.alarm:
            self.reached.set()
        for scheme in ("https", "http"):
            if (behaviour := self.turned.get(f"{scheme}://{host}{path}")) is not None:
                return behaviour
        if self.usual is not None:
            return self.usual
        families = {
            "adquan.com": "demands-own-site",
            "ads.example": "demands-own-site",
            "qpic.cn": "decoy-to-foreign-referer",
        }
        return families.get(".".join(host.rsplit(".", 2)[-2:]), "refuses-foreign-referer")

    def ring_at(self, requests: int) -> None:
        """Set `reached` after this many more requests."""
        self.reached.clear()
        self.alarm = self.seen + requests


@dataclass
class Deployment:
    """A checkout with its database and hosts; commands run in a shell, in the folder that the manual names."""

    root: Path
    postgres: Postgres
    origin: Origin
    hosts: Hosts
    python: Path  # folder of `python`
    fork_server: ForkServer
    settings: Mapping[str, str]  # in place of those of env.example

    @property
    def backend(self) -> Path:
        return self.root / "backend"

    @property
    def images(self) -> Path:
        return self.backend / "data/images"

    @property
    def environment(self) -> dict[str, str]:
        """The shell's environment; psql finds the database by PG*, the scripts by `.env`."""
        folders = [self.python, self.postgres.psql.parent, Path(sys.executable).parent, "/usr/bin", "/bin"]
        return {
            "PATH": ":".join(map(str, folders)),
            "HOME": str(self.root),
            "PYTHONPATH": site.getsitepackages()[0],
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            **self.origin.environment(),
            "IMAGE_CONNECT_TO": f"*::{self.origin.address}:{self.origin.port}",
        }

    def configure(self, **settings: str) -> None:
        """Write backend/.env: env.example with these settings replaced."""
        own = {"DB_HOST": self.postgres.host, "DB_PORT": str(self.postgres.port), **self.settings, **settings}
        lines = (CHECKOUT / "backend/env.example").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in own]
        (self.backend / ".env").write_text("\n".join([*kept, *(f"{name}={value}" for name, value in own.items()), ""]))

    def shell(self, command: str, *, folder: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command, by default in backend/."""
        return subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=folder or self.backend,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def download(self, arguments: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
        """Perform the manual's third step, in a forked program."""
        words = [*DOWNLOAD.split()[1:], *shlex.split(arguments)]
        before = FORKED.format(folder=str(self.backend), arguments=words)
        with self.fork_server.start([], self.environment | settings, before=before) as program:
            return ended(program)

    @contextmanager
    def running(self, command: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command in backend/ until the block ends."""
        process = subprocess.Popen(
            command.split(),
            cwd=self.backend,
            env=self.environment | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=30)

    def measured(self, command: str) -> Measured:
        """Run a command without a shell and measure it."""
        started = time.monotonic()
        process = subprocess.Popen(
            command.split(),
            cwd=self.backend,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0  # of the program alone: getrusage also counts this process before exec
        while process.poll() is None:
            with contextlib.suppress(IndexError, ProcessLookupError, FileNotFoundError):
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        return Measured(process.returncode, time.monotonic() - started, peak / 1024)

    def sql(self, statement: str) -> str:
        return self.postgres.run(statement, DATABASE)

    def make_table(self) -> None:
        done = self.shell(f"psql -U postgres -d {DATABASE} -f database/init.sql\n{MIGRATE}")
        assert (done.returncode, done.stderr) == (0, "")

    def import_cases(self, cases: Iterable[Case]) -> None:
        """Import cases from a CSV file, as an operator does."""
        file = self.root / "catalogue.csv"
        with file.open("w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(["case_id", "title", "source_url", "main_image"])
            writer.writerows([each.case_id, f"案例 {each.case_id}", each.source_url, each.main_image] for each in cases)
        done = self.shell("python scripts/import_cases.py ../catalogue.csv")
        assert done.returncode == 0, done.stderr

    def rows(self) -> dict[int, tuple[str, str]]:
        """Return link and local URL by case id; NULL as an empty text."""
        lines = self.sql(
            "SELECT case_id, coalesce(main_image, ''), coalesce(main_image_local, '') FROM ad_cases ORDER BY case_id"
        )
        parts = (line.split("|") for line in lines.splitlines())
        return {int(case_id): (link, local) for case_id, link, local in parts}

    def held(self) -> set[int]:
        """Return the cases whose row points at a copy; assert that every copy is its link's image, byte for byte."""
        held = {case_id: (link, local) for case_id, (link, local) in self.rows().items() if local}
        for case_id, (link, local) in held.items():
            assert local.startswith(f"/static/images/{case_id}/main_image.")
            copy = self.images / local.removeprefix("/static/images/")
            assert copy.is_file(), f"{local} is missing"
            assert copy.read_bytes() == Origin.picture(link), f"{local} is not the image of {link}"
        return set(held)

    def log(self) -> str:
        return (self.backend / "download_images.log").read_text()

    @contextmanager
    def requests(self) -> Iterator[list[str]]:
        """Yield a list that contains, after the block, the links that were requested in it, as host and path."""
        before, asked = len(self.origin.requests), []
        yield asked
        asked += [f"{each.host}{each.target}" for each in self.origin.requests[before:]]


def port_of(process: subprocess.Popen[str]) -> int:
    """Return the port that a server prints."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"https?://\S+?:(\d+)", line):
            return int(found[1])
    raise AssertionError("the server ended without printing its address")


def get(port: int, path: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("localhost", port, timeout=30)
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply.status, reply.headers.get("content-type", ""), body


def address(link: str) -> str:
    """Return a link as `requests` shows it."""
    return link.partition("://")[2]


def make_checkout(folder: Path) -> Path:
    """Copy what the manual's steps need from the checkout, without its .env and its images."""
    kept_out = shutil.ignore_patterns(".env", "data", "__pycache__", "*.log")
    shutil.copytree(CHECKOUT / "backend", folder / "backend", ignore=kept_out)
    shutil.copy(CHECKOUT / "requirements.txt", folder)
    (folder / "src").symlink_to(CHECKOUT / "src")
    return folder


def real_cases(shared: Path) -> list[Case]:
    """Return every case of the real catalogue that has an image."""
    with gzip.open(shared / "catalogue/adquan_cases.csv.gz", "rt", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    return [Case(int(row["case_id"]), row["main_image"], row["source_url"]) for row in rows if row["main_image"]]


def made_cases(count: int) -> list[Case]:
    """Return this many cases of invented hosts, with the same kinds of links as the real ones."""
    endings = ["jpg", "jpg", "jpg", "png", "png", "gif", "jpeg", "jpe"]
    schemes = ["http", *["https"] * 9]
    hosts = ["oss.ads.example", "file.ads.example", "oss.ads.example", "wx1.photos.example"]
    return [
        Case(
            number,
            f"{schemes[number % 10]}://{hosts[number % 4]}/upload/2020/{number}.{endings[number % 8]}",
            f"https://www.ads.example/article/{number}",
        )
        for number in range(1, count + 1)
    ]


def kinds(cases: Sequence[Case]) -> list[Case]:
    """Return the cases of rare hosts, which a sample might miss."""
    common = ("oss.adquan.com", "file.adquan.com")
    return [each for each in cases if not any(f"//{host}/" in each.main_image for host in common)]
