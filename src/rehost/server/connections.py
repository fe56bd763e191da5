"""Bounds on the connections that clients keep open, which ASGI servers do not have.

They are enforced from outside the server, on the sockets that this process has accepted, by what the kernel knows of
each (tcp(7), TCP_INFO). So they hold for any server, and for clients that have not sent a whole request yet.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import groupby
from pathlib import Path

logger = logging.getLogger(__name__)

BUSY = 200  # connections; with more than that, those that wait for their clients are closed until KEPT are left
KEPT = 150
WAIT_SECONDS = 0.5  # a connection that waits for its client for less is not closed
WRITE_SECONDS = 30.0  # a connection whose client takes no byte of a response for that long is closed in any case
UNSENT_BYTES = 64 * 1024  # which the kernel takes for a slow client at most (tcp(7), TCP_NOTSENT_LOWAT)
DESCRIPTORS = 4096  # open files: a socket and a file for each connection, and duplicates while they are examined

_BUSY_INTERVAL_SECONDS, _INTERVAL_SECONDS = 0.05, 0.2
_REPORT_SECONDS = 60.0  # between two lines in the log
_DESCRIPTORS = Path("/proc/self/fd")  # Linux; elsewhere nothing is bounded here
_NO_LINGER = struct.pack("ii", 1, 0)  # what the client has not taken is dropped (socket(7), SO_LINGER)
# Of tcp_info in linux/tcp.h: unacknowledged segments; milliseconds since data was sent last, or since the connection
# was made; bytes not sent yet; microseconds for which the client's receive window has stopped us.
_FIELDS = ((24, "I"), (44, "I"), (144, "I"), (176, "Q"))
_INFO_BYTES = 184


@dataclass(frozen=True, slots=True)
class Connection:
    """One accepted connection."""

    socket: socket.socket  # a duplicate, valid even if the server closes its own
    client: str  # the address; of IPv6 the network of 64 bits, any address of which is the client's to use
    waiting_seconds: float  # for which nothing could be sent: there was no request, or the client took nothing
    is_unread: bool  # the client has not taken all that was sent


class Connections:
    """The connections that this process has accepted, whatever server serves them."""

    def __init__(self) -> None:
        """Know no port yet: servers begin to listen later."""
        self._ports: set[int] = set()
        self._closed = 0

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Bound the connections as long as the block lasts."""
        _allow_descriptors()
        guarding = asyncio.create_task(self._guard())
        try:
            yield
        finally:
            guarding.cancel()
            await asyncio.wait({guarding})

    def close_waiting(self) -> int:
        """Close the connections that `to_close` names; return how many."""
        with self._open() as connections:
            closing = to_close(connections)
            for each in closing:
                _close(each)
        return len(closing)

    def close_all(self) -> None:
        """Close all connections."""
        with self._open() as connections:
            for each in connections:
                _close(each)

    async def _guard(self) -> None:
        time = asyncio.get_running_loop().time
        examined = reported = time()
        while _DESCRIPTORS.is_dir():  # noqa: ASYNC240 - of memory
            is_busy = sum(1 for _ in _DESCRIPTORS.iterdir()) > BUSY  # noqa: ASYNC240 - as above
            closed = 0
            if is_busy or not self._ports or time() - examined > WRITE_SECONDS / 2:
                examined, closed = time(), self.close_waiting()
                self._closed += closed
            if self._closed and time() - reported > _REPORT_SECONDS:
                logger.warning("connections closed count=%d reason='waited for their clients'", self._closed)
                reported, self._closed = time(), 0
            await asyncio.sleep(_BUSY_INTERVAL_SECONDS if closed or not self._ports else _INTERVAL_SECONDS)

    @contextmanager
    def _open(self) -> Iterator[Sequence[Connection]]:
        """Yield the connections at the ports on which this process listens or has listened."""
        with ExitStack() as stack:
            sockets = [stack.enter_context(each) for each in _sockets()]
            listening = [each for each in sockets if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]
            for each in listening:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # accepted ones inherit it
                self._ports.add(each.getsockname()[1])
            connections = []
            for each in sockets:
                with suppress(OSError):  # the client has gone
                    if each not in listening and each.getsockname()[1] in self._ports:
                        connections.append(_connection(each))
            yield connections


def to_close(connections: Sequence[Connection]) -> Sequence[Connection]:
    """Return the connections to close.

    Those are the ones whose clients take nothing. If there are too many connections, those are of the clients that have
    the most, and of each client the ones that have waited for it for the longest.
    """
    if len(connections) <= BUSY:
        return [each for each in connections if each.is_unread and each.waiting_seconds >= WRITE_SECONDS]
    by_client = sorted(connections, key=lambda each: (each.client, each.waiting_seconds))
    ranked = [pair for _, own in groupby(by_client, key=lambda each: each.client) for pair in enumerate(own)]
    ranked.sort(key=lambda pair: pair[0], reverse=True)
    waiting = [each for _, each in ranked if each.waiting_seconds >= WAIT_SECONDS]
    return waiting[: len(connections) - KEPT]


def _sockets() -> Iterator[socket.socket]:
    """Yield duplicates of all TCP sockets of this process."""
    for path in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        with suppress(OSError):  # closed in the meantime
            if str(path.readlink()).startswith("socket:"):
                own = socket.socket(fileno=os.dup(int(path.name)))
                if own.family in {socket.AF_INET, socket.AF_INET6} and own.type == socket.SOCK_STREAM:
                    yield own
                else:
                    own.close()


def _connection(accepted: socket.socket) -> Connection:
    """Describe a connection.

    Raises:
        OSError: the client has gone.
    """
    client = ip_address(accepted.getpeername()[0].partition("%")[0])
    if client.version == 6:  # noqa: PLR2004
        client = client.ipv4_mapped or ip_network((client, 64), strict=False).network_address
    known = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES).ljust(_INFO_BYTES, b"\0")
    unacknowledged, idle, unsent, stopped = (struct.unpack_from(code, known, offset)[0] for offset, code in _FIELDS)
    is_unread = unacknowledged > 0 or unsent > 0
    return Connection(accepted, str(client), max(idle / 1e3, stopped / 1e6 if is_unread else 0.0), is_unread)


def _close(connection: Connection) -> None:
    """Make the server see the end of a connection."""
    with suppress(OSError):  # the client has gone
        if connection.is_unread:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        connection.socket.shutdown(socket.SHUT_RDWR)


def _allow_descriptors() -> None:
    """Raise the soft limit of open files, which is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS if hard < 0 else min(hard, DESCRIPTORS), hard))
