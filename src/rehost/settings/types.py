"""The types of settings: a Kind parses the text of a value and describes what is expected.

A parser gets text that is not blank, unless its kind allows that, and raises ValueError. The description is used in
error messages and in the reference page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from rehost.language import Message
from rehost.model import Bucket

T = TypeVar("T")

Network = IPv4Network | IPv6Network

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b|)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_HEADER_TEXT = re.compile(r"[\x20-\x7e]+")
_HOST_TEXT = re.compile(r"[^\s/:@?#\[\],]+")
_ADDRESS = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?(?P<path>/.*)?", re.IGNORECASE)
_CONNECT_TO = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):(\d*):(\[[^\]]*\]|[^:\[\]]*):(\d*)")
_OWN_HOST = re.compile(r"[A-Za-z0-9._-]+")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_.=-]+(?:/[A-Za-z0-9_.=-]+)*)?")  # none that a URL would write differently
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """The type of a setting."""

    parse: Callable[[str], T]
    expected: str  # in words, to follow "expected "; a Message
    blank: bool = False  # an empty text is a value, and does not mean that the setting is absent


class ConnectTo(NamedTuple):
    """Another address to connect to than the URL's, like curl's --connect-to."""

    host: str  # lower-case, without brackets; `*` means any
    port: int | None  # None means any
    address: str  # an address or a name; empty keeps the URL's own
    to_port: int | None  # None keeps the URL's own


def whole(low: int, high: int) -> Kind[int]:
    """Return the kind of integers from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            raise ValueError(text)
        return _within(int(text), low, high)

    return Kind(parse, Message("a whole number from {low} to {high}", low=low, high=high))


def seconds(low: float, high: float) -> Kind[float]:
    """Return the kind of numbers of seconds from `low` to `high`; a fraction is allowed."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
            raise ValueError(text)
        return _within(float(text), low, high)

    return Kind(parse, Message("a number of seconds from {low:g} to {high:g}", low=low, high=high))


def size(low: int, high: int) -> Kind[int]:
    """Return the kind of sizes in bytes: 1048576, 64MiB (powers of 1024), 64MB (powers of 1000)."""

    def parse(text: str) -> int:
        found = _SIZE.fullmatch(text)
        if found is None:
            raise ValueError(text)
        return _within(int(float(found[1]) * _UNITS[found[2].lower()]), low, high)

    bounds = {"low": size_text(low), "high": size_text(high)}
    return Kind(parse, Message("a size such as 64MiB, 1GiB or plain bytes, from {low} to {high}", **bounds))


def size_text(count: int) -> str:
    """Return bytes as `size` reads them, in the largest binary unit without a remainder."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _UNITS[unit.lower()]
        if count >= factor and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def choice(*words: str) -> Kind[str]:
    """Return the kind of one word out of several."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return Kind(parse, Message("{words} or {last}", words=", ".join(words[:-1]), last=words[-1]))


def _parse_switch(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError(text)


def _parse_header(text: str) -> str:
    if text and not _HEADER_TEXT.fullmatch(text):
        raise ValueError(text)
    return text


def _parse_referer(text: str) -> str:
    if text.lower() in {"auto", "none", "origin", "site", "page"}:
        return text.lower()
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(text)
    return _parse_header(text)


def _parse_archive(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or "{url}" not in text):
        raise ValueError(text)
    if set(re.findall(r"\{[^{}]*\}", text)) - {"{url}", "{date}"}:
        raise ValueError(text)
    return _parse_header(text)


def _parse_hook(text: str) -> str:
    words = [text] if _ADDRESS.match(text) else shlex.split(text)  # raises ValueError for quotes without an end
    if not text.isprintable() or (text and not words):
        raise ValueError(text)
    return text


def _parse_path(text: str) -> Path:
    if "\0" in text or _SCHEME.match(text):  # s3://pics: no folder called `s3:`
        raise ValueError(text)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # `~name` without such a user
        raise ValueError(text) from error


def _parse_storage(text: str) -> Path | Bucket:
    if not text.lower().startswith("s3://"):
        return _parse_path(text)
    name, _, prefix = text[len("s3://") :].partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(name) or not _PREFIX.fullmatch(prefix) or ".." in prefix.split("/"):
        raise ValueError(text)
    return Bucket(name, prefix)


def _parse_server(text: str) -> str:
    if ":" in text and not text.startswith("/"):
        ip_address(text)
    elif not text.startswith("/") and not _HOST_TEXT.fullmatch(text):
        raise ValueError(text)
    return text


def _parse_token(text: str) -> str:
    if text != text.strip():  # a header's value has no spaces around it
        raise ValueError(text)
    return _parse_header(text)


def _parse_prefix(text: str) -> str:
    address = _ADDRESS.fullmatch(text.rstrip("/"))
    path = address["path"] if address else text.rstrip("/")
    if address and not path:
        return address[0]
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) or any(part in {".", ".."} for part in path.split("/")):
        raise ValueError(text)
    return text.rstrip("/")


def _connect_to(word: str) -> ConnectTo:
    found = _CONNECT_TO.fullmatch(word)
    if found is None:
        raise ValueError(word)
    host, port, address, to_port = found.groups()
    return ConnectTo(_host(host) or "*", _port(port), _host(address), _port(to_port))


def _host(text: str) -> str:
    if text.startswith("["):
        return str(ip_address(text[1:-1]))
    if text and not _HOST_TEXT.fullmatch(text):
        raise ValueError(text)
    return text.lower()


def _own_host(word: str) -> str:
    if word != "*" and not _OWN_HOST.fullmatch(word):
        raise ValueError(word)
    return word.lower().removesuffix(".")


def _port(text: str) -> int | None:
    return _within(int(text), 1, _LAST_PORT) if text else None


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


N = TypeVar("N", int, float)


def _within(value: N, low: float, high: float) -> N:
    if not low <= value <= high:
        raise ValueError(value)
    return value


TEXT: Kind[str] = Kind(str, Message("any text"), blank=True)
WORD: Kind[str] = Kind(str, Message("any text"))
SERVER: Kind[str] = Kind(_parse_server, Message("a host name, an address, or a folder that starts with /"))
TOKEN: Kind[str] = Kind(_parse_token, Message("printable ASCII, without spaces around it"))
DATABASE: Kind[str] = Kind(str, Message("postgresql://user:password@host:port/name or sqlite:///path"))
HEADER: Kind[str] = Kind(_parse_header, Message("printable ASCII"), blank=True)
SWITCH: Kind[bool] = Kind(_parse_switch, Message("on or off (also true/false, yes/no, 1/0)"))
PORT = whole(1, _LAST_PORT)
PATH: Kind[Path] = Kind(
    _parse_path, Message("the path of a folder, absolute or relative to the folder of the settings; not a URL")
)
STORAGE: Kind[Path | Bucket] = Kind(
    _parse_storage,
    Message("the path of a folder, absolute or relative to the folder of the settings, or s3://BUCKET/PREFIX"),
)
OTHER_STORAGE: Kind[Path | Bucket | None] = Kind(_parse_storage, STORAGE.expected)
PREFIX: Kind[str] = Kind(
    _parse_prefix, Message("a path such as /static/images, or http(s)://host with or without a path")
)
REFERER: Kind[str] = Kind(_parse_referer, Message("auto, none, origin, site, page or a fixed http(s) URL"))
ARCHIVE: Kind[str] = Kind(_parse_archive, Message("an http(s) URL with {url} and optionally {date} in it"), blank=True)
HOOK: Kind[str] = Kind(_parse_hook, Message("an http(s) URL, or a command with its arguments"), blank=True)
NETWORKS: Kind[tuple[Network, ...]] = Kind(
    lambda text: tuple(map(ip_network, _words(text))),
    Message("networks such as 127.0.0.0/8 fd00::/8, without host bits, separated by commas or spaces"),
    blank=True,
)
HOSTS: Kind[tuple[str, ...]] = Kind(
    lambda text: tuple(map(_own_host, _words(text))),
    Message("host names in ASCII, without ports, separated by commas or spaces, or * for any"),
    blank=True,
)
CONNECT_TO: Kind[tuple[ConnectTo, ...]] = Kind(
    lambda text: tuple(map(_connect_to, _words(text))),
    Message("host:port:address:port, with * for any host, nothing for any port, [::1] for IPv6"),
    blank=True,
)
