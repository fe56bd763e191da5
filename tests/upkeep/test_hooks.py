"""Hooks: a command or a URL gets an event as JSON, bounded in time, and a failure is only words."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from rehost.upkeep.hooks import Hook

EVENT = {"event": "after_forget", "takedown": 7, "urls": ["/static/images/猫.jpg"]}


def python(program: str, *arguments: object) -> str:
    return shlex.join([sys.executable, "-c", program, *map(str, arguments)])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_command_gets_the_event_as_its_input(tmp_path):
    target = python("import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())", tmp_path / "got")
    assert await Hook(target).call(EVENT) == ""
    assert json.loads((tmp_path / "got").read_bytes()) == EVENT


async def test_a_command_that_fails_is_reported_by_its_exit_status():
    assert await Hook(python("raise SystemExit(3)")).call(EVENT) == "exit status 3"


async def test_a_command_that_reads_nothing_is_no_failure():
    assert await Hook("true").call({"keys": ["k" * 100] * 10_000}) == ""


async def test_a_command_that_does_not_exist_is_reported():
    assert await Hook("/nowhere/purge --all").call(EVENT) == "No such file or directory"


async def test_a_command_that_hangs_is_ended_with_what_it_has_started(tmp_path):
    program = (
        "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']);"
        "open(sys.argv[1], 'w').write(str(child.pid)); time.sleep(600)"
    )
    calling = asyncio.create_task(Hook(python(program, tmp_path / "pid"), seconds=10).call(EVENT))
    while not (tmp_path / "pid").exists() or not (pid := (tmp_path / "pid").read_text(encoding="ascii")):
        assert not calling.done(), calling.result()
        await asyncio.sleep(0.05)
    assert await calling == "no end after 10 s"
    deadline = time.monotonic() + 30
    while is_running(int(pid)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def listener():
    """The URL of a server that keeps what is posted; a path is the status of its answer."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["Content-Type"], json.loads(body)))
            self.send_response(int(self.path[1:]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_url_gets_the_event_by_post(listener):
    url, received = listener
    assert await Hook(f"{url}/204").call(EVENT) == ""
    assert received == [("application/json", EVENT)]


async def test_a_url_that_answers_with_an_error_is_reported(listener):
    url, _ = listener
    assert "500" in await Hook(f"{url}/500").call(EVENT)


async def test_a_url_without_a_server_and_one_that_does_not_speak_http_are_reported():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        calling = asyncio.create_task(Hook(url).call(EVENT))
        accepted, _ = await asyncio.to_thread(server.accept)
        with accepted:
            accepted.sendall(b"220 mail.example ESMTP\r\n")
        assert await calling
    assert "refused" in await Hook(url).call(EVENT)


async def test_without_a_target_nothing_happens():
    assert await Hook().call(EVENT) == ""
