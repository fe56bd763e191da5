"""Several hosts that are one slow origin (slow_origin.py), and one that is dead."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from arena.origin import HOST, await_port, free_ports


@dataclass(frozen=True)
class Hosts:
    """Where links lead, and how one gets there."""

    port: int
    dead_port: int

    def url(self, host: str, kind: str, path: Path) -> str:
        """Return a link: `kind` is whole, busy or hanging."""
        return f"http://{host}/{kind}/{int(path.stem)}{path.suffix}"

    def connect_to(self, dead: str) -> str:
        """Return what IMAGE_CONNECT_TO is to say."""
        return f"{dead}:80:{HOST}:{self.dead_port} *:80:{HOST}:{self.port}"


@contextmanager
def serving(folder: Path) -> Iterator[Hosts]:
    """Serve a folder's pictures slowly until the end of the block."""
    port, dead_port = free_ports()
    program = [sys.executable, str(Path(__file__).with_name("slow_origin.py")), str(folder), str(port)]
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(program))
        stack.callback(process.kill)
        # A queue of one that is full: whoever comes now is not answered at all, as by a machine that is off.
        dead = stack.enter_context(socket.create_server((HOST, dead_port), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(dead.getsockname())
        await_port(port)
        yield Hosts(port, dead_port)
