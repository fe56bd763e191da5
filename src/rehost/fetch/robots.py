"""What an origin asks of robots: robots.txt (RFC 9309) and X-Robots-Tag. Obeyed only where the operator says so.

The rules are pure; `Robots` remembers each origin's for a day at most, as section 2.4 of the RFC wants it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from string import ascii_letters, digits
from urllib.parse import quote, unquote, urlsplit

from rehost.clock import Clock
from rehost.errors import Permanent, Transient
from rehost.fetch.ttl_cache import Remembered
from rehost.http.url import origin_of
from rehost.model import Reason

TOKEN = "rehost"  # noqa: S105 - our product token, by which robots.txt calls us
MAX_BYTES = 512 * 1024
"""Of a robots.txt, the beginning that is read (RFC 9309, section 2.5: at least 500 KiB)."""

FIRST_CLIENT_ERROR = 400
"""The status from which on what comes with it is no robots.txt."""

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(ascii_letters + digits + "-._~")  # RFC 3986, section 2.3
_RESERVED = "%:/?#[]@!&'()+,;="  # section 2.2, without what patterns use (* and $); an escape is one already

_REMEMBERED_SECONDS = 86_400
_MAX_RULES = 5_000  # more would make every look-up dear
_FIRST_SERVER_ERROR = 500
# Google's robots meta tags, and those by which hosts ask not to be copied into collections.
_UNWANTED = frozenset({"noindex", "noimageindex", "none", "noarchive", "noai", "noimageai"})

Read = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Fetches a small text: URL -> final status and, where that is no error, the first MAX_BYTES of its decoded body."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The group of a robots.txt that speaks to us: (allowed, path pattern, encoded)."""

    lines: tuple[tuple[bool, str], ...] = ()

    def allows(self, target: str) -> bool:
        """Return whether a path with its query may be asked for: the longest pattern decides, allow wins a tie."""
        path = _encoded(target)
        fits = [(len(pattern), allowed) for allowed, pattern in self.lines if _fits(pattern, path)]
        return max(fits, default=(0, True))[1]


def parse(text: str) -> Rules:
    """Return the rules of the groups that name us; those for everyone (`*`), where none does."""
    ours: list[tuple[bool, str]] = []
    everyones: list[tuple[bool, str]] = []
    named = False
    agents: list[str] = []
    in_rules = False
    for name, value in _records(text):
        if name == "user-agent":
            agents = [] if in_rules else agents
            agents.append(value.lower())
            in_rules = False
            named = named or value.lower() == TOKEN
        elif name in {"allow", "disallow"}:
            in_rules = True
            if value and TOKEN in agents:
                ours.append((name == "allow", _pattern(value)))
            if value and "*" in agents:
                everyones.append((name == "allow", _pattern(value)))
    return Rules(tuple((ours if named else everyones)[:_MAX_RULES]))


def tag_forbids(fields: Iterable[str]) -> bool:
    """Return whether X-Robots-Tag fields ask us, or everyone, not to keep a picture."""
    for field in fields:
        agent, colon, rest = field.partition(":")
        names_agent = bool(colon) and "," not in agent and agent.strip().lower() != "unavailable_after"
        if names_agent and agent.strip().lower() != TOKEN:
            continue
        words = (rest if names_agent else field).lower().split(",")
        if any(word.strip() in _UNWANTED for word in words):
            return True
    return False


class Robots:
    """Each origin's robots.txt, read once a day."""

    def __init__(self, read: Read, clock: Clock) -> None:
        self._read = read
        self._rules = Remembered(self._ask, _REMEMBERED_SECONDS, clock)

    async def check(self, url: str) -> None:
        """Return if the URL's origin lets robots ask for it.

        Raises:
            VisitError: Permanent(ROBOTS_REFUSED), Transient(ROBOTS_REFUSED) while its robots.txt cannot be read, and
                whatever keeps the origin from being asked at all.
        """
        rules = await self._rules(origin_of(url))
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not rules.allows(target):
            raise Permanent(Reason.ROBOTS_REFUSED, "robots.txt")

    async def _ask(self, origin: str) -> Rules:
        status, body = await self._read(f"{origin}/robots.txt")
        if status >= _FIRST_SERVER_ERROR:
            raise Transient(Reason.ROBOTS_REFUSED, f"robots.txt: status {status}")  # section 2.3.1.4
        if status >= FIRST_CLIENT_ERROR:
            return Rules()  # section 2.3.1.3
        return parse(body.decode("utf-8", "surrogateescape"))


def _records(text: str) -> Iterator[tuple[str, str]]:
    for line in text.removeprefix("\ufeff").splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def _pattern(value: str) -> str:
    end = "$" if value.endswith("$") else ""
    return _encoded(value.removesuffix("$"), "*") + end


def _encoded(text: str, special: str = "") -> str:
    """Return a path in the one form in which it is compared (RFC 9309, section 2.2.2; RFC 3986, section 6.2.2).

    What must be escaped is, in upper case, and what need not be is not; what means something in a pattern is escaped
    where it does not.
    """
    return _ESCAPE.sub(_escape, quote(text, safe=_RESERVED + special, errors="surrogateescape"))


def _escape(found: re.Match[str]) -> str:
    character = unquote(found[0], "latin-1")
    return character if character in _UNRESERVED else found[0].upper()


def _fits(pattern: str, target: str) -> bool:
    """Return whether a pattern of section 2.2.3 (`*`: anything, a final `$`: the end) fits; in linear time."""
    to_end = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not target.startswith(first):
        return False
    at = len(first)
    for part in others:
        found = target.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if not to_end or at == len(target):
        return True
    return bool(others) and target.endswith(others[-1])
