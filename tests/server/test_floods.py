"""`rehost serve` under floods: another client is answered, and memory stays bounded."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.backend.conftest import BACKEND
from tests.databases import CASES
from tests.pictures import picture
from tests.server.conftest import KEY, PREFIX, free_socket

from rehost.model import Format

MAX_MEGABYTES = 150  # more than the server takes by itself
ANSWER_SECONDS = 15.0  # expected: a few milliseconds, one second where the flood begins
REHOST = (sys.executable, "-m", "rehost", "serve")
BACKEND_PROGRAM = (sys.executable, str(BACKEND / "run.py"))
LINKS = 600
BIG = 3_000_000
PATH = f"{PREFIX}/{KEY}"


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def connect(self, address="127.0.0.1"):
        """Connect as a client that takes little at a time."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(ANSWER_SECONDS)
        client.bind((address, 0))
        client.connect(("127.0.0.1", self.port))
        return client

    def answers(self, address="127.0.0.1"):
        """Return the beginning of what a client gets that asks for ten bytes of a copy.

        Like a browser it asks again if its connection was closed, which can happen to it at the address of a flood.
        """
        end = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(ConnectionError), self.connect(address) as client:
                client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-9\r\n\r\n".encode())
                if answer := client.recv(12):
                    return answer
        return b""

    def peak_megabytes(self):
        """Return the most memory that the process has taken since it was started."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


@pytest.fixture
def silent_origin() -> Iterator[int]:
    """The port of an origin that takes connections and never answers."""
    with free_socket() as origin:
        origin.listen(1000)
        yield origin.getsockname()[1]


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path, silent_origin: int) -> Iterator[Server]:
    """A running server: `rehost serve`, or the program that a test names."""
    copy = tmp_path / "images" / KEY
    copy.parent.mkdir(parents=True)
    copy.write_bytes(picture(1, Format.PNG, 40, 30) + os.urandom(BIG))
    with contextlib.closing(sqlite3.connect(tmp_path / "c.db")) as database, database:
        database.execute(CASES)
        links = [(number, f"http://127.0.0.1:{silent_origin}/{number}.png") for number in range(LINKS)]
        database.executemany("INSERT INTO ad_cases VALUES (?, 'http://p.example/', 't', ?, NULL)", links)
    with free_socket() as chosen:
        port = chosen.getsockname()[1]
    settings = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"sqlite:///{tmp_path}/c.db",
        "IMAGE_STORAGE_DIR": str(tmp_path / "images"),
        "IMAGE_STATIC_URL_PREFIX": PREFIX,
        "IMAGE_MIN_FREE_BYTES": "0",
        "IMAGE_READ_THROUGH": "on",
        "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
        "API_PORT": str(port),
    }
    command = getattr(request, "param", REHOST)
    said = tmp_path / "said"
    with said.open("w") as log, subprocess.Popen(command, env=settings, cwd=tmp_path, stderr=log) as process:
        while not any(each in said.read_text() for each in ("Serving at", "running on")):
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
        yield Server(port, process.pid)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture
def many(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """A callable: how many clients of a flood there are; with --full three times as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield lambda number: number * (3 if request.config.getoption("full") else 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def get(path, *more):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *more, "", ""]).encode()


def streams(number):
    """Return what asks for a copy so many times by HTTP/2, and allows no byte of an answer (RFC 9113)."""
    settings = struct.pack(">HI", 4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE
    block = b"\x82\x86" + b"\x04" + bytes([len(PATH)]) + PATH.encode() + b"\x41\x09localhost"
    frames = [frame(4, 0, 0, settings), *(frame(1, 5, 2 * each + 1, block) for each in range(number))]
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"".join(frames)


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


FLOODS = {
    "idle": (2100, lambda _: b""),
    "unfinished headers": (2100, lambda _: get("/")[:-2] + b"X: "),
    "unfinished bodies": (
        2100,
        lambda _: b"POST /api/retry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{",
    ),
    "slow readers of ranges": (600, lambda _: get(PATH, f"Range: bytes=1-{BIG}")),
    "slow readers of many ranges": (300, lambda _: get(PATH, f"Range: bytes=1-{BIG // 2},{BIG // 2 + 2}-{BIG}")),
    "slow readers of copies": (600, lambda _: get(PATH)),
    "streams of events": (600, lambda _: get("/api/live")),
    "pictures of a silent origin": (LINKS, lambda number: get(f"/image/cases/{number % LINKS}")),
    "HTTP/2 without a window": (20, lambda _: streams(100)),
}


IN_BACKEND = ("idle", "slow readers of ranges", "slow readers of copies")


@pytest.mark.skipif(sys.platform != "linux", reason="connections are bounded on Linux only")
@pytest.mark.sampled(2, per="server")
@pytest.mark.parametrize(
    ("server", "flood"),
    [*((REHOST, flood) for flood in FLOODS), *((BACKEND_PROGRAM, flood) for flood in IN_BACKEND)],
    indirect=["server"],
    ids=[*FLOODS, *(f"backend: {flood}" for flood in IN_BACKEND)],
)
def test_flood_leaves_others_their_answers_and_takes_little_memory(server, many, flood):
    number, sends = FLOODS[flood]
    answers, before = [], server.peak_megabytes()
    with contextlib.ExitStack() as stack:
        for each in range(many(number)):
            with contextlib.suppress(OSError):  # the server may close it
                client = stack.enter_context(server.connect())
                client.sendall(sends(each))
        for _ in range(4):
            time.sleep(0.3)
            answers += [server.answers("127.0.0.2"), server.answers()]

    assert set(answers) == {b"HTTP/1.1 206"}
    assert server.peak_megabytes() - before < MAX_MEGABYTES


def test_server_ends_though_clients_do_not_read(server):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(server.connect()).sendall(get(PATH))
        time.sleep(0.3)
        os.kill(server.pid, 15)
        ended = os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        deadline = time.monotonic() + 60
        while ended is None and time.monotonic() < deadline:
            time.sleep(0.1)
            ended = os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)

    assert ended is not None
    assert ended.si_status == 0
