"""Which proxy a URL goes through, by the customary environment variables. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from rehost.errors import SettingsError
from rehost.http.url import host_of, port_of


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy listens, and what it is told of us."""

    host: str
    port: int
    is_tls: bool
    fields: Mapping[str, str] = field(default_factory=dict)  # for it alone

    @classmethod
    def of(cls, url: str) -> Proxy:
        """Return what an http or https URL says of a proxy; its credentials as in RFC 7617.

        Raises:
            ValueError: it has no host, or no port that could be one.
        """
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("no host")
        is_tls = parts.scheme == "https"
        fields = {}
        if parts.username is not None:
            words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields["Proxy-Authorization"] = f"Basic {b64encode(words.encode()).decode()}"
        return cls(parts.hostname, parts.port or (443 if is_tls else 80), is_tls, fields)


@dataclass(frozen=True, slots=True)
class Proxies:
    """One proxy a scheme, and the hosts that are reached without one."""

    http: str | None = None
    https: str | None = None
    without: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Return what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say; lower-case names win, as in curl.

        Raises:
            SettingsError: a proxy is no http or https URL.
        """

        def read(name: str) -> str:
            return environment.get(name.lower(), environment.get(name, "")).strip()

        http, https = (_proxy(read(name) or read("ALL_PROXY"), name) for name in ("HTTP_PROXY", "HTTPS_PROXY"))
        names = tuple(name.strip().lower() for name in read("NO_PROXY").split(",") if name.strip())
        return cls(http, https, names)

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy's URL; None where this URL is to be asked for directly."""
        proxy = self.https if url.startswith("https:") else self.http
        if proxy is None or any(_covers(entry, host_of(url), port_of(url)) for entry in self.without):
            return None
        return proxy


def _proxy(text: str, name: str) -> str | None:
    if not text:
        return None
    url = text if "://" in text else f"http://{text}"
    try:
        Proxy.of(url)
        is_web = url.lower().startswith(("http://", "https://"))
    except ValueError:
        is_web = False
    if not is_web:
        raise SettingsError(f"{name} names a proxy that is no http or https URL. Give one, or unset it.")
    return url


def _covers(entry: str, host: str, port: int) -> bool:
    """Return whether one word of NO_PROXY (`*`, name, .suffix, address, CIDR; with a port or not) means this host."""
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
