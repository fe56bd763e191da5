"""GET requests on connections that are reused where they can be, at most so many at once.

A connection goes directly to the URL's host, to an address given in its place, or through a proxy. Names are resolved
here, and the policy judges the very addresses that are then connected to: there is no second lookup in between, which
DNS rebinding could use.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from ipaddress import IPv6Network, ip_address, ip_network
from typing import Self
from urllib.parse import unquote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection
from cachetools import LRUCache

from rehost.http.address_policy import AddressPolicy, is_address, nat64_prefixes, one_per_family
from rehost.http.connection import BUFFER_BYTES, Connection, IdleConnections, Response
from rehost.http.dns import Resolver
from rehost.http.errors import (
    ConnectFailed,
    ConnectionClosed,
    InvalidProxy,
    NameNotFound,
    NameNotResolved,
    TlsFailed,
    TooManyOpenFiles,
    printable,
)
from rehost.http.headers import encode_request
from rehost.http.url import host_of, origin_of, port_of

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""For a connection, TLS included: long enough for two lost SYNs (RFC 6298 has them sent again after 1 and 3 s)."""

ConnectTo = tuple[str, int | None, str, int | None]
"""Host (`*`: any) and port (None: any), then the address or name (empty: the same) and the port (None: the same) to
connect to instead, as curl's --connect-to."""

_REMEMBERED_ORIGINS = 1_000
_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, section 8
_CIPHERS = "ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"  # Python's own default
# What Chromium and Firefox still offer to servers that know nothing better: CBC with SHA-1, RSA key exchange.
_OLD_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    "ECDHE-RSA-AES256-SHA:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA"
)
_OP_LEGACY_SERVER_CONNECT = 0x4  # servers without RFC 5746; `ssl` names it from Python 3.12 on
_REMEMBERED_OLD_SERVERS = 1_000
_NO_ISSUER = frozenset({2, 20, 21})  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and its kind
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forwarding proxy, and the header fields for it alone."""

    host: str
    port: int
    is_tls: bool
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, url: str) -> Proxy:
        """Return the proxy that an http or https URL names; its credentials are sent as RFC 7617 has them.

        Raises:
            ValueError: it has no host, or its port is no number.
        """
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("no host")
        is_tls = parts.scheme == "https"
        headers = {}
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["Proxy-Authorization"] = f"Basic {b64encode(credentials.encode()).decode()}"
        return cls(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, headers)


@dataclass(frozen=True, slots=True)
class Proxies:
    """The URL of a proxy per scheme, and the hosts that are reached without one (entries of NO_PROXY).

    With `resolves`, the proxies resolve names: those too that are unknown here, and that the proxy has to judge.
    """

    http: str | None = None
    https: str | None = None
    without: tuple[str, ...] = ()
    resolves: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, resolves: bool = False) -> Proxies:
        """Return what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say; lower-case names win, as in curl.

        Raises:
            InvalidProxy: one of them names a proxy that is no http or https URL.
        """

        def read(name: str) -> str:
            return environment.get(name.lower(), environment.get(name, "")).strip()

        http, https = (_proxy_url(read(name) or read("ALL_PROXY"), name) for name in ("HTTP_PROXY", "HTTPS_PROXY"))
        names = tuple(name.strip().lower() for name in read("NO_PROXY").split(",") if name.strip())
        return cls(http, https, names, resolves)

    def proxy_for(self, url: str) -> str | None:
        """Return the URL of the proxy for a normalised URL; None if that is requested directly."""
        proxy = self.https if url.startswith("https:") else self.http
        if proxy is None or any(_excludes(entry, host_of(url), port_of(url)) for entry in self.without):
            return None
        return proxy


@dataclass(frozen=True, slots=True)
class Route:
    """How an origin is reached."""

    host: str
    port: int
    is_tls: bool
    target: tuple[str, int]  # host or address, and port, to connect to; unused with a proxy
    proxy: Proxy | None

    @property
    def name(self) -> str:
        """The host as certificates name it."""
        return self.host.rstrip(".")

    @property
    def authority(self) -> str:
        """Host and port, as CONNECT has them."""
        return _authority(self.name, self.port)

    @property
    def host_field(self) -> str:
        """The value of the Host field (RFC 9110, section 7.2)."""
        return self.authority.removesuffix(":443" if self.is_tls else ":80")


class Connector:
    """Opens connections."""

    def __init__(
        self,
        address_policy: AddressPolicy,
        resolver: Resolver,
        connect_to: Sequence[ConnectTo] = (),
        proxies: Proxies | None = None,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        """Take parts and limits; targets in `connect_to` are connected to without a proxy."""
        self._address_policy = address_policy
        self._resolver = resolver
        self._connect_to = connect_to
        self._proxies = proxies or Proxies()
        self._connect_seconds = connect_seconds
        self._nat64: Sequence[IPv6Network] | None = None  # not looked up yet
        self._routes = lru_cache(_REMEMBERED_ORIGINS)(self._route)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._old_servers: LRUCache[str, bool] = LRUCache(_REMEMBERED_OLD_SERVERS)  # names that need `_old_tls`

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR
        context.set_ciphers(_CIPHERS)  # builds of Python differ
        return context

    @cached_property
    def _old_tls(self) -> ssl.SSLContext:
        """TLS 1.2 as browsers still speak it with old servers; certificates are checked as ever."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_OLD_CIPHERS)
        context.options |= _OP_LEGACY_SERVER_CONNECT
        return context

    def _tls_for(self, name: str) -> ssl.SSLContext:
        return self._old_tls if name in self._old_servers else self._tls

    async def route(self, url: str) -> Route:
        """Return how the origin of a normalised URL is reached.

        Raises:
            AddressRefused: as far as this is known without connecting.
            NameNotResolved: a proxy would have to resolve the name.
        """
        route = self._routes(origin_of(url))
        if route.proxy is not None:
            await self._checked(route.host)
        return route

    def _route(self, origin: str) -> Route:
        url = f"{origin}/"
        host, port = host_of(url), port_of(url)
        if is_address(host):
            self._address_policy.check(host)
        target = connect_target(self._connect_to, host, port)
        proxy = self._proxies.proxy_for(url) if target == (host, port) else None
        return Route(host, port, url.startswith("https:"), target, Proxy.of(proxy) if proxy is not None else None)

    async def connect(self, route: Route) -> Connection:
        """Return a new connection to an origin, ready for a request.

        If the TLS handshake fails, for anything but the certificate, it is tried once more as with an old server.

        Raises:
            AddressRefused: no address of the host may be connected to.
            NameNotResolved, ConnectFailed, TlsFailed, TooManyOpenFiles: see `errors`.
            ConnectionClosed, ProtocolError: the proxy did not answer properly.
        """
        is_old = route.name in self._old_servers
        try:
            return await self._connect(route)
        except (TlsFailed, ConnectFailed) as error:
            if is_old or not route.is_tls or not _ended_the_handshake(error.__cause__):
                raise
            self._old_servers[route.name] = True
            try:
                connection = await self._connect(route)
            except BaseException as again:
                self._old_servers.pop(route.name, None)
                if isinstance(again, TlsFailed | ConnectFailed):
                    raise type(again)(f"{error}; with the ciphers that browsers still offer: {again}") from again
                raise
        logger.info("old-tls host=%s cipher=%s", route.name, connection.cipher)
        return connection

    async def _connect(self, route: Route) -> Connection:
        proxy = route.proxy
        if proxy is None:
            addresses = await self._addresses(route.target[0])
            permitted = self._address_policy.permitted(addresses, await self._nat64_prefixes(addresses))
            return await self._connected(permitted, route.target[1], route.name if route.is_tls else None)
        if route.is_tls:
            return await self._through(proxy, route, await self._authorities(route))
        return await self._to_proxy(proxy)

    async def _to_proxy(self, proxy: Proxy) -> Connection:
        addresses = await self._addresses(proxy.host)  # the proxy is configured: it may be anywhere
        return await self._connected(addresses, proxy.port, proxy.host if proxy.is_tls else None)

    async def _through(self, proxy: Proxy, route: Route, authorities: Sequence[str]) -> Connection:
        """Return a connection through the tunnel of a proxy, to the first of these where it makes one."""
        connection = await self._to_proxy(proxy)
        try:
            await self._tunnel(connection, route, authorities[0], proxy)
        except BaseException as error:
            connection.abort()
            if isinstance(error, ConnectFailed) and authorities[1:]:
                return await self._through(proxy, route, authorities[1:])
            raise
        return connection

    async def _authorities(self, route: Route) -> Sequence[str]:
        """Return what CONNECT may name: the first address of each family (a proxy may lack one), all checked here."""
        hosts = [route.name] if self._proxies.resolves else one_per_family(await self._checked(route.host))
        return [_authority(host, route.port) for host in hosts]

    async def _checked(self, host: str) -> Sequence[str]:
        """Return the addresses of a host that a proxy is to reach, none of which may be refused: it can use any.

        Raises:
            AddressRefused: one is.
            NameNotResolved: there are none, and names are not left to the proxy.
        """
        try:
            addresses = await self._addresses(host)
        except NameNotResolved as error:
            if self._proxies.resolves:
                return []
            raise type(error)(f"{error}; a proxy is asked only for names that are known here") from error
        nat64 = await self._nat64_prefixes(addresses)
        for address in addresses:
            self._address_policy.check(address, nat64)
        return addresses

    async def _addresses(self, host: str) -> Sequence[str]:
        return [host] if is_address(host) else await self._resolver(host)

    async def _nat64_prefixes(self, addresses: Sequence[str]) -> Sequence[IPv6Network]:
        """Return the prefixes of this network's NAT64, looked up before the first IPv6 address is judged."""
        if self._nat64 is None and any(":" in address for address in addresses):
            try:
                self._nat64 = nat64_prefixes(await self._resolver("ipv4only.arpa"))
            except NameNotFound:
                self._nat64 = ()
            except NameNotResolved:  # asked again next time; the resolver limits what that costs
                return ()
        return self._nat64 or ()

    async def _connected(self, addresses: Sequence[str], port: int, tls_host: str | None) -> Connection:
        """Connect to the first address that answers (RFC 8305), with TLS if a host for it is given."""
        infos = [info for address in addresses for info in _numeric(address, port)]
        async with self._translated():
            connected = await start_connection(infos, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._buffer),
                sock=connected,
                ssl=self._tls_for(tls_host) if tls_host else None,
                server_hostname=tls_host,
            )
        return connection

    async def _tunnel(self, connection: Connection, route: Route, authority: str, proxy: Proxy) -> None:
        """Make the proxy connect to an origin (RFC 9110, section 9.3.6), and start TLS through the tunnel."""
        request = encode_request("CONNECT", authority, {"Host": authority, **proxy.headers})
        async with self._translated():
            async with connection.send(request, is_connect=True) as response:
                await response.read_head()
                if response.status // 100 != 2:  # noqa: PLR2004 - the class of the status
                    raise ConnectFailed(f"the proxy answered with status {response.status}")
                await response.read_body(lambda _piece: None)  # empty, or the error says why not
            await connection.start_tls(self._tls_for(route.name), route.name)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Limit the time of what follows, and raise its failures as errors of this library."""
        try:
            async with asyncio.timeout(self._connect_seconds):
                yield
        except TimeoutError as error:
            raise ConnectFailed(f"no connection in {self._connect_seconds:g} s") from error
        except ssl.SSLEOFError as error:
            raise ConnectFailed(printable(error)) from error
        except ssl.SSLCertVerificationError as error:
            hint = "; its authority is unknown, or the server sends no intermediate certificate"
            raise TlsFailed(f"{printable(error)}{hint if error.verify_code in _NO_ISSUER else ''}") from error
        except ssl.SSLError as error:
            raise TlsFailed(printable(error)) from error
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError for some that are OSError elsewhere
            if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
                raise TooManyOpenFiles(printable(error)) from error
            raise ConnectFailed(printable(error) or type(error).__name__) from error


def _ended_the_handshake(error: BaseException | None) -> bool:
    """Return whether a server may have ended a handshake because nothing that was offered suits it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    return isinstance(error, ssl.SSLError | ConnectionResetError | ConnectionAbortedError)


def connect_target(entries: Sequence[ConnectTo], host: str, port: int) -> tuple[str, int]:
    """Return host and port to connect to for a URL's own; the first entry that matches decides."""
    for from_host, from_port, to_host, to_port in entries:
        if from_host in {"*", host} and from_port in {None, port}:
            return to_host or host, to_port or port
    return host, port


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _numeric(address: str, port: int) -> Sequence[AddrInfoType]:
    """Return the arguments of a socket for an address; nothing is looked up."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=_NUMERIC)


def _proxy_url(text: str, name: str) -> str | None:
    if not text:
        return None
    url = text if "://" in text else f"http://{text}"
    try:
        Proxy.of(url)
        is_http = url.lower().startswith(("http://", "https://"))
    except ValueError:
        is_http = False
    if not is_http:
        raise InvalidProxy(name)
    return url


def _excludes(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of NO_PROXY (`*`, name, .suffix, address, CIDR; with a port or not) matches a host."""
    if entry == "*":
        return True
    name, _, of_port = entry.rpartition(":")
    if name and of_port.isdigit() and (":" not in name or name.endswith("]")):
        if int(of_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").lstrip("*").strip(".")
    if host.rstrip(".") == entry or host.rstrip(".").endswith(f".{entry}"):
        return True
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False


class ConnectionPool:
    """Connections to origins; an async context manager that closes those that are idle at its end."""

    def __init__(
        self,
        connector: Connector,
        concurrency: int,
        headers_for: Callable[[str], Mapping[str, str]] = lambda _origin: {},
    ) -> None:
        """Take how many connections there may be, idle ones included, and what returns an origin's extra fields."""
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
        own = self._headers_for(origin)
        replaced = {name.lower() for name in own}
        others = {"Host": route.host_field, **headers}
        merged = {name: value for name, value in others.items() if name.lower() not in replaced} | dict(own)
        if route.proxy is not None and not route.is_tls:  # RFC 9112, section 3.2.2
            return encode_request("GET", url, merged | dict(route.proxy.headers))
        return encode_request("GET", url.removeprefix(origin) or "/", merged)
