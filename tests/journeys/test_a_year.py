"""A year of upkeep in the order of its months: what was copied stays right, follows its origins, and can be put back.

The database's clock counts, and the trash goes by the times of its files. So a month passes when every time that the
ledger and the store have is moved back by thirty days.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import LIMIT, World, ended
from tests.misbehaviours import NOTICE
from tests.origin import Behaviour, Origin
from tests.pictures import picture

from rehost.db import Moment
from rehost.ledger.schema import metadata
from rehost.model import Format

SETTINGS = {"IMAGE_DOWNLOAD_CONCURRENCY": "10", "IMAGE_DOWNLOAD_RETRY": "1", "REHOST_LANG": "en"}
SOURCE = """
[source.{name}]
table = "goods"
key = "id"
link = "{name}"
local = "{name}_local"
path = "{name}/{{key}}"
"""
TABLE = "CREATE TABLE goods (id INTEGER PRIMARY KEY, photo TEXT, photo_local TEXT, thumb TEXT, thumb_local TEXT)"
PHOTOS, THUMBS = "photos.example", "thumbs.example"
TAKEN_DOWN, DYING = f"http://{PHOTOS}/picture/private.jpg", "http://dying.example/picture/8.jpg"
NUMBER = 16  # rows
MONTH_SECONDS = 30 * 86_400


@dataclass
class Faces:
    """What the hosts show this month, and everything that they have shown."""

    shown: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by host and path
    hosts: dict[str, Behaviour | str | bytes] = field(default_factory=dict)

    def __call__(self, host: str, path: str, _headers: Mapping[str, str]) -> Behaviour | str | bytes | None:
        return self.hosts.get(host) or self.shown.get((host, path))

    def show(self, url: str, width: int = 96) -> bytes:
        """Show another picture under a URL."""
        _, _, host, path = url.split("/", 3)
        body = picture(zlib.crc32(f"{url} {len(self.shown)}".encode()), Format.JPEG, width, width * 3 // 4)
        self.shown[host, f"/{path}"] = body
        return body


class Year:
    """A shop with two pictures in each row, and the commands of its operator."""

    def __init__(self, world: World, faces: Faces) -> None:
        self.world, self.faces = world, faces
        self.dice = random.Random(os.environ["REHOST_TEST_SEED"])
        self.good: set[str] = set()  # digests of all pictures that an origin has given honestly
        (world.folder / "rehost.toml").write_text("".join(SOURCE.format(name=name) for name in ("photo", "thumb")))
        world.sql(TABLE)
        photos = {5: TAKEN_DOWN, 6: TAKEN_DOWN, 8: DYING}
        for number in range(1, NUMBER + 1):
            own, small = (f"http://{host}/picture/{number}.jpg" for host in (PHOTOS, THUMBS))
            self.add(number, photos.get(number, own), TAKEN_DOWN if number == 7 else small)

    def add(self, number: int, *urls: str) -> None:
        """Add a row with a photo, and perhaps a thumb."""
        self.good |= {digest(self.world.origin.picture(url)) for url in urls}
        photo, thumb = (f"'{url}'" for url in urls) if urls[1:] else (f"'{urls[0]}'", "NULL")
        self.world.sql(f"INSERT INTO goods VALUES ({number}, {photo}, NULL, {thumb}, NULL)")

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """Run `rehost` and return exit status, stdout and stderr."""
        with self.world.start(verb=arguments[0], options=arguments[1:]) as command:
            done = ended(command)
        return done.returncode, done.stdout, done.stderr

    def read(self, *arguments: str, status: int = 0) -> Any:
        """Run `rehost ... --json` and return what it printed."""
        found, out, err = self.call(*arguments, "--json")
        assert status == found, f"{arguments}: {found}\n{out}\n{err}"
        return json.loads(out)

    def files(self) -> dict[str, bytes]:
        """Return the copies in the store, by key."""
        store = self.world.store
        found = [path for path in store.rglob("*") if path.is_file() and ".rehost" not in path.parts]
        return {str(path.relative_to(store)): path.read_bytes() for path in found}

    def trash(self) -> set[str]:
        """Return the digests of what lies in the trash."""
        return {path.name for path in (self.world.store / ".rehost/trash").rglob("*") if path.is_file()}

    def rows(self) -> dict[str, str]:
        """Return the keys of the copies that rows point at, by source and id."""
        rows = self.world.sql("SELECT id, photo_local, thumb_local FROM goods")
        cells = [
            (f"{name} {row[0]}", local) for row in rows for name, local in zip(("photo", "thumb"), row[1:], strict=True)
        ]
        return {name: local.removeprefix("/static/images/") for name, local in cells if local}

    def check(self) -> None:
        """Assert that every row points at a whole picture of its own, or at nothing."""
        files = self.files()
        for name, key in self.rows().items():
            assert key in files, f"{name} points at {key}, which is not there"
            assert digest(files[key]) in self.good, f"{name} has a picture that no origin gave"

    def change(self, url: str, width: int = 96) -> bytes:
        """Let an origin change a picture, honestly."""
        body = self.faces.show(url, width)
        self.good.add(digest(body))
        return body

    def pass_a_month(self) -> None:
        """Move the clock on by thirty days."""
        is_sqlite = self.world.postgres is None
        far = "200000000000" if is_sqlite else "'9000-01-01'"  # what is later is never, and stays so
        month = str(MONTH_SECONDS) if is_sqlite else f"interval '{MONTH_SECONDS} seconds'"
        statements = []
        for table in metadata.sorted_tables:
            moments = [column.name for column in table.columns if isinstance(column.type, Moment)]
            changes = [f"{name} = CASE WHEN {name} < {far} THEN {name} - {month} ELSE {name} END" for name in moments]
            statements += [f"UPDATE {table.name} SET {', '.join(changes)}"] if changes else []
        for statement in statements if is_sqlite else ["; ".join(statements)]:
            self.world.sql(statement)
        for path in self.world.store.rglob("*"):
            if path.is_file():
                state = path.stat()
                os.utime(path, (state.st_atime - MONTH_SECONDS, state.st_mtime - MONTH_SECONDS))

    def answers(self, *keys: str) -> list[int]:
        """Return the status with which `rehost serve` answers for each of these copies."""
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        with self.world.start(verb="serve", options=["--api-port", str(port)]) as command:
            self.wait_for(port)
            found = [status_of(f"http://127.0.0.1:{port}/static/images/{key}") for key in keys]
            command.send_signal(signal.SIGTERM)
            ended(command)
        return found

    def wait_for(self, port: int) -> None:
        """Return when a server listens."""
        until = time.monotonic() + LIMIT
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), LIMIT):
                return
            assert time.monotonic() < until, "the server does not start"
            time.sleep(0.05)

    def night(self, *, says: str = "") -> None:
        """Do what cron does at night, which prints nothing, or one line."""
        status, out, err = self.call("upkeep", "--for", "20s", "--quiet")
        assert (status, out, len(err.splitlines())) == (int(bool(says)), "", int(bool(says))), err
        assert says in err
        self.check()


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# --- the months


def january(year: Year) -> None:
    """The first run copies everything, and verify agrees."""
    ran = year.read("run")

    assert ran["total"]["held"] == len(year.rows()) == 2 * NUMBER
    verified = year.read("verify")
    assert (verified["copies"], verified["found"]) == (2 * NUMBER, {})


def february(year: Year) -> None:
    """A disk flips a byte, loses a file and cuts one: verify names all three, and mends them."""
    before = year.files()
    altered, missing, cut = year.dice.sample(sorted(before), 3)
    flipped = bytearray(before[altered])
    flipped[len(flipped) // 2] ^= 0x20
    for key, body in ((altered, bytes(flipped)), (cut, before[cut][: len(before[cut]) // 2])):
        (year.world.store / key).write_bytes(body)
    (year.world.store / missing).unlink()

    found = year.read("verify", status=1)
    mended = year.read("verify", "--repair")

    assert found["left"] == {"altered": 1, "cut": 1, "missing": 1}
    assert {each["key"] for each in found["findings"]} == {altered, missing, cut}
    assert (mended["left"], sum(mended["mended"].values())) == ({}, 3)
    assert before == year.files()
    assert year.read("verify")["found"] == {}


def march(year: Year) -> None:
    """Pictures change one by one: refresh follows, and undo puts one back."""
    changed = {f"photo/{number}.jpg": year.change(f"http://{PHOTOS}/picture/{number}.jpg") for number in (1, 2)}

    first = year.read("refresh")
    held = year.files()
    year.change(f"http://{PHOTOS}/picture/3.jpg")
    second = year.read("refresh", "--key", "3")
    replaced = year.files()
    undone = year.call("undo", str(second["run"]))

    assert (first["asked"], first["replaced"]) == (2 * NUMBER, 2)
    assert {key: held[key] for key in changed} == changed
    assert (second["asked"], second["replaced"]) == (2, 1)
    assert [key for key in held if held[key] != replaced[key]] == ["photo/3.jpg"]
    assert undone[0] == 0, undone
    assert held == year.files()


def april(year: Year) -> None:
    """A host has one placeholder for everything: it freezes in the night, and the operator keeps what is held."""
    before = {key: body for key, body in year.files().items() if key.startswith("thumb/")}, year.rows()
    year.faces.hosts[THUMBS] = NOTICE

    year.night(says="frozen origins: 1 (rehost origins)")
    after = {key: body for key, body in year.files().items() if key.startswith("thumb/")}, year.rows()
    told = year.call("origins")
    kept = year.call("origins", "--keep", THUMBS)
    requests = year.world.origin.count(host=THUMBS)
    year.read("refresh", "--older-than", "1s")

    assert before == after
    assert f"frozen: http://{THUMBS}\n" in told[1]
    assert kept[0] == 0, kept
    assert year.world.origin.count(host=THUMBS) == requests


def may(year: Year) -> None:
    """The host has smaller pictures now, each its own: they come once the operator accepts them."""
    year.faces.hosts.clear()
    thumbs = [url for (url,) in year.world.sql("SELECT thumb FROM goods") if f"//{THUMBS}/" in url]
    smaller = {digest(year.change(url, 40)) for url in thumbs}

    before = year.read("refresh", "--origin", THUMBS)
    accepted = year.call("origins", "--accept", THUMBS)
    after = year.read("refresh", "--origin", THUMBS)

    assert before["asked"] == 0
    assert accepted[0] == 0, accepted
    assert (after["replaced"], after["frozen"]) == (len(thumbs), [])
    assert smaller <= {digest(body) for body in year.files().values()}


def june(year: Year) -> None:
    """Rows are deleted: prune names their copies, moves them to the trash, and undo puts them back."""
    year.world.sql("DELETE FROM goods WHERE id IN (14, 15, 16)")
    gone = {f"{name}/{number}.jpg" for name in ("photo", "thumb") for number in (14, 15, 16)}
    before = year.files()

    planned = year.read("prune", status=1)
    after_plan = year.files()
    pruned = year.read("prune", "--yes")
    after_prune = year.files()
    undone = year.call("undo", str(pruned["run"]))

    assert planned["copies"]["files"] == pruned["copies"]["files"] == len(gone)
    assert before == after_plan
    assert before.keys() - after_prune.keys() == gone
    assert {digest(before[key]) for key in gone} <= year.trash()
    assert undone[0] == 0, undone
    assert before == year.files()


def july(year: Year) -> None:
    """They are pruned for good, and a month later the trash is empty."""
    pruned = year.read("prune", "--yes")
    in_trash = len(year.trash())
    year.pass_a_month()
    emptied = year.read("prune", "--yes")

    assert pruned["strays"]["files"] + pruned["copies"]["files"] == 6
    assert in_trash >= 6
    assert sum(each["files"] for each in emptied["expired"].values()) == in_trash
    assert year.trash() == set()
    assert year.read("prune")["strays"] == {"files": 0, "size": 0}


def august(year: Year) -> None:
    """A picture is taken down, under all its keys: servers say so, and nothing brings it back."""
    rows = {name: key for name, key in year.rows().items() if name in {"photo 5", "photo 6", "thumb 7"}}

    receipt = year.read("forget", TAKEN_DOWN)
    year.add(31, TAKEN_DOWN)
    runs = [year.call(*words) for words in (("run",), ("verify", "--repair"), ("refresh", "--older-than", "1s"))]
    status = year.read("status")

    assert {each["key"] for each in receipt["removed"]} == set(rows.values())
    assert [found for found, _, _ in runs] == [1, 0, 0], runs
    assert not {*rows, "photo 31"} & year.rows().keys()
    assert not set(rows.values()) & year.files().keys()
    assert "taken-down" in json.dumps(status)
    assert year.answers(*rows.values(), year.rows()["photo 1"]) == [410, 410, 410, 200]


def september(year: Year) -> None:
    """A host dies: what is held of it stays, and a new row with a link to it gets no picture."""
    year.faces.hosts["dying.example"] = "gone"
    year.add(32, DYING)

    ran = year.call("run")
    refreshed = year.read("refresh")

    assert ran[0] == 1, ran
    assert refreshed["replaced"] == 0
    assert "photo 8" in year.rows()
    assert "photo 32" not in year.rows()


def october(year: Year) -> None:
    """The new row fails again."""
    assert year.call("run")[0] == 1
    assert "photo 32" not in year.rows()


def november(year: Year) -> None:
    """After its third failure, its picture is rescued from the row that holds it."""
    year.call("run", "--retry", "gone", "--rescue")  # it may be due only in a few days

    files, rows = year.files(), year.rows()
    assert files[rows["photo 32"]] == files[rows["photo 8"]]


def december(year: Year) -> None:
    """At the end of the year every row has its picture, but for what was taken down, and no file is left over."""
    verified = year.read("verify")
    pruned = year.read("prune")

    rows, files = year.rows(), year.files()
    links = year.world.sql("SELECT count(photo), count(thumb) FROM goods")
    taken_down = 4
    assert (verified["found"], pruned["copies"]["files"], pruned["strays"]["files"]) == ({}, 0, 0)
    assert len(rows) == sum(map(int, links[0])) - taken_down == verified["copies"]
    assert set(rows.values()) == files.keys()


MONTHS = (january, february, march, april, may, june, july, august, september, october, november, december)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play it on PostgreSQL, and with --full on SQLite as well."""
    metafunc.parametrize("engine", ["postgresql", "sqlite"] if metafunc.config.getoption("full") else ["postgresql"])


@pytest.fixture
def year(engine: str, fork_server: ForkServer, proof: Mapping[str, str], tmp_path: Path, request) -> Iterator[Year]:
    faces = Faces()
    with Origin(faces) as origin:
        server = request.getfixturevalue("postgres") if engine == "postgresql" else None
        database = server.create_database() if server is not None else ""
        yield Year(World(tmp_path, origin, server, database, {**SETTINGS, **proof}, fork_server=fork_server), faces)
        if server is not None:
            server.drop_database(database)


@pytest.mark.timeout(600)
def test_a_year_of_upkeep_leaves_every_row_with_its_picture(year, sample) -> None:
    nights = sample(MONTHS, 4)
    for month in MONTHS:
        month(year)
        if month in nights:
            year.night()
        else:
            year.check()
        year.pass_a_month()
