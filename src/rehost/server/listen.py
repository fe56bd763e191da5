"""An ASGI application on a port, served by granian within the running event loop."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

from rehost.errors import SettingsError
from rehost.server.files.send import Application

MAX_CONNECTIONS = 2048  # at once; with granian's default of 128, that many slow clients would block all others


class Listening:
    """One application on one port."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        """Check that the port is free. Serving starts with `serve`.

        Args:
            application: to serve.
            host: address or host name of this machine.
            port: TCP port.

        Raises:
            SettingsError: the port is taken, the address is not of this machine, or granian is not installed.
        """
        try:
            from granian.constants import Interfaces  # noqa: PLC0415 - an optional dependency, only needed to serve
            from granian.server.embed import Server  # noqa: PLC0415 - as above
        except ImportError as error:
            raise SettingsError("Serving needs granian: pip install 'rehost[server]'.") from error
        try:
            address = _probe(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            problem = f"Cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}."
            raise SettingsError(f"{problem} Choose another port (API_PORT) or address (API_HOST).") from error
        # granian announces itself as experimental and logs each start; only its errors matter.
        logging.getLogger("_granian").setLevel(logging.ERROR)
        self._server = Server(
            application,
            address,
            port,
            interface=Interfaces.ASGI,
            websockets=False,
            log_enabled=False,
            log_access=False,
            backlog=MAX_CONNECTIONS,
            backpressure=MAX_CONNECTIONS,
        )

    async def serve(self) -> None:
        """Serve until `stop` is called."""
        await self._server.serve()

    def stop(self) -> None:
        """Make `serve` return once responses in flight are finished."""
        self._server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation here


def free_port(host: str, first: int, tries: int = 20) -> int:
    """Return the first free port from `first` on.

    Raises:
        SettingsError: none of the `tries` ports is free.
    """
    for port in range(first, first + tries):
        with suppress(OSError):
            _probe(host, port)
            return port
    raise SettingsError(
        f"None of the ports {first} to {first + tries - 1} is free on {host}; choose another one with --port."
    )


def _probe(host: str, port: int) -> str:
    """Return the address of a host of this machine after checking that the port is free: granian takes no names.

    Raises:
        OSError: the host is not of this machine, or the port is taken.
        UnicodeError: the host name is invalid.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
    return str(address[0])
