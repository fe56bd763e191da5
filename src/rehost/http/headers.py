"""Header fields: of a response, of a request, and what those about types, validators and ranges mean. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')  # RFC 9110, section 8.8.3, without obs-text: databases store it
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,1024}")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,63}/[\w.+-]{1,63}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)


class Headers(Mapping[str, str]):
    """The header fields of a response by name, in any case; the first value of a name that came more than once.

    Bytes beyond ASCII (obs-text, RFC 9110, section 5.5) are read as UTF-8 with surrogate escapes.
    """

    def __init__(self) -> None:
        self._values: dict[bytes, list[bytes]] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field as it was received; decoding waits until it is read."""
        self._values.setdefault(name.lower(), []).append(value)

    def all(self, name: str) -> Sequence[str]:
        """Return every value that was received under a name."""
        return [_text(value) for value in self._values.get(name.lower().encode(), ())]

    def joined(self, name: str) -> str:
        """Return the value of a list field, its lines joined by commas (RFC 9110, section 5.3)."""
        return ", ".join(self.all(name)) if name in self else ""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower().encode() in self._values

    def __getitem__(self, name: str) -> str:
        return _text(self._values[name.lower().encode()][0])

    def __iter__(self) -> Iterator[str]:
        return map(_text, self._values)

    def __len__(self) -> int:
        return len(self._values)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape").strip(" \t")


def names_of(value: str) -> list[str]:
    """Return the names in a list field, such as Connection, in lower case."""
    return [name for part in value.split(",") if (name := part.strip().lower())] if value else []


def encode_request(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return an HTTP/1.1 request without a body (RFC 9112, section 2.1).

    Raises:
        ValueError: one of the parts contains a line break, which would add fields or requests (request splitting).
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    text = "\r\n".join((*lines, "", ""))
    if text.count("\r") != len(lines) + 1 or text.count("\n") != len(lines) + 1:
        raise ValueError("a line break within a line of a request")
    return text.encode("utf-8", "surrogateescape")


def validators(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return ETag and Last-Modified of a response; None for a value that is missing or not printable ASCII."""
    etag, last_modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return (
        etag if _PRINTABLE.fullmatch(etag) else None,
        last_modified if _PRINTABLE.fullmatch(last_modified) else None,
    )


def is_strong(etag: str | None) -> bool:
    """Return whether ranges of a body may be joined under this ETag (RFC 9110, section 8.8.1)."""
    return etag is not None and _STRONG_ETAG.fullmatch(etag) is not None


def media_type(headers: Mapping[str, str]) -> str | None:
    """Return the announced media type in lower case, without parameters; None if it is missing or malformed."""
    value = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return value if _MEDIA_TYPE.fullmatch(value) else None


def condition(etag: str | None, last_modified: str | None) -> dict[str, str]:
    """Return the fields that ask for a body only if it has changed (RFC 9110, section 13.1)."""
    conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
    return {name: value for name, value in conditions.items() if value is not None}


def rest_range(start: int, etag: str) -> dict[str, str]:
    """Return the fields that ask for a body from byte `start` on if its ETag still holds (RFC 9110, section 14.2)."""
    return {"Range": f"bytes={start}-", "If-Range": etag}


def size_of_whole(headers: Mapping[str, str], start: int, etag: str | None) -> int | None:
    """Return the size of the whole body, in bytes, of which a 206 gives the rest from byte `start` on; None if not.

    Parts of two different bodies must never be joined: the range has to begin at `start` and to reach the end, and an
    ETag, if there is one, has to be the same strong one (RFC 9110, section 15.3.7).
    """
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None
    first, last, size = (int(number) for number in found.groups())
    fits = (
        (first, last) == (start, size - 1)
        and headers.get("ETag", etag) == etag
        and headers.get("Content-Length", str(size - start)) == str(size - start)
        and headers.get("Content-Encoding", "identity").strip().lower() == "identity"
    )
    return size if fits else None
