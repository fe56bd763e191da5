"""An ASGI application on a port, served by granian within the running event loop."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress

from rehost.errors import SettingsError, cause_of
from rehost.server.connections import Connections
from rehost.server.files.send import Application

MAX_CONNECTIONS = 300  # at once; more wait in the kernel's queue until `Connections` has made room
QUEUED_CONNECTIONS = 2048
READ_SECONDS = 15  # for the header of a request, and between two requests of a connection
BUFFER_BYTES = 64 * 1024  # of a connection; also bounds the header of a request
DRAIN_SECONDS = 10.0  # for responses in flight when the server is stopped


class Listening:
    """One application on one port."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        """Check that the port is free. Serving starts with `serve`.

        Args:
            application: to serve.
            host: address or host name of this machine.
            port: TCP port.

        Raises:
            SettingsError: the port is taken, or the address is not of this machine.
            ModuleNotFoundError: granian is not installed.
        """
        from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415 - an optional dependency
        from granian.http import HTTP1Settings  # noqa: PLC0415 - as above
        from granian.server.embed import Server  # noqa: PLC0415 - as above

        try:
            address = _probe(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            raise SettingsError(
                "Cannot listen on {host}:{port}: {cause}. Choose another port (API_PORT) or address (API_HOST).",
                host=host,
                port=port,
                cause=cause_of(error),
            ) from error
        # granian announces itself as experimental and logs each start; only its errors matter.
        logging.getLogger("_granian").setLevel(logging.ERROR)
        self._connections = Connections()
        self._ending: asyncio.TimerHandle | None = None
        self._server = Server(
            application,
            address,
            port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,  # HTTP/2 would let one connection ask for hundreds of responses at once
            http1_settings=HTTP1Settings(header_read_timeout=READ_SECONDS * 1000, max_buffer_size=BUFFER_BYTES),
            websockets=False,
            log_enabled=False,
            log_access=False,
            backlog=QUEUED_CONNECTIONS,
            backpressure=MAX_CONNECTIONS,
        )

    async def serve(self) -> None:
        """Serve until `stop` is called."""
        async with self._connections.bounded():
            try:
                await self._server.serve()
            finally:
                if self._ending is not None:
                    self._ending.cancel()

    def stop(self) -> None:
        """Make `serve` return once responses in flight are finished, or after DRAIN_SECONDS."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._connections.close_all)
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
        "None of the ports {first} to {last} is free on {host}; choose another one with --port.",
        first=first,
        last=first + tries - 1,
        host=host,
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
