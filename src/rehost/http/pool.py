"""One hop: a GET sent, on a connection that was kept or on a new one, and its answer's head read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

from rehost.errors import Transient
from rehost.http.connect import Connector, Route
from rehost.http.connection import Connection
from rehost.http.headers import request
from rehost.http.idle import IdleConnections
from rehost.http.response import Response
from rehost.http.url import origin_of


class ConnectionPool:
    """Connections to origins, reused where they can be; an async context manager."""

    def __init__(
        self, dialler: Connector, headers_for: Callable[[str], Mapping[str, str]] | None, concurrency: int
    ) -> None:
        """Take parts and limits.

        Args:
            dialler: opens connections.
            headers_for: gives an origin's own header fields, which replace others of their names.
            concurrency: connections at once, idle ones included.
        """
        self._dialler = dialler
        self._headers_for = headers_for
        self._concurrency = concurrency
        self._idle = IdleConnections()
        self._in_use = 0
        self._free = asyncio.Semaphore(concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._idle.close()

    async def get(self, url: str, fields: Mapping[str, str]) -> Response:
        """Return the answer to one GET, which the caller closes. Redirects are not followed, codings not undone.

        Raises:
            VisitError: ADDRESS_REFUSED, UNRESOLVED, UNREACHABLE, TLS_FAILED, MALFORMED.
            OperatorError: no more files can be opened.
        """
        origin = origin_of(url)
        route = await self._dialler.route(url)
        wanted = self._request(url, origin, route, fields)
        await self._free.acquire()
        self._in_use += 1
        try:
            return await self._answer(origin, route, wanted)
        except BaseException:
            self._leave()
            raise

    async def _answer(self, origin: str, route: Route, wanted: bytes) -> Response:
        """Ask on a connection that was kept; on a new one, where that turns out to have been closed meanwhile."""
        kept = self._idle.take(origin)
        self._idle.reduce(self._concurrency - self._in_use)
        if kept is not None:
            try:
                return await self._ask(origin, kept, wanted)
            except Transient:
                if kept.has_spoken:
                    raise
        return await self._ask(origin, await self._dialler.dial(route), wanted)

    async def _ask(self, origin: str, connection: Connection, wanted: bytes) -> Response:
        answer = connection.ask(wanted, partial(self._close, origin, connection))
        try:
            await answer.head()
        except BaseException:
            connection.hang_up()
            raise
        return answer

    def _close(self, origin: str, connection: Connection) -> None:
        self._idle.keep(origin, connection)
        self._leave()

    def _leave(self) -> None:
        self._in_use -= 1
        self._free.release()

    def _request(self, url: str, origin: str, route: Route, fields: Mapping[str, str]) -> bytes:
        own = self._headers_for(origin) if self._headers_for else {}
        replaced = {name.lower() for name in own}
        others = {"Host": route.host_field, **fields}
        merged = {name: value for name, value in others.items() if name.lower() not in replaced} | dict(own)
        if route.proxy is not None and not route.is_tls:
            return request("GET", url, merged | dict(route.proxy.fields))
        return request("GET", url.removeprefix(origin) or "/", merged)
