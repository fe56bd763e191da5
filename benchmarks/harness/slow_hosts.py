"""Several host names for one slow origin (slow_origin.py), and one for a dead host."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.origin import HOST, await_port, free_ports


@dataclass(frozen=True)
class Hosts:
    """The host names, and the ports that they lead to."""

    port: int
    dead_port: int

    def url(self, host: str, kind: str, path: Path) -> str:
        """Return a link whose `kind` is whole, busy or hanging."""
        return f"http://{host}/{kind}/{int(path.stem)}{path.suffix}"

    def connect_to(self, dead: str) -> str:
        """Return the value for IMAGE_CONNECT_TO."""
        return f"{dead}:80:{HOST}:{self.dead_port} *:80:{HOST}:{self.port}"


@contextmanager
def serving(folder: Path) -> Iterator[Hosts]:
    """Serve the pictures of a folder slowly until the end of the block."""
    port, dead_port = free_ports()
    program = [sys.executable, str(Path(__file__).with_name("slow_origin.py")), str(folder), str(port)]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(program))
        stack.callback(process.kill)
        # A full accept queue of one: further connections get no answer at all, as from a machine that is off.
        dead = stack.enter_context(socket.create_server((HOST, dead_port), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(dead.getsockname())
        await_port(port)
        yield Hosts(port, dead_port)
