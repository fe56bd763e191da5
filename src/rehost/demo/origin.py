"""The played hosts behind a real socket on loopback, in threads of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from rehost.demo.world import World

ADDRESS = "127.0.0.1"
SLICES = 12  # a slow answer comes in so many pieces


@contextmanager
def origin(world: World) -> Iterator[int]:
    """Play the hosts for as long as the context lasts; yield the port."""
    with _Server(world) as server:
        threading.Thread(target=server.serve_forever, name="demo-origin", daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.stopping.set()
            server.shutdown()


class _Server(ThreadingHTTPServer):
    def __init__(self, world: World) -> None:
        super().__init__((ADDRESS, 0), _Handler)
        self.world = world
        self.stopping = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of who hangs up half way."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer as the host does that is asked; slowly, where that is its manner."""
        path = unquote(urlsplit(self.path).path)
        answer = self.server.world.answer(self.headers.get("Host", ""), path, self.headers.get("Referer"))
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.media_type, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        step = len(answer.body) // SLICES + 1 if answer.seconds else len(answer.body) or 1
        for start in range(0, len(answer.body), step):
            if answer.seconds and self.server.stopping.wait(answer.seconds / SLICES):
                return
            self.wfile.write(answer.body[start : start + step])

    def log_message(self, *words: object) -> None:
        """Keep no log."""
