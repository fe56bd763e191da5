"""What a copy is called: link and format <-> key <-> public URL. Pure.

A row key may be any text; in a key it is written so that it is safe as a name on disk and in a URL, and can be read
back: letters, digits, `-`, `_` and inner dots stay, every other byte of its UTF-8 becomes `=` and two hexadecimal
digits, and a `=` before a slash breaks what is too long for one name (quoted-printable, RFC 2045, section 6.7).
`=` and not `%`, because a `%` in a name has to be written `%25` in its URL, which proxies decode too often or refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from rehost.errors import SettingsError
from rehost.model import Format, Link

LONGEST_SEGMENT = 200  # bytes; most file systems take names of 255, the rest is for what a template adds
LONGEST_KEY = 2000  # bytes; a path may have 4096 in all (Linux, PATH_MAX)

_AS_IT_IS = re.compile(rf"[\w-][\w.-]{{0,{LONGEST_SEGMENT - 1}}}", re.ASCII)  # what needs no writing: nearly every key
_EMPTY = "=-"  # an empty row key: no pair of hexadecimal digits looks like it
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_FIELDS = {"{key}": r"(?P<key>(?:[\w.=-]|(?<==)/)+)", "{position}": r"(?P<position>0|[1-9]\d*)"}

# what older scripts called their files
_ALIASES = {"jpeg": Format.JPEG, "jpe": Format.JPEG, "jfif": Format.JPEG, "tif": Format.TIFF, "heif": Format.HEIC}
_FORMATS = {**_ALIASES, **{str(format_): format_ for format_ in Format}}


def is_key(text: str) -> bool:
    """Tell whether a text may be a key: a relative path without dot names, empty names or characters that lead astray.

    Whatever else lies in the store's folder (dotfiles, our own `.rehost`) is therefore no copy, and is never served.
    """
    if not text or "\\" in text or not text.isprintable():
        return False
    return all(segment and not segment.startswith(".") for segment in text.split("/"))


@dataclass(frozen=True)
class Layout:
    """Names copies after their rows: `{key}` is the row's key, `{position}` the element of a cell with many links.

    Raises:
        SettingsError: the template is not usable.
    """

    template: str = "{key}/main_image"
    url_prefix: str = "/static/images"
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.template)
        parts = re.split(r"(\{key\}|\{position\})", self.template)
        pattern = "".join(_FIELDS.get(part, re.escape(part)) for part in parts) + r"\.(?P<extension>[A-Za-z0-9]+)"
        object.__setattr__(self, "_pattern", re.compile(pattern, re.ASCII))
        object.__setattr__(self, "url_prefix", self.url_prefix.rstrip("/"))

    def key(self, link: Link, format: Format) -> str:  # noqa: A002 - the field's word
        """Return the name in the store of a link's copy.

        Raises:
            ValueError: the row key is too long for a path, or the template has no place for the link's position.
        """
        if link.position and "{position}" not in self.template:
            raise ValueError(f"the template {self.template} has no {{position}}, the link is number {link.position}")
        named = self.template.replace("{position}", str(link.position)).replace("{key}", _encode(link.row_key))
        key = f"{named}.{format.value}"
        if len(key) > LONGEST_KEY:
            raise ValueError(f"the row key {link.row_key[:40]}... is too long for the name of a file")
        return key

    def parse(self, key: str) -> tuple[str, int, Format] | None:
        """Return the row key, the position and the format that a key stands for; None if it is nobody's.

        The inverse of `key`, for names that lie in the store. Other endings that mean the same format are understood;
        what the bytes really are, only the bytes tell.
        """
        match = self._pattern.fullmatch(key)
        if match is None:
            return None
        row_key = _decode(match["key"])
        format_ = _FORMATS.get(match["extension"].lower())
        if row_key is None or format_ is None:
            return None
        return row_key, int(match.groupdict().get("position") or 0), format_

    def url(self, key: str) -> str:
        """Return the public URL of a copy: what is written into the row."""
        return f"{self.url_prefix}/{quote(key, safe='/=')}"

    def key_of_url(self, url: str) -> str | None:
        """Return the key that a public URL (with or without a query) leads to; None for anybody else's URL."""
        path = re.split(r"[?#]", url, maxsplit=1)[0]
        if not path.startswith(f"{self.url_prefix}/"):
            return None
        key = unquote(path[len(self.url_prefix) + 1 :], errors="surrogateescape")
        return key if is_key(key) else None


def _check(template: str) -> None:
    """Refuse a template whose keys could collide, leave the store, or not be read back."""
    literal = template.replace("{key}", "k").replace("{position}", "0")
    if template.count("{key}") != 1 or template.count("{position}") > 1:
        raise SettingsError(f"The path template {template!r} must have {{key}} once and {{position}} at most once.")
    if not re.fullmatch(r"[\w.=/-]+", literal, re.ASCII) or "=" in literal or not is_key(literal):
        raise SettingsError(
            f"The path template {template!r} must be a relative path of letters, digits, '-', '_' and '.', "
            "in which no name begins with a dot."
        )
    between = re.search(r"\{(?:key|position)\}(.*)\{(?:key|position)\}", template)
    if between and not re.search(r"\D", between[1]):
        raise SettingsError(f"The path template {template!r} needs a letter or sign between {{key}} and {{position}}.")


def _encode(row_key: str) -> str:
    """Return a row key as one name, or, where that would be too long, as several that end in `=`."""
    if _AS_IT_IS.fullmatch(row_key):
        return row_key
    characters = [
        character if character in _PLAIN else "".join(f"={byte:02X}" for byte in character.encode())
        for character in row_key
    ]
    if characters and characters[0] == ".":
        characters[0] = "=2E"
    segments, length = [[]], 0  # type: list[list[str]], int
    for character in characters:
        if length + len(character) > LONGEST_SEGMENT:
            segments.append([])
            length = 0
        if not length and character == ".":
            character = "=2E"  # noqa: PLW2901 - a broken name must not continue with a dot either
        segments[-1].append(character)
        length += len(character)
    return "=/".join("".join(segment) for segment in segments) or _EMPTY


def _decode(name: str) -> str | None:
    """Return the row key that `_encode` wrote so, or None if it never writes this."""
    if _AS_IT_IS.fullmatch(name):
        return name
    if name == _EMPTY:
        return ""
    raw = re.sub(r"=([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), name.replace("=/", ""))
    try:
        row_key = raw.encode("latin-1").decode()
    except UnicodeError:
        return None
    return row_key if _encode(row_key) == name else None
