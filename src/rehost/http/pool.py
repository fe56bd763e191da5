"""GET requests on connections that are reused where they can be, at most so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, Self

from rehost.http.connect import Connector, Route
from rehost.http.connection import Connection, Response
from rehost.http.errors import ConnectionClosed
from rehost.http.headers import encode_request
from rehost.http.url import origin_of

IDLE_SECONDS = 15.0
"""An idle connection is closed after 15 to 30 s; servers close theirs after 5 s to a minute or so."""


class ConnectionPool:
    """Connections to origins; an async context manager that closes those that are idle at its end."""

    def __init__(
        self,
        connector: Connector,
        concurrency: int,
        headers_for: Callable[[str], Mapping[str, str]] | None = None,
    ) -> None:
        """Take parts and limits.

        Args:
            connector: opens connections.
            concurrency: connections at once, idle ones included.
            headers_for: returns the extra header fields of an origin, which replace others of their names.
        """
        self._connector = connector
        self._headers_for = headers_for
        self._concurrency = concurrency
        self._idle = IdleConnections()
        self._in_use = 0
        self._free = asyncio.Semaphore(concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._idle.close()

    async def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Return the response to a GET of a normalised URL, its head read; the caller closes it.

        Redirects are not followed and codings not undone.

        Raises:
            AddressRefused, NameNotResolved, ConnectFailed, TlsFailed, TooManyOpenFiles: there is no connection.
            ConnectionClosed, ProtocolError: there is no proper response.
        """
        origin = origin_of(url)
        route = await self._connector.route(url)
        request = self._request(url, origin, route, headers)
        await self._free.acquire()
        self._in_use += 1
        try:
            return await self._exchange(origin, route, request)
        except BaseException:
            self._release()
            raise

    async def _exchange(self, origin: str, route: Route, request: bytes) -> Response:
        """Use an idle connection; if the server has closed that one meanwhile, use a new one."""
        idle = self._idle.take(origin)
        self._idle.shrink(self._concurrency - self._in_use)
        if idle is not None:
            try:
                return await self._send(origin, idle, request)
            except ConnectionClosed:
                if idle.has_received:
                    raise
        return await self._send(origin, await self._connector.connect(route), request)

    async def _send(self, origin: str, connection: Connection, request: bytes) -> Response:
        response = connection.send(request, partial(self._on_close, origin, connection))
        try:
            await response.read_head()
        except BaseException:
            connection.abort()
            raise
        return response

    def _on_close(self, origin: str, connection: Connection) -> None:
        self._idle.keep(origin, connection)
        self._release()

    def _release(self) -> None:
        self._in_use -= 1
        self._free.release()

    def _request(self, url: str, origin: str, route: Route, headers: Mapping[str, str]) -> bytes:
        own = self._headers_for(origin) if self._headers_for else {}
        replaced = {name.lower() for name in own}
        others = {"Host": route.host_field, **headers}
        merged = {name: value for name, value in others.items() if name.lower() not in replaced} | dict(own)
        if route.proxy is not None and not route.is_tls:  # RFC 9112, section 3.2.2
            return encode_request("GET", url, merged | dict(route.proxy.headers))
        return encode_request("GET", url.removeprefix(origin) or "/", merged)


class _Idle(NamedTuple):
    origin: str
    connection: Connection
    sweep: int  # the number of sweeps before it was kept


class IdleConnections:
    """Connections that are kept for the next request to the same origin, each for one or two periods."""

    def __init__(self, seconds: float = IDLE_SECONDS) -> None:
        self._seconds = seconds
        self._kept: list[_Idle] = []  # the last used one at the end
        self._sweeps = 0
        self._next_sweep: asyncio.TimerHandle | None = None

    def take(self, origin: str) -> Connection | None:
        """Return the last used connection to an origin, and keep it no longer; None if there is none."""
        for kept in reversed(self._kept):
            if kept.origin == origin and kept.connection.is_usable:
                self._kept.remove(kept)
                return kept.connection
        return None

    def keep(self, origin: str, connection: Connection) -> None:
        """Keep a connection if it is usable."""
        if connection.is_usable:
            self._kept.append(_Idle(origin, connection, self._sweeps))
            self._schedule_sweep()

    def shrink(self, at_most: int) -> None:
        """Close the connections that were used longest ago until at most so many are kept."""
        while len(self._kept) > at_most:
            self._kept.pop(0).connection.abort()

    def close(self) -> None:
        """Close all connections."""
        self.shrink(0)
        if self._next_sweep is not None:
            self._next_sweep.cancel()

    def _schedule_sweep(self) -> None:
        if self._next_sweep is None and self._kept:
            self._next_sweep = asyncio.get_running_loop().call_later(self._seconds, self._sweep)

    def _sweep(self) -> None:
        self._next_sweep = None
        self.shrink(sum(kept.sweep == self._sweeps for kept in self._kept))  # the newest ones, at the list's end
        self._sweeps += 1
        self._schedule_sweep()
