"""The origin of a benchmark: nginx with one worker on loopback, with and without TLS."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from harness import install

HOST = "127.0.0.1"

CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; user root;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; client_body_temp_path {folder}/body;
    types {{ image/jpeg jpg; image/png png; image/gif gif; image/webp webp; }}
    server {{
        listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; root {root};
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_session_cache shared:s:1m;
    }}
}}
"""


@dataclass(frozen=True)
class Origin:
    """A running nginx."""

    plain_port: int
    tls_port: int
    authority: Path  # the CA to trust

    def url(self, path: str, *, tls: bool) -> str:
        """Return the URL of a file."""
        return f"{'https' if tls else 'http'}://{HOST}:{self.port(tls=tls)}/{path}"

    def port(self, *, tls: bool) -> int:
        """Return the port with or without TLS."""
        return self.tls_port if tls else self.plain_port


@contextmanager
def serving(root: Path) -> Iterator[Origin]:
    """Serve a folder until the end of the block."""
    program = install.program("nginx")
    if program is None:
        raise SystemExit(f"nginx is the origin. It is {install.missing('nginx')}")
    folder = Path(tempfile.mkdtemp(prefix="rehost-bench-origin-"))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert(HOST)
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    plain, tls = free_ports()
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, root=root, plain=plain, tls=tls))
    process = subprocess.Popen([program, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "error.log"])
    try:
        await_port(plain)
        yield Origin(plain, tls, folder / "ca.pem")
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports() -> tuple[int, int]:
    """Return two free ports."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def await_port(port: int, seconds: float = 20.0) -> None:
    """Wait until a port accepts connections."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"no server came up on port {port}")
