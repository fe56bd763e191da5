"""The names of copies: link and format <-> key <-> public URL. Pure.

A row key can be any text. A key contains it in a form that is safe as a file name and in a URL, and can be decoded:
letters, digits, `-`, `_` and inner dots stay as they are, every other byte of the UTF-8 becomes `=` and two hexadecimal
digits, and `=` before a slash splits what is too long for one name (quoted-printable, RFC 2045, section 6.7).
The sign is `=` and not `%` because a `%` in a name must be written `%25` in its URL; some proxies decode that twice or
refuse it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote

from rehost.errors import Permanent, SettingsError
from rehost.model import Format, Link, Reason

LONGEST_SEGMENT = 200  # bytes of a row key in one name; the rest of LONGEST_NAME is for what a template adds
LONGEST_NAME = 255  # bytes; what most file systems allow (NAME_MAX)
VERSION, VERSION_DIGITS = "?v=", 16  # how URLs carry a digest
LONGEST_KEY = 2000  # bytes; a whole path can have 4096 (Linux, PATH_MAX)

# a row key that needs no encoding, as nearly all
_AS_IT_IS = re.compile(rf"[\w-][\w.-]{{0,{LONGEST_SEGMENT - 1}}}", re.ASCII)
_PLAIN_KEY = re.compile(r"[\w.~/=-]*", re.ASCII)  # what `quote` leaves as it is
_REMEMBERED_NAMES = 256  # each visit names its copy a few times
_EMPTY = "=-"  # an empty row key; `-` is no hexadecimal digit
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_FIELDS = {"{key}": r"(?P<key>(?:[\w.=-]|(?<==)/)+)", "{position}": r"(?P<position>0|[1-9]\d*)"}

# extensions that older scripts gave their files
_ALIASES = {"jpeg": Format.JPEG, "jpe": Format.JPEG, "jfif": Format.JPEG, "tif": Format.TIFF, "heif": Format.HEIC}
_LONGEST_EXTENSION = max(Format, key=len)
_FORMATS = {**_ALIASES, **{str(format_): format_ for format_ in Format}}


def is_key(text: str) -> bool:
    """Return whether a text can be a key: a relative path without hidden names, empty names, backslashes or controls.

    Other files in the store's folder (hidden files, our own `.rehost`) are therefore no copies and are never served.
    """
    if not text or "\\" in text or not text.isprintable():
        return False
    return all(segment and not segment.startswith(".") for segment in text.split("/"))


def with_digest(key: str, digest: str, *, has_digest: bool) -> str:
    """Return a copy's key as a store names it whose keys have the first digits of the digest, or have them not."""
    stem, _, extension = key.rpartition(".")
    mark = f".{digest[:VERSION_DIGITS]}"
    return f"{stem.removesuffix(mark)}{mark if has_digest else ''}.{extension}"


@dataclass(frozen=True)
class Layout:
    """Names copies after their rows: `{key}` is the row's key, `{position}` the index in a cell with many links.

    Raises:
        SettingsError: the template cannot be used.
    """

    template: str = "{key}/main_image"
    url_prefix: str = "/static/images"  # or an absolute one: https://cdn.example/images
    is_versioned: bool = False  # whether URLs carry the first digits of the digest
    has_digest: bool = False  # whether keys carry the first digits of the digest: then a key never changes its bytes
    longest: tuple[int, int] = (LONGEST_NAME, LONGEST_KEY)  # bytes of a name, and of a key, that the store allows
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.template)
        parts = re.split(r"(\{key\}|\{position\})", self.template)
        pattern = "".join(_FIELDS.get(part, re.escape(part)) for part in parts)
        pattern += rf"\.[0-9a-f]{{{VERSION_DIGITS}}}" if self.has_digest else ""
        pattern += r"\.(?P<extension>[A-Za-z0-9]+)"
        object.__setattr__(self, "_pattern", re.compile(pattern, re.ASCII))
        object.__setattr__(self, "url_prefix", self.url_prefix.rstrip("/"))

    def key(self, link: Link, format: Format, digest: str) -> str:  # noqa: A002 - the usual word
        """Return the key of a link's copy with this digest.

        Raises:
            Permanent: the row key is too long for a path; `check` says so before the format is known.
            ValueError: the template has no {position} and the link has one.
        """
        named = _named(self.template, link.row_key, link.position)
        key = f"{named}.{digest[:VERSION_DIGITS]}.{format.value}" if self.has_digest else f"{named}.{format.value}"
        lengths = ("a name in its file's path", max(map(len, key.split("/")))), ("its file's name", len(key))
        for (what, bytes_), fit in zip(lengths, self.longest, strict=True):
            if bytes_ > fit:
                raise Permanent(Reason.KEY_TOO_LONG, f"{what} would have {bytes_:,} bytes, not {fit:,}")
        return key

    def check(self, link: Link) -> None:
        """Raise what `key` raises, unless a copy of any format can be named."""
        self.key(link, _LONGEST_EXTENSION, "0" * VERSION_DIGITS)

    def parse(self, key: str) -> tuple[str, int, Format] | None:
        """Return the row key, the position and the format of a key, or None if `Layout.key` never returns it.

        Extensions that mean the same format, such as `.jpeg`, are accepted. The bytes may be of another format.
        """
        if (match := self._pattern.fullmatch(key)) is None:
            return None
        row_key = _decode(match["key"])
        format_ = _FORMATS.get(match["extension"].lower())
        if row_key is None or format_ is None:
            return None
        return row_key, int(match.groupdict().get("position") or 0), format_

    def url(self, key: str, digest: str = "") -> str:
        """Return the public URL of a copy, which is written into the row."""
        version = f"{VERSION}{digest[:VERSION_DIGITS]}" if self.is_versioned and digest and not self.has_digest else ""
        return f"{self.url_prefix}/{self.url_path(key)}{version}"

    def url_path(self, key: str) -> str:
        """Return the public URL of a copy without the prefix and its slash."""
        return key if _PLAIN_KEY.fullmatch(key) else quote(key, safe="/=")

    def key_of_url(self, url: str) -> str | None:
        """Return the key that a public URL (with or without a query) leads to, or None for a URL that is not ours."""
        path = re.split(r"[?#]", url, maxsplit=1)[0]
        if not path.startswith(f"{self.url_prefix}/"):
            return None
        key = unquote(path[len(self.url_prefix) + 1 :], errors="surrogateescape")
        return key if is_key(key) else None


def _check(template: str) -> None:
    """Refuse a template whose keys could collide, leave the store, or not be decoded."""
    literal = template.replace("{key}", "k").replace("{position}", "0")
    if template.count("{key}") != 1 or template.count("{position}") > 1:
        raise SettingsError(
            "The path template {template!r} must have {{key}} once and {{position}} at most once.", template=template
        )
    if not re.fullmatch(r"[\w.=/-]+", literal, re.ASCII) or "=" in literal or not is_key(literal):
        raise SettingsError(
            "The path template {template!r} must be a relative path of letters, digits, '-', '_' and '.', in which no "
            "name begins with a dot.",
            template=template,
        )
    between = re.search(r"\{(?:key|position)\}(.*)\{(?:key|position)\}", template)
    if between and not re.search(r"\D", between[1]):
        raise SettingsError(
            "The path template {template!r} needs a letter or sign between {{key}} and {{position}}.", template=template
        )


@lru_cache(_REMEMBERED_NAMES)
def _named(template: str, row_key: str, position: int) -> str:
    """Return a key without digest and extension."""
    if position and "{position}" not in template:
        raise ValueError(f"the template {template} has no {{position}}, the link is number {position}")
    return template.replace("{position}", str(position)).replace("{key}", _encode(row_key))


def _encode(row_key: str) -> str:
    """Return a row key as one name or, if that is too long, as several, of which all but the last end in `=`."""
    if _AS_IT_IS.fullmatch(row_key):
        return row_key
    segments = [""]
    for character in row_key:
        code = character if character in _PLAIN else "".join(f"={byte:02X}" for byte in character.encode())
        if len(segments[-1]) + len(code) > LONGEST_SEGMENT:
            segments.append("")
        if code == "." and not segments[-1]:  # a name that begins with a dot is hidden
            code = "=2E"
        segments[-1] += code
    return "=/".join(segments) or _EMPTY


def _decode(name: str) -> str | None:
    """Return the row key that `_encode` encodes as `name`, or None if there is none."""
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
