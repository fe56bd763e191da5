"""What the Host header of a request can do: name this server, and nothing else.

A page elsewhere can let its own host name resolve to this server's address (DNS rebinding); its scripts could then read
what the server answers. The browser sends that name as Host, so a server that knows its names is safe. An address in
place of a name is always accepted: it cannot be rebound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from rehost.server.files.send import Application, Message, Receive, Send

ANY = "*"
SENTENCE = (
    "The Host header of the request does not name this server. If that name is right, add it to API_ALLOWED_HOSTS. "
    "A proxy in front should pass the name on; in nginx: proxy_set_header Host $http_host;"
)

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(?::[0-9]*)?")  # RFC 9110, section 7.2


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """Middleware that refuses requests whose Host names another server.

    A request without Host passes: browsers send one always.
    """

    inner: Application
    names: frozenset[str]  # in lower case; besides addresses, and the names of the loopback interface
    refuse: Callable[[str], Application]  # makes the response out of a sentence
    public: tuple[str, ...] = ()  # paths below which any Host is accepted

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        inner = self.inner
        if scope["type"] == "http" and not scope["path"].startswith(self.public) and not self._knows_all(scope):
            inner = self.refuse(SENTENCE)
        await inner(scope, receive, send)

    def _knows_all(self, scope: Message) -> bool:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        return ANY in self.names or all(map(self._knows, given))

    def _knows(self, value: str) -> bool:
        found = _HOST.fullmatch(value)
        host = found[1].lower().removesuffix(".") if found else ""
        if host in self.names or host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
            return bool(host)
        try:
            ip_address(host.strip("[]"))
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class RelativeRedirects:
    """Middleware that redirects to paths only, whatever Host a framework has built the address from."""

    inner: Application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [_relative(name, value) for name, value in message["headers"]]}
            await send(message)

        await self.inner(scope, receive, send_relative)


def _relative(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return a header; of a Location only path and query, which do not begin like those of another host."""
    if name.lower() != b"location":
        return name, value
    parts = urlsplit(value.decode("latin-1"))
    path = "/" + parts.path.lstrip("/\\")  # //x names a host, and browsers read \ as / (URL standard, section 4.4)
    return name, f"{path}?{parts.query}".removesuffix("?").encode("latin-1")
