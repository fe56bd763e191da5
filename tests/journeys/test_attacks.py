"""Whole runs and servers under attack: strangers' links and origins neither stop good pictures nor harm held ones.

Every attack is played beside good pictures of other hosts, with the attacker's links first in the table. `./dev test`
plays a small form of each, `--full` all of it, with the settings that operators have by default.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from tests import attackers
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import TABLE, Command, World, ended
from tests.origin import Behaviour, Exchange, Origin
from tests.pictures import picture
from tests.postgres import Postgres

from rehost.model import Format

MEMORY = 1_500_000_000
"""Bytes of address space that a program may have here: what grows without end fails instead of the machine."""
MOST_RESIDENT = 150 * 1024**2
GRACE_SECONDS = 30.0  # on top of twice the time that the run takes without the attack: this machine may be busy
LONGEST_RUN = 900.0  # a run with slow origins and the usual limits takes minutes; this machine may be busy
MOST_EVIDENCE = 500  # characters

BRIEF = {"IMAGE_DOWNLOAD_TIMEOUT": "4", "IMAGE_DOWNLOAD_RETRY": "1"}
"""For attacks that last as long as an attempt may."""

Links = Mapping[str, int]
"""What the attacker's origins do (tests/attackers.py), or where the link leads, and how many links do that."""


@dataclass(frozen=True)
class Group:
    """Attacks of one kind: played together, or with --full each alone and with more links."""

    attacks: Sequence[Links]
    many: int = 3  # times as many links with --full
    hosts: int = 3  # registrable domains of each attack
    settings: Mapping[str, str] = field(default_factory=dict)
    brief: Mapping[str, str] = field(default_factory=dict)  # settings in place of the defaults, unless --full is given

    def played(self, *, is_full: bool) -> Sequence[Links]:
        """Return the links of each run."""
        if not is_full:
            return [{name: number for attack in self.attacks for name, number in attack.items()}]
        return [{name: number * self.many for name, number in attack.items()} for attack in self.attacks]


GROUPS = {
    "answers that break HTTP": Group(
        [
            {"status-099": 1},
            {"status-099": 2, "status-099-counted": 1, "status-000-chunked": 1, "status-999": 1, "status-600": 1},
            {"interim-flood": 4, "interim-bodies": 2},
            {"one-byte-chunks": 5},
            {"chunks-of-ten": 3},
            {"chunk-extensions": 3, "chunk-zeros": 2, "chunk-extensions-of-names": 2},
            {"fields": 2, "one-field": 2, "reason-phrase": 2, "blank-lines": 2, "trailers": 2},
            {"gzip-bomb": 3, "gzip-nothing": 3, "gzip-header": 2},
            {"length-of-digits": 2, "retry-after-digits": 2, "retry-after-date": 2},
            {"odd-fields": 2, "odd-page": 2, "odd-location": 4},
        ],
        brief=BRIEF,
    ),
    "origins that are slow": Group(
        [
            {"drip": 6, "drip-chunks": 3, "drip-head": 3, "interim-drip": 3, "silent": 3},
            {"redirect-circle": 3, "redirect-long": 3, "redirect-slow": 3, "redirect-names": 3},
            {"tls": 5},
        ],
        many=8,
        brief=BRIEF,
    ),
    "pictures that are heavy to decode": Group(
        [{"webp-heavy": 24}, {"gif-heavy": 1}], many=4, settings={"IMAGE_VERIFY": "decode"}
    ),
    "closed ports of an innocent host": Group(
        [{"port": 40}, {"scheme": 40}, {"redirect-to-closed-port": 20}, {"redirect-to-closed-scheme": 20}]
    ),
}


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture(scope="module")
def evil() -> Iterator[Mapping[str, int]]:
    """The ports of the attackers' process."""
    with attackers.attackers() as ports:
        yield ports


@pytest.fixture(scope="module")
def closed() -> Iterator[int]:
    """A port on which nothing listens, and nothing will."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture
def is_full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("full"))


NewWorld = Callable[..., World]


@pytest.fixture
def new_world(
    postgres: Postgres,
    origin: Origin,
    evil: Mapping[str, int],
    closed: int,
    fork_server: ForkServer,
    proof: Mapping[str, str],
    tmp_path: Path,
) -> Iterator[NewWorld]:
    """Make worlds in which port 80 of every name leads to the honest origin, and the attackers' ports to them."""
    worlds: list[World] = []
    ports = {**{port: port for port in evil.values()}, 4444: closed, 443: closed}
    routes = " ".join([*(f"*:{port}:127.0.0.1:{to}" for port, to in ports.items()), origin.connect_to])

    def make(settings: Mapping[str, str] | None = None) -> World:
        folder = tmp_path / f"world-{len(worlds)}"
        folder.mkdir()
        chosen = {**proof, "IMAGE_CONNECT_TO": routes, **(settings or {})}
        worlds.append(World(folder, origin, postgres, postgres.create_database(), chosen, fork_server=fork_server))
        worlds[-1].sql(TABLE)
        return worlds[-1]

    yield make
    for world in worlds:
        postgres.drop_database(world.database)


def good_links(number: int, hosts: int = 3) -> list[str]:
    return [f"http://good-{each % hosts}.test/picture/{each}.jpg" for each in range(number)]


def bad_links(links: Links, evil: Mapping[str, int], hosts: int = 3) -> list[str]:
    found = []
    for name, number in links.items():
        for each in range(number):
            host = f"{name}.evil-{each % hosts}.test"
            elsewhere = {
                "tls": f"https://{host}:{evil['tls']}/{each}.jpg",
                "port": f"http://good-0.test:4444/{each}.jpg",
                "scheme": f"https://good-0.test/{each}.jpg",
            }
            found.append(elsewhere.get(name, f"http://{host}:{evil['http']}/{name}/{each}.jpg"))
    return found


@dataclass
class Measured:
    """A run, and what it did to the good pictures."""

    bad: Sequence[str]  # some of the attacker's links
    seconds: float  # until all good pictures were held, or the run ended without
    held: int
    resident: int  # bytes, the most that the main process had
    status: int | None
    output: str


def measure(world: World, good: Sequence[str], bad: Sequence[str] = (), before: Sequence[str] = ()) -> Measured:
    """Run over the links, the bad ones first in the table."""
    world.fill([*bad, *good])
    ours = [world.store / f"{case_id}/main_image.jpg" for case_id in range(len(bad) + 1, len(bad) + len(good) + 1)]
    begun = time.monotonic()
    with world.start(*before) as command:
        resource.prlimit(command.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        seconds, resident = watch(command, ours, begun + LONGEST_RUN)
        done = ended(command)
    held = world.held()
    return Measured(
        bad[::7][:9], seconds - begun, len(held & set(good)), resident, done.returncode, done.stdout + done.stderr
    )


def watch(command: Command, files: Sequence[Path], until: float) -> tuple[float, int]:
    """Return when the last of the files was there, and the most memory that was resident; wait for the end."""
    missing, complete, resident = list(files), 0.0, 0
    while command.poll() is None:
        resident = max(resident, peak(command.pid))
        missing = [file for file in missing if not file.exists()]
        complete = complete or (0.0 if missing else time.monotonic())
        if time.monotonic() > until:
            os.kill(command.pid, signal.SIGKILL)
            raise AssertionError(f"the run did not end by itself; {len(missing)} of {len(files)} files are missing")
        time.sleep(0.05)
    return complete or time.monotonic(), resident


def peak(pid: int) -> int:
    """Return the most memory that a process has had resident, in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def check(measured: Measured, good: Sequence[str], alone: Measured, world: World) -> None:
    """Assert what every attack must leave as it is."""
    assert (alone.held, alone.status) == (len(good), 0), alone.output
    assert measured.held == len(good), measured
    is_all_held = world.sql("SELECT count(*) FROM ad_cases WHERE main_image_local IS NULL") == [("0",)]
    assert measured.status == (0 if is_all_held else 1), measured  # docs/howto/every-night.md
    assert measured.resident < MOST_RESIDENT, measured
    assert measured.seconds < 2 * alone.seconds + GRACE_SECONDS, measured
    shown = ended(world.start(verb="status"))
    assert shown.returncode == 0, shown.stderr
    assert world.sql("SELECT count(*) FROM rehost_links WHERE state = 'leased' OR reason = 'bug'") == [("0",)]
    assert int(world.sql("SELECT coalesce(max(length(evidence)), 0) FROM rehost_links")[0][0]) <= MOST_EVIDENCE


@pytest.mark.timeout(3600)
@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", GROUPS)
def test_good_pictures_are_held_as_soon_as_ever_beside(name, new_world, evil, is_full) -> None:
    group = GROUPS[name]
    settings = {**group.settings, **({} if is_full else group.brief)}
    good = good_links(300 if is_full else 100)
    alone = measure(new_world(settings), good)
    for links in group.played(is_full=is_full):
        world = new_world(settings)

        attacked = measure(world, good, bad_links(links, evil, group.hosts))

        check(attacked, good, alone, world)


# --- names


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """What to put before a command that runs in a network of its own, with a DNS server (tests/attackers.py)."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    for flags in ("-nm", "-rnm"):
        command = ["unshare", flags]
        probe = [*command, "ip", "link", "set", "lo", "up"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return [*command, sys.executable, attackers.__file__, "names", str(tmp_path)]
    pytest.skip("this user may not make a network namespace")


@pytest.fixture
def alone_in_network(origin: Origin, proof: Mapping[str, str], tmp_path: Path, is_full: bool) -> Callable[[], World]:
    """Make worlds on SQLite, for programs that no server outside their network can reach."""
    numbers = iter(range(9))

    def make() -> World:
        folder = tmp_path / f"names-{next(numbers)}"
        folder.mkdir()
        settings = {
            **proof,
            **({} if is_full else BRIEF),
            "IMAGE_CONNECT_TO": "",
            "RESOLVER_OPTIONS": "timeout:5" if is_full else "timeout:2",
        }
        world = World(folder, origin, None, settings=settings)
        world.sql(TABLE)
        return world

    return make


@pytest.mark.timeout(900)
def test_a_name_with_thousands_of_addresses_costs_a_few_connections(names, alone_in_network, tmp_path) -> None:
    good = good_links(30)
    alone = measure(alone_in_network(), good, before=names)
    world, bad = alone_in_network(), ["http://www.many.test/1.jpg"]

    attacked = measure(world, good, bad, before=names)

    check(attacked, good, alone, world)
    assert int((tmp_path / "connects").read_text()) < 100


@pytest.mark.timeout(900)
def test_names_that_are_never_answered_keep_no_picture_waiting(names, alone_in_network, is_full) -> None:
    good = good_links(60)
    alone = measure(alone_in_network(), good, before=names)
    world = alone_in_network()
    bad = [f"http://n{number}.silent.test/1.jpg" for number in range(200 if is_full else 48)]

    attacked = measure(world, good, bad, before=names)

    check(attacked, good, alone, world)
    assert attacked.seconds < 2 * alone.seconds + GRACE_SECONDS / 2


# --- spellings of one host


SPELLINGS = [
    "good-0.test",
    "GOOD-0.test",
    "good-0.test.",
    "%67ood-0.test",
    "good%2d0.test",
    "\uff47\uff4f\uff4f\uff44-0.test",  # full-width
    "good-0\u3002test",  # ideographic full stop
    "good-0.te\u00adst",
    "good-0.test:80",
    "good-0.\u24e3est",  # circled
]


FORMS = [
    "http://{host}/picture/{name}.jpg",
    "http:{host}/picture/{name}.jpg",
    "http:\\\\{host}\\picture\\{name}.jpg",
    "ht\ntp://{host}/picture/{name}.jpg",
    "  http:////{host}/picture/{name}.jpg\t",
    "{host}/picture/{name}.jpg",
]


def test_no_spelling_of_a_host_evades_its_budget(new_world) -> None:
    links = [
        link.format(host=host, name=f"{place}-{number}")
        for place, host in enumerate(SPELLINGS)
        for number, link in enumerate(FORMS)
    ]
    world = new_world({"IMAGE_DAILY_BUDGET": "5"})
    before = len(world.origin.requests)

    world.fill(links)
    done = world.run()

    assert done.returncode == 1, done.stderr
    asked = {each.host.rstrip(".") for each in world.origin.requests[before:]}
    assert (asked, len(world.origin.requests) - before) == ({"good-0.test"}, 5)


# --- decoys that an attacker stages


ALICE = picture(1, Format.JPEG, 200, 100)
OTHER = [picture(number, Format.JPEG, 210, 100) for number in (2, 3)]
HERS = ("cat", "dog")


@dataclass
class SharedHost:
    """A host on which Alice has pictures, and so has Bob, who attacks her."""

    redirects: bool = False  # the host redirects wherever a link says, and Bob's own server answers
    varies: bool = False  # with a Referer, Bob shows another picture each time
    overwrites: bool = False  # Bob's pictures are his own until he attacks; he has no others, under no name
    is_attack: bool = False
    asked: int = 0

    def __call__(self, host: str, path: str, headers: Mapping[str, str]) -> Behaviour | str | bytes:
        if path.startswith("/~alice/"):
            name = path.removeprefix("/~alice/").partition(".")[0]
            return {"cat": ALICE, "dog": OTHER[0], "new": OTHER[1]}.get(name, "not-found")
        if self.redirects and host == "shared.test":
            return redirect_to_bob
        self.asked += 1
        if self.overwrites and len(path) > len("/~bob/00.jpg"):
            return "not-found"
        if self.is_attack and not (self.varies and "referer" in headers):
            return ALICE
        return picture(100 + self.asked, Format.JPEG, 220, 100)


async def redirect_to_bob(exchange: Exchange) -> None:
    await exchange.reply(302, b"", f"Location: http://bob.test{exchange.asked.target}")


STAGED = {
    "copies": {},
    "copies, overwritten": {"overwrites": True},
    "copies, by Referer": {"varies": True},
    "copies behind a redirect": {"redirects": True},
    "copies behind a redirect, by Referer": {"redirects": True, "varies": True},
    "copies behind a redirect, overwritten": {"redirects": True, "overwrites": True},
}


@pytest.mark.timeout(600)
@pytest.mark.sampled(2)
@pytest.mark.parametrize("staged", STAGED)
def test_a_held_picture_survives_its_copies_in_a_strangers_folder(new_world, staged, sample) -> None:
    for number, is_held_before in sample([(2, True), (2, False), (3, True), (12, False), (12, True)], 1):
        play = SharedHost(**STAGED[staged])
        with Origin(play) as shared:
            world = new_world({"IMAGE_CONNECT_TO": shared.connect_to})
            world.origin = shared
            stage(world, play, number, is_held_before=is_held_before)
            check_hers(world, f"{number} links, {is_held_before=}")


def stage(world: World, play: SharedHost, number: int, *, is_held_before: bool) -> None:
    """Play an attack with this many links, and some runs after it."""
    for case_id, name in enumerate(HERS, 1):
        world.add(case_id, f"http://shared.test/~alice/{name}.jpg")
    if is_held_before:
        run_all(world)
    for each in range(number):
        world.add(10 + each, f"http://shared.test/~bob/{each}.jpg")
    if play.overwrites:
        run_all(world)
        for each in range(number, 2 * number):
            world.add(10 + each, f"http://shared.test/~bob/{each}.jpg")
    play.is_attack = True
    for _ in range(3):
        run_all(world)
    world.add(len(HERS) + 1, "http://shared.test/~alice/new.jpg")
    run_all(world)


def run_all(world: World) -> None:
    with world.start(options=["--retry", "all"]) as command:
        done = ended(command)
    assert done.returncode in {0, 1}, done.stderr


def check_hers(world: World, case: str) -> None:
    """Assert that all of Alice's pictures are held, the one that came after the attack too."""
    hers = dict(world.sql("SELECT case_id, main_image_local FROM ad_cases WHERE case_id < 10"))
    assert hers == {str(number): f"/static/images/{number}/main_image.jpg" for number in (1, 2, 3)}, case
    assert (world.store / "1/main_image.jpg").read_bytes() == ALICE, case


# --- a server that fetches what is asked for


class Server:
    """`rehost serve` in a process of its own, with read-through."""

    def __init__(self, world: World) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        settings = {"IMAGE_READ_THROUGH": "on", "API_PORT": str(self.port)}
        self.command = world.start(verb="serve", settings=settings)

    def __enter__(self) -> Self:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                self.get("/health", 5)
                resource.prlimit(self.command.pid, resource.RLIMIT_AS, (2 * MEMORY, 2 * MEMORY))
                return self
            assert self.command.poll() is None, self.command.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.command.send_signal(signal.SIGKILL)
        self.command.communicate(timeout=60)

    def get(self, path: str, seconds: float) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            reply.read()
            return reply.status

    def serves(self, number: int, seconds: float = 90) -> bool:
        """Return whether a picture comes in this time; until then, all that may come is that it takes longer."""
        until = time.monotonic() + seconds
        while (status := self.get(f"/image/cases/{number}", seconds)) in {503, 504} and time.monotonic() < until:
            time.sleep(0.5)
        assert status in {200, 503, 504}
        return status == 200

    def tries(self, *numbers: int) -> None:
        """Request pictures, one after the other, whatever comes."""
        for number in numbers:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.get(f"/image/cases/{number}", 60)


@pytest.mark.timeout(600)
def test_a_server_that_fetches_bad_links_still_fetches_good_ones(new_world, evil, is_full) -> None:
    bad = [
        link for group in GROUPS.values() for links in group.played(is_full=False) for link in bad_links(links, evil)
    ]
    good = good_links(60 if is_full else 8)
    world = new_world(BRIEF)
    world.fill([*bad, *good])

    with Server(world) as server:
        for start in range(8):
            threading.Thread(target=server.tries, args=range(1 + start, len(bad) + 1, 8), daemon=True).start()
        served = [server.serves(len(bad) + 1 + number) for number in range(len(good))]

        assert all(served)
        assert peak(server.command.pid) < MOST_RESIDENT + 50 * 1024**2
        server.command.send_signal(signal.SIGTERM)
        assert server.command.wait(60) == 0


@pytest.mark.timeout(600)
def test_links_that_are_slow_to_fetch_hold_no_place_of_good_ones(new_world, evil, is_full) -> None:
    bad, good = bad_links({"silent": 100}, evil), good_links(3)
    world = new_world({} if is_full else BRIEF)
    world.fill([*bad, *good])

    with Server(world) as server:
        for number in range(1, len(bad) + 1):
            threading.Thread(target=server.tries, args=(number,), daemon=True).start()
        time.sleep(1)
        served = [server.serves(len(bad) + 1 + number) for number in range(len(good))]

        assert all(served)
