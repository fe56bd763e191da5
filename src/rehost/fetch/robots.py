"""What an origin asks of robots: robots.txt (RFC 9309) and X-Robots-Tag. Only obeyed where the operator says so.

Pure; `Fetcher` reads each origin's robots.txt. docs/decisions/0006-robots.md says why no library does this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from string import ascii_letters, digits
from urllib.parse import quote, urlsplit

TOKEN = "rehost"  # noqa: S105 - our product token, by which robots.txt names us
MAX_BYTES = 512 * 1024
"""The length of the part of a robots.txt that is read (RFC 9309, section 2.5: at least 500 KiB)."""

KEPT_SECONDS = 86_400.0
"""For which the rules of an origin are kept (RFC 9309, section 2.4: at most a day)."""

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset(ascii_letters + digits + "-._~")  # RFC 3986, section 2.3
_RESERVED = "%:/?#[]@!&'()+,;="  # section 2.2, without the * and $ of patterns; % begins an escape

_STARS = re.compile(r"\*+")
_MAX_RULES = 5_000
_RULE_BYTES = 128  # of memory for a rule, besides the characters of its pattern
_UNIT_BYTES = 32 * 1024
_MAX_STEPS = 2_000_000  # characters compared for one URL: some 10 ms, as each pattern with a * can pass the whole URL
# Google's robots meta tags, and those by which hosts ask not to be copied into collections.
_FORBIDDING_TAGS = frozenset({"noindex", "noimageindex", "none", "noarchive", "noai", "noimageai"})


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a robots.txt that apply to us: (is allowed, encoded path pattern)."""

    lines: tuple[tuple[bool, str], ...] = ()

    @property
    def size(self) -> int:
        """About how many units of 32 kB they take in memory."""
        return 1 + sum(_RULE_BYTES + len(pattern) for _, pattern in self.lines) // _UNIT_BYTES

    def allows(self, url: str) -> bool:
        """Return whether a URL may be requested, by its path and query: the longest match decides, allow wins a tie.

        A URL that is so long, under so many patterns, that this would take too long may not.
        """
        parts = urlsplit(url)
        path = _encoded((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        if len(path) * sum("*" in pattern for _, pattern in self.lines) > _MAX_STEPS:
            return False
        matches = [(len(pattern), is_allowed) for is_allowed, pattern in self.lines if _matches(pattern, path)]
        return max(matches, default=(0, True))[1]


def parse(text: str) -> Rules:
    """Return the rules of all groups that name us; of those for all (`*`), if none does."""
    rules: dict[str, list[tuple[bool, str]]] = {"*": []}  # by agent
    agents: set[str] = set()
    in_rules = False
    for name, value in _records(text):
        if name == "user-agent":
            agents = set() if in_rules else agents
            agents.add(value.lower())
            in_rules = False
            if TOKEN in agents:
                rules.setdefault(TOKEN, [])
        elif name in {"allow", "disallow"}:
            in_rules = True
            for agent in rules.keys() & agents if value else ():
                rules[agent].append((name == "allow", _pattern(value)))
    return Rules(tuple(rules.get(TOKEN, rules["*"])[:_MAX_RULES]))


def tag_forbids(values: Iterable[str]) -> bool:
    """Return whether X-Robots-Tag fields ask us, or all robots, not to keep an image."""
    for value in values:
        agent, colon, rest = value.partition(":")
        names_agent = bool(colon) and "," not in agent and agent.strip().lower() != "unavailable_after"
        if names_agent and agent.strip().lower() != TOKEN:
            continue
        tags = (rest if names_agent else value).lower().split(",")
        if any(tag.strip() in _FORBIDDING_TAGS for tag in tags):
            return True
    return False


def _records(text: str) -> Iterator[tuple[str, str]]:
    for line in text.removeprefix("\ufeff").splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def _pattern(value: str) -> str:
    end = "$" if value.endswith("$") else ""
    return _encoded(_STARS.sub("*", value.removesuffix("$")), "*") + end


def _encoded(text: str, special: str = "") -> str:
    """Return a path in the one form in which paths are compared (RFC 9309, section 2.2.2; RFC 3986, section 6.2.2).

    Only what must be escaped is, in upper case; characters that are special in patterns are escaped elsewhere.
    """
    return _ESCAPE.sub(_escape, quote(text, safe=_RESERVED + special, errors="surrogateescape"))


def _escape(found: re.Match[str]) -> str:
    character = chr(int(found[0][1:], 16))
    return character if character in _UNRESERVED else found[0].upper()


def _matches(pattern: str, target: str) -> bool:
    """Return whether a pattern of section 2.2.3 (`*`: anything, a final `$`: the end) matches; in linear time."""
    is_anchored = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not target.startswith(first):
        return False
    at = len(first)
    for part in others:
        found = target.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if not is_anchored or at == len(target):
        return True
    return bool(others) and target.endswith(others[-1])
