"""One hop: a GET sent over a guarded connection, its answer's header read.

aiohttp connects and speaks HTTP. The guard sits in the socket factory, so the address that is checked is the address
that is connected to: a name that changes its address in between (rebinding) has no gap to slip through.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError
from yarl import URL

from rehost.errors import Permanent, Transient, VisitError
from rehost.fetcher.guard import Guard, is_address
from rehost.fetcher.lookup import Detours, Lookup
from rehost.fetcher.proxy import Proxies
from rehost.fetcher.url import origin_of
from rehost.model import Reason

Answer = aiohttp.ClientResponse
FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What a connection, or the reading of an answer's body, may fail with; `failure` says what each means."""

_CUT = (ContentLengthError, TransferEncodingError, OSError, type(None))  # why a body that began did not end

_READ_BYTES = 64 * 1024
_FIELD_BYTES = 32 * 1024  # one line of a header; times _FIELDS bounds what an answer can make us keep
_FIELDS = 128
_NAMES_SECONDS = 60  # after this a name is looked up again
_IDLE_SECONDS = 15
CONNECT_SECONDS = 5.0
"""For a connection, TLS included: long enough for two lost SYNs (RFC 6298 has them sent again after 1 and 3 s)."""

ConnectTimeout = aiohttp.ConnectionTimeoutError


class Wire:
    """Connections to origins, reused where they can be; an async context manager."""

    def __init__(
        self,
        guard: Guard,
        lookup: Lookup,
        detours: Detours,
        proxies: Proxies,
        headers_for: Callable[[str], Mapping[str, str]] | None,
        concurrency: int,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._guard = guard
        self._lookup = lookup
        self._detours = detours
        self._proxies = proxies
        self._headers_for = headers_for
        self._concurrency = concurrency
        self.connect_seconds = connect_seconds
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR
        guarded = _Resolver(self._lookup, self._detours, self._guard)
        self._direct = await self._opened.enter_async_context(self._session(tls, guarded, self._guarded_socket))
        unguarded = _Resolver(self._lookup, Detours(), None)  # connects to the proxy that was set, and to nothing else
        self._proxied = await self._opened.enter_async_context(self._session(tls, unguarded, None))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._opened.aclose()

    async def get(self, url: str, fields: Mapping[str, str]) -> Answer:
        """Return the answer to one GET, which the caller closes. Redirects are not followed, codings not undone.

        A connection that breaks before any answer is tried once more: it may be one that the origin had closed as idle.

        Raises:
            VisitError: ADDRESS_REFUSED, UNRESOLVED.
            FAULTS: anything else that goes wrong.
        """
        target = URL(url, encoded=True)
        host, port = target.raw_host or "", target.port or 0
        headers = {**fields, **self._headers_for(origin_of(url))} if self._headers_for else dict(fields)
        if is_address(host):
            self._guard.check(host)
        detour = self._detours.target(host, port)
        if detour == (host, port):
            proxy = self._proxies.proxy_for(url)
            if proxy is not None:
                await self._check_name(host)
                return await self._proxied.get(target, headers=headers, proxy=proxy, allow_redirects=False)
        elif is_address(host):  # the resolver takes detours, but is asked about names only
            headers["Host"] = target.host_port_subcomponent or host
            target = target.with_host(detour[0]).with_port(detour[1])
            return await self._direct.get(target, headers=headers, server_hostname=host, allow_redirects=False)
        return await self._direct.get(target, headers=headers, allow_redirects=False)

    async def _check_name(self, host: str) -> None:
        """Refuse what our own resolver knows to be inside; what it does not know is the proxy's to resolve."""
        if is_address(host):
            return
        try:
            addresses = await self._lookup(host)
        except VisitError:
            return
        for address in addresses:
            self._guard.check(address)

    def _guarded_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Return a socket for the address that is about to be connected to, if the guard lets it through."""
        family, kind, protocol, _, address = info
        why = self._guard.refusal(str(address[0]))
        if why is not None:
            raise _AddressRefusedError(f"{address[0]} ({why})")
        return socket.socket(family, kind, protocol)

    def _session(
        self,
        tls: ssl.SSLContext,
        resolver: AbstractResolver,
        socket_factory: Callable[[tuple[Any, ...]], socket.socket] | None,
    ) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._concurrency,
            ssl=tls,
            resolver=resolver,
            ttl_dns_cache=_NAMES_SECONDS,
            keepalive_timeout=_IDLE_SECONDS,
            socket_factory=socket_factory,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(sock_connect=self.connect_seconds),  # client.py bounds the whole
            read_bufsize=_READ_BYTES,
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
            max_headers=_FIELDS,
        )


class _AddressRefusedError(OSError):
    """The guard's no, in the only kind of exception that aiohttp passes on from a socket factory."""


class _Resolver(AbstractResolver):
    """Detours, then the lookup, then the guard: of mixed addresses only the public ones are ever tried."""

    def __init__(self, lookup: Lookup, detours: Detours, guard: Guard | None) -> None:
        self._lookup = lookup
        self._detours = detours
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        to_host, to_port = self._detours.target(host, port)
        addresses = [to_host] if is_address(to_host) else await self._lookup(to_host)
        if self._guard is not None:
            addresses = self._public(addresses)
        return [
            ResolveResult(hostname=host, host=address, port=to_port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""

    def _public(self, addresses: Sequence[str]) -> Sequence[str]:
        assert self._guard is not None
        refused = {address: why for address in addresses if (why := self._guard.refusal(address)) is not None}
        if len(refused) == len(addresses):
            evidence = ", ".join(f"{address} ({why})" for address, why in refused.items())
            raise Permanent(Reason.ADDRESS_REFUSED, evidence)
        return [address for address in addresses if address not in refused]


@contextmanager
def told_of_faults(answer: Answer) -> Iterator[None]:
    """Have whoever reads the body be told when what follows breaks HTTP.

    aiohttp says so only where the header and the fault arrive together: later it closes the connection, and the reader
    waits for ever (tests/misbehaviours.py: chunked-broken-late).
    """

    def tell(_closed: asyncio.Future[None] | None = None) -> None:
        error = protocol.exception()
        if isinstance(error, HttpProcessingError) and not answer.content.is_eof():
            answer.content.set_exception(error)

    if answer.connection is None or answer.connection.protocol is None:  # the body is here, to its end
        yield
        return
    protocol = answer.connection.protocol
    closed = protocol.closed
    if closed is None:  # it was lost already
        tell()
        yield
        return
    closed.add_done_callback(tell)
    try:
        yield
    finally:
        closed.remove_done_callback(tell)


def leftover(answer: Answer) -> bytes:
    """Return what had arrived of a body before its connection broke: aiohttp has it, but hands nothing out any more."""
    return answer.content._read_nowait(-1)  # noqa: SLF001 - no public way; test_client.py notices should it change


def failure(error: Exception, received: int) -> VisitError:
    """Return what one of FAULTS means for the picture.

    Args:
        error: as it was caught.
        received: bytes of the body that had arrived by then.
    """
    match error:
        case aiohttp.ClientConnectorError():
            return _not_connected(error)
        case aiohttp.ClientHttpProxyError():
            return Transient(Reason.UNREACHABLE, f"the proxy answered with status {error.status}")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return Permanent(Reason.MALFORMED, _first_line(error.message))
        case aiohttp.ClientPayloadError() if not isinstance(error.__cause__, _CUT):
            return Permanent(Reason.MALFORMED, _first_line(error.__cause__))
    if received or isinstance(error, aiohttp.ClientPayloadError):
        return Transient(Reason.TRUNCATED, f"cut off after {received} bytes")
    return Transient(Reason.UNREACHABLE, _first_line(error))


def _not_connected(error: aiohttp.ClientConnectorError) -> VisitError:
    cause = error.os_error
    if isinstance(cause, _AddressRefusedError):
        return Permanent(Reason.ADDRESS_REFUSED, str(cause))
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return Permanent(Reason.TLS_FAILED, _first_line(cause))
    return Transient(Reason.UNREACHABLE, _first_line(cause))


def _first_line(text: object) -> str:
    """Return plain text fit for evidence: one line, ASCII, short."""
    lines = str(text).splitlines() or [""]
    return ascii(lines[0][:120])[1:-1]
