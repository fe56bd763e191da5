"""The sections of rehost.toml: `[source.NAME]` for a table that holds links, `[origin."PATTERN"]` for an origin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from rehost.language import Message
from rehost.model import Source
from rehost.settings.types import HEADER, REFERER, SWITCH, WORD, Kind, seconds, whole

T = TypeVar("T")

Table = Mapping[str, object]

_PATTERN_TEXT = re.compile(r"[^\s/]+|https?://[^\s/]+")
NOT_SHOWN = Message("(not shown)")
"""What messages say in place of a value that may be a secret: of headers, of cookies, of a key that is not known."""

_LIKENESS = 0.8  # of difflib: one letter wrong in five

_FIELD = re.compile(r"\{([^{}]*)\}")
_REQUIRED = {
    "table": Message("the name of the table"),
    "key": Message("the name of the column that identifies a row"),
    "link": Message("the name of the column with the link"),
    "local": Message("the name of the column for the local URL"),
}


@dataclass(frozen=True, slots=True)
class OriginOverride:
    """Settings for the hosts, or the one origin, that a pattern matches; None keeps the general setting."""

    pattern: str  # a host such as *.example.com, or scheme://host[:port]
    referer: str | None = None  # as IMAGE_REFERER
    user_agent: str | None = None  # as IMAGE_USER_AGENT
    headers: tuple[tuple[str, str], ...] = ()  # more request headers, such as { Accept-Language = "zh-CN" }
    cookies: tuple[tuple[str, str], ...] = ()  # such as { session = "..." }
    min_delay_seconds: float | None = None  # as IMAGE_MIN_DELAY
    daily_budget: int | None = None  # as IMAGE_DAILY_BUDGET
    robots: bool | None = None  # as IMAGE_ROBOTS


class SectionError(ValueError):
    """A section is not valid.

    Attributes:
        key: the invalid key, or an empty string for the section's name.
        value: the value that was given, or None if a required key is missing.
        expected: what would have been valid.
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(f"{key}={value!r}, expected {expected}")
        self.key = key
        self.value = value
        self.expected = expected


def parse_source(name: str, table: Table) -> Source:
    """Return one `[source.NAME]` section; `table`, `key`, `link` and `local` are required.

    Raises:
        SectionError: a key is missing, unknown or not valid.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise SectionError("", name, Message("letters, digits, - and _"))
    _only(table, "table", "key", "link", "page", "local", "path", "title")
    given = {key: _needed(table, key) for key in _REQUIRED}
    path = _optional(table, "path", WORD) or f"{{key}}/{given['link']}"
    _check_path(path)
    page = _optional(table, "page", WORD)
    if given["local"] in {given["key"], given["link"], page}:
        raise SectionError(
            "local", given["local"], Message("a column of its own, which rehost writes (the others it only reads)")
        )
    title = _optional(table, "title", WORD) or Source().title
    return Source(name=name, page=page, path=path, title=title, **given)


def parse_origin(pattern: str, table: Table) -> OriginOverride:
    """Return one `[origin."PATTERN"]` section.

    Raises:
        SectionError: a key is unknown or not valid.
    """
    if not _PATTERN_TEXT.fullmatch(pattern):
        raise SectionError("", pattern, Message("a host such as *.example.com, or scheme://host[:port]"))
    _only(table, "referer", "user_agent", "headers", "cookies", "min_delay", "daily_budget", "robots")
    return OriginOverride(
        pattern=pattern.lower(),
        referer=_optional(table, "referer", REFERER),
        user_agent=_optional(table, "user_agent", HEADER),
        headers=_pairs(table, "headers"),
        cookies=_pairs(table, "cookies"),
        min_delay_seconds=_optional(table, "min_delay", seconds(0, 3600)),
        daily_budget=_optional(table, "daily_budget", whole(0, 10**9)),
        robots=_optional(table, "robots", SWITCH),
    )


def _check_path(path: str) -> None:
    """Check the fields of a path template; the store's layout checks the rest of it."""
    fields = _FIELD.findall(path)
    if fields.count("key") != 1 or set(fields) - {"key", "position"}:
        expected = Message("a relative path with {key} and optionally {position}, without an extension")
        raise SectionError("path", path, expected)


def _only(table: Table, *known: str) -> None:
    for key in table:
        if key not in known:
            given = {"keys": ", ".join(known), "near": did_you_mean(key, known)}
            expected = Message("one of the keys {keys}{near}", **given)
            if key.isupper():
                expected = Message(
                    "one of the keys {keys}; settings such as IMAGE_STORAGE_DIR stand above the first section{near}",
                    **given,
                )
            raise SectionError(key, NOT_SHOWN, expected)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that one is most likely a misspelling of, or None."""
    import difflib  # noqa: PLC0415 - few settings have an unknown name

    by_case = {each.upper(): each for each in known}
    found = difflib.get_close_matches(name.upper(), by_case, 1, _LIKENESS)
    return by_case[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return words in parentheses that suggest the nearest known name, or nothing."""
    near = nearest(name, known)
    return Message(" (did you mean {near}?)", near=near) if near else ""


def _needed(table: Table, key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise SectionError(key, value, _REQUIRED[key])
    return value


def _optional(table: Table, key: str, kind: Kind[T]) -> T | None:
    value = table.get(key)
    if value is None:
        return None
    text = plain_text(value)
    if text is None:
        raise SectionError(key, NOT_SHOWN, kind.expected)
    try:
        return kind.parse(text)
    except ValueError as error:
        raise SectionError(key, value, kind.expected) from error


def _pairs(table: Table, key: str) -> tuple[tuple[str, str], ...]:
    """Return a table of names and texts that a header can contain."""
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise SectionError(key, NOT_SHOWN, Message("a table such as { Name = 'text' }"))
    return tuple((_token(key, name), _header_text(key, text)) for name, text in value.items())


def _token(key: str, name: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):  # RFC 9110, section 5.6.2
        raise SectionError(key, NOT_SHOWN, Message("names of letters, digits and -"))
    return name


def _header_text(key: str, value: object) -> str:
    invalid = SectionError(key, NOT_SHOWN, HEADER.expected)
    if not isinstance(value, str):
        raise invalid
    try:
        return HEADER.parse(value)
    except ValueError as error:
        raise invalid from error


def plain_text(value: object) -> str | None:
    """Return a TOML value as the text of a setting, lists separated by spaces; None if no setting can have it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        texts = [plain_text(each) for each in value]
        return None if None in texts else " ".join(text for text in texts if text)
    return str(value) if isinstance(value, str | int | float) else None
