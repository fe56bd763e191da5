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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
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
