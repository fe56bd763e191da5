"""Free ports for servers that tests start."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

_FIRST, _NUMBER = 20_000, 12_000


def free_port() -> int:
    """Return a port that no other program gets by chance before a server listens there.

    It is below the ports that the system gives to connections and to whatever asks for any port (ip(7),
    ip_local_port_range, 32768 to 60999).
    """
    while True:
        port = _FIRST + secrets.randbelow(_NUMBER)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
