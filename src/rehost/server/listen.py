"""An ASGI application behind a socket: granian, within the running event loop."""

from __future__ import annotations

import logging
import socket

from rehost.errors import SettingsError
from rehost.server.sending import Application

MOST_CONNECTIONS = 2048  # served at once; granian's own 128 would let so many slow clients stop everybody


class Listening:
    """One application on one port."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        """Check that the port is free; nothing is served before `serve`.

        Raises:
            SettingsError: the port is taken, the address is not ours, or granian is not installed.
        """
        try:
            from granian.constants import Interfaces  # noqa: PLC0415 - an extra: only those who serve need it
            from granian.server.embed import Server  # noqa: PLC0415 - as above
        except ImportError as error:
            raise SettingsError("Serving needs granian: pip install 'rehost[server]'.") from error
        if (problem := _problem(host, port)) is not None:
            raise SettingsError(f"{host}:{port} cannot be listened on: {problem}. Choose another port (API_PORT).")
        # It announces itself as experimental and logs each start; its warnings beyond that are of use.
        logging.getLogger("_granian").setLevel(logging.ERROR)
        self._server = Server(
            application,
            host,
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
        if _problem(host, port) is None:
            return port
    raise SettingsError(f"None of the ports {first} to {first + tries - 1} is free on {host}; name another by --port.")


def _problem(host: str, port: int) -> str | None:
    """Return why a port cannot be listened on, or None where it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None
