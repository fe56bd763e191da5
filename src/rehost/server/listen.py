"""An ASGI application behind a socket: granian, within the running event loop."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress

from rehost.errors import SettingsError
from rehost.server.files.send import Application

MOST_CONNECTIONS = 2048  # served at once; granian's own 128 would let so many slow clients stop everybody


class Listening:
    """One application on one port."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        """Check that the port is free; nothing is served before `serve`.

        Args:
            application: what is served.
            host: an address, or a name of one.
            port: of it.

        Raises:
            SettingsError: the port is taken, the address is not ours, or granian is not installed.
        """
        try:
            from granian.constants import Interfaces  # noqa: PLC0415 - an extra: only those who serve need it
            from granian.server.embed import Server  # noqa: PLC0415 - as above
        except ImportError as error:
            raise SettingsError("Serving needs granian: pip install 'rehost[server]'.") from error
        try:
            address = _probe(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: what no name can be
            said = f"{host}:{port} cannot be listened on: {getattr(error, 'strerror', None) or error}."
            raise SettingsError(f"{said} Choose another port (API_PORT) or address (API_HOST).") from error
        # It announces itself as experimental and logs each start; its warnings beyond that are of use.
        logging.getLogger("_granian").setLevel(logging.ERROR)
        self._server = Server(
            application,
            address,
            port,
            interface=Interfaces.ASGI,
            websockets=False,
            log_enabled=False,
            log_access=False,
            backlog=MOST_CONNECTIONS,
            backpressure=MOST_CONNECTIONS,
        )

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self._server.serve()

    def stop(self) -> None:
        """Let `serve` return soon."""
        self._server.stop()  # type: ignore[no-untyped-call]  # granian leaves it so


def free_port(host: str, first: int, tries: int = 20) -> int:
    """Return the first port from `first` on that nobody listens on.

    Raises:
        SettingsError: none of so many is free.
    """
    for port in range(first, first + tries):
        with suppress(OSError):
            _probe(host, port)
            return port
    raise SettingsError(f"None of the ports {first} to {first + tries - 1} is free on {host}; name another by --port.")


def _probe(host: str, port: int) -> str:
    """Return the address of a host, which is ours and whose port is free: granian takes no names.

    Raises:
        OSError: it is not so.
        UnicodeError: the host is no name that could be looked up.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
    return str(address[0])
