"""The configuration of the how-to, with a real nginx."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from tests.ports import free_port
from tests.server.conftest import by_uvicorn
from tests.server.test_app import rest
from tests.server.wire import ask

from rehost.server.host_header import KnownHosts

ROOT = Path(__file__).resolve().parents[2]
HOWTO = ROOT / "docs" / "howto" / "nginx.md"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    types {{ image/png png; image/jpeg jpg; }}
    client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
    uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "images"
    (root / "297041").mkdir(parents=True)
    (root / "297041" / "main_image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / ".rehost" / "quarantine").mkdir(parents=True)
    (root / ".rehost" / "quarantine" / "x.png").write_bytes(b"suspect")
    return root


@pytest.fixture
def port(tmp_path, store):
    if NGINX is None:
        pytest.skip("nginx is not installed")
    location = re.search(r"```nginx\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)[1]
    number = free_port()
    configuration = CONFIGURATION.format(
        folder=tmp_path,
        port=number,
        user="user root;" if os.geteuid() == 0 else "",
        location=re.sub(r"alias \S+;", f"alias {store}/;", location),
    )
    (tmp_path / "nginx.conf").write_text(configuration)
    with subprocess.Popen([NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]) as server:
        try:
            wait_for(number, server)
            yield number
        finally:
            server.terminate()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert server.poll() is None, "nginx rejected the configuration"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError


def get(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_nginx_serves_copies_and_nothing_else(port):
    answer = get(port, "/static/images/297041/main_image.png")

    assert answer.status == 200
    assert answer.getheader("Content-Type") == "image/png"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Content-Security-Policy") == "default-src 'none'; sandbox"
    for path in (".rehost/quarantine/x.png", "%2erehost/quarantine/x.png", "../nginx.conf", "297041/", "297041/no.png"):
        assert get(port, f"/static/images/{path}").status in {400, 403, 404}


async def test_nginx_in_front_of_the_dashboard_passes_its_name_on(tmp_path):
    if NGINX is None:
        pytest.skip("nginx is not installed")
    blocks = re.findall(r"```nginx\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    top, bottom = CONFIGURATION.split("    server {{", maxsplit=1)[0], "\n}\n"
    number = free_port()
    known = KnownHosts(rest, frozenset({"shop.example"}), lambda sentence: PlainTextResponse(sentence, 421))
    async with by_uvicorn(known) as upstream:
        block = blocks[1] + blocks[2]  # the map of versioned URLs, and the server
        block = block.replace("listen 80;", f"listen 127.0.0.1:{number};").replace(":8000;", f":{upstream};")
        user = "user root;" if os.geteuid() == 0 else ""
        (tmp_path / "nginx.conf").write_text(top.format(folder=tmp_path, user=user) + block + bottom)
        with subprocess.Popen([NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]) as server:
            try:
                wait_for(number, server)
                replies = [await ask(number, path, host="shop.example") for path in ("/a", "/api/live")]
                foreign = await ask(number, "/a", host="evil.example")
            finally:
                server.terminate()

    assert [reply.body for reply in replies] == [b"rest /a", b"rest /api/live"]
    assert foreign.status == 421
