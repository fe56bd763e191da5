"""URL -> an open connection: directly, by a detour or through a proxy, and never to an address that the guard refuses.

A name is resolved here, and the guard judges the very addresses that are connected to: no second look-up lies between,
so that a name that changes its address (rebinding) has no gap to slip through.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache

from aiohappyeyeballs import AddrInfoType, start_connection

from rehost.errors import Permanent, Transient, VisitError, shortage
from rehost.http.address_policy import AddressPolicy, is_address
from rehost.http.connection import BUFFER_BYTES, Connection
from rehost.http.dns import Detours, Resolver
from rehost.http.headers import request
from rehost.http.proxy import Proxies, Proxy
from rehost.http.response import first_line
from rehost.http.url import host_of, origin_of, port_of
from rehost.model import Reason

CONNECT_SECONDS = 5.0
"""For a connection, TLS included: long enough for two lost SYNs (RFC 6298 has them sent again after 1 and 3 s)."""

_ORIGINS = 1_000  # whose routes are remembered
_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, section 8
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


@dataclass(frozen=True, slots=True)
class Route:
    """How an origin is reached."""

    host: str
    port: int
    is_tls: bool
    at: tuple[str, int]  # where it is connected to: a host or an address, and a port; no matter with a proxy
    proxy: Proxy | None

    @property
    def name(self) -> str:
        """The host as certificates name it."""
        return self.host.rstrip(".")

    @property
    def authority(self) -> str:
        """Host and port, as CONNECT has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.name}:{self.port}"

    @property
    def host_field(self) -> str:
        """What the Host field of a request says (RFC 9110, section 7.2)."""
        return self.authority.removesuffix(":443" if self.is_tls else ":80")


class Connector:
    """Opens connections."""

    def __init__(
        self,
        guard: AddressPolicy,
        lookup: Resolver,
        detours: Detours,
        proxies: Proxies,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._guard = guard
        self._lookup = lookup
        self._detours = detours
        self._proxies = proxies
        self._connect_seconds = connect_seconds
        self._routes = lru_cache(_ORIGINS)(self._route)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR

    async def route(self, url: str) -> Route:
        """Return how to reach a normalised URL's origin.

        Raises:
            Permanent: ADDRESS_REFUSED, as far as that is known without connecting.
        """
        route = self._routes(origin_of(url))
        if route.proxy is not None and not is_address(route.host):
            await self._check_name(route.host)
        return route

    def _route(self, origin: str) -> Route:
        url = f"{origin}/"
        host, port = host_of(url), port_of(url)
        if is_address(host):
            self._guard.check(host)
        at = self._detours.target(host, port)
        proxy = self._proxies.proxy_for(url) if at == (host, port) else None  # a detour is taken without one
        return Route(host, port, url.startswith("https:"), at, Proxy.of(proxy) if proxy is not None else None)

    async def dial(self, route: Route) -> Connection:
        """Return a new connection to an origin, for requests to go out on.

        Raises:
            VisitError: ADDRESS_REFUSED, UNRESOLVED, UNREACHABLE, TLS_FAILED.
            OperatorError: no more files can be opened.
        """
        proxy = route.proxy
        if proxy is None:
            addresses = self._public(await self._addresses(route.at[0]))
            return await self._connected(addresses, route.at[1], route.name if route.is_tls else None)
        addresses = await self._addresses(proxy.host)  # the operator's word: no matter where it is
        connection = await self._connected(addresses, proxy.port, proxy.host if proxy.is_tls else None)
        if route.is_tls:
            await self._tunnel(connection, route, proxy)
        return connection

    async def _check_name(self, host: str) -> None:
        """Refuse what our own resolver knows to be inside; what it does not know is the proxy's to resolve."""
        try:
            addresses = await self._lookup(host)
        except VisitError:
            return
        for address in addresses:
            self._guard.check(address)

    async def _addresses(self, host: str) -> Sequence[str]:
        return [host] if is_address(host) else await self._lookup(host)

    def _public(self, addresses: Sequence[str]) -> Sequence[str]:
        """Return those that may be connected to: of mixed ones only these are ever tried."""
        refused = {address: why for address in addresses if (why := self._guard.refusal(address)) is not None}
        if len(refused) == len(addresses):
            evidence = ", ".join(f"{address} ({why})" for address, why in refused.items())
            raise Permanent(Reason.ADDRESS_REFUSED, evidence)
        return [address for address in addresses if address not in refused]

    async def _connected(self, addresses: Sequence[str], port: int, tls_host: str | None) -> Connection:
        """Connect to the first address that answers, as RFC 8305 has it; with TLS, if a host for it is given."""
        infos = [info for address in addresses for info in _numeric(address, port)]
        async with self._bounded():
            connected = await start_connection(infos, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._buffer),
                sock=connected,
                ssl=self._tls if tls_host else None,
                server_hostname=tls_host,
            )
        return connection

    async def _tunnel(self, connection: Connection, route: Route, proxy: Proxy) -> None:
        """Have a proxy connect to an origin (RFC 9110, section 9.3.6), and speak TLS through it."""
        wanted = request("CONNECT", route.authority, {"Host": route.authority, **proxy.fields})
        async with self._bounded():
            async with connection.ask(wanted, is_to_connect=True) as answer:
                await answer.head()
                if answer.status // 100 != 2:  # noqa: PLR2004 - the class of the status
                    raise Transient(Reason.UNREACHABLE, f"the proxy answered with status {answer.status}")
                await answer.receive(lambda _piece: None)  # there is none, or why that is no answer
            await connection.secure(self._tls, route.name)

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        """Say what it means for the picture when what follows fails, or takes too long."""
        try:
            async with asyncio.timeout(self._connect_seconds):
                yield
        except TimeoutError as error:
            raise Transient(Reason.UNREACHABLE, f"no connection in {self._connect_seconds:g} s") from error
        except ssl.SSLEOFError as error:
            raise Transient(Reason.UNREACHABLE, first_line(error)) from error
        except ssl.SSLError as error:
            raise Permanent(Reason.TLS_FAILED, first_line(error)) from error
        except (OSError, RuntimeError) as error:  # uvloop has the latter for some that are the former elsewhere
            raise shortage(error) or Transient(Reason.UNREACHABLE, first_line(error)) from error


def _numeric(address: str, port: int) -> Sequence[AddrInfoType]:
    """Return what a socket is made of and given for an address; nothing is looked up."""
    return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=_NUMERIC)
