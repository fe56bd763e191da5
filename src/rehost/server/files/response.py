"""The response to a request for a copy: status, headers, and which bytes of the file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from rehost.server.files.preconditions import parse_range, precondition, range_applies
from rehost.store.layout import VERSION_DIGITS

REVALIDATED = "no-cache"  # may be stored, but must be revalidated before each use: the picture of a URL can change
MISSING = "max-age=60"  # RFC 9111, section 4.2.2: so a flood of requests for one missing copy ends at a cache
# A younger file has no Last-Modified: it could be later than the Date that a busy server sends, and the same as that of
# a file that replaces this one within the second (RFC 9110, sections 8.8.2.1 and 8.8.2.2).
NEW = timedelta(minutes=1)
IMMUTABLE = "max-age=31536000, immutable"  # RFC 8246; for URLs that carry the digest of their bytes
CONDITIONS = frozenset(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range"))
MAX_KNOWN_RESPONSES = 4000  # about 8 MB

_DIGEST = re.compile(r"[0-9a-f]{8,64}")

# A file from elsewhere must never be rendered as a document with scripts, whatever a browser makes of its bytes.
SAFE_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cross-origin-resource-policy", "cross-origin"),  # other sites may show the pictures
)
_RANGES = ("accept-ranges", "bytes")

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A copy as it is served."""

    path: str  # on disk; in a bucket its key
    identity: str  # tells it from others here: files in the store are never written to, only replaced
    modified_seconds: int  # when the bytes were written, since 1970
    size: int
    media_type: str
    is_on_disk: bool = True
    place: int = 0  # of the two of an EitherFinder, the one that has it

    @property
    def modified(self) -> datetime:
        """Return when the bytes were written, in whole seconds."""
        return datetime.fromtimestamp(self.modified_seconds, UTC)


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """A response whose body is text of ours, positions of bytes in the file, or both in turn."""

    status: int
    headers: Headers
    body: tuple[bytes | range, ...] = ()

    @property
    def has_file(self) -> bool:
        """Return whether the body contains bytes of the file."""
        return any(isinstance(part, range) for part in self.body)

    @property
    def length(self) -> int:
        """Return the length of the body in bytes."""
        return sum(len(part) for part in self.body)


def requested_digest(query: str) -> str | None:
    """Return the digest, or the first digits of one, that a URL carries as `?v=`."""
    value = parse_qs(query).get("v", [""])[0] if "v=" in query else ""
    return value if _DIGEST.fullmatch(value) else None


def respond(
    scope: Mapping[str, Any],
    headers: Mapping[str, str],
    file: ServedFile,
    digest: str,
    caching: str,
    boundary: str,
    now: datetime,
) -> CopyResponse:
    """Return the response to a GET or HEAD for a copy.

    Args:
        scope: of the request (ASGI).
        headers: request headers, names in lower case.
        file: the copy.
        digest: its SHA-256, which is its entity tag: the same on every server and after a restore.
        caching: Cache-Control, unless the URL carries the digest or its first digits, in its query or in the name of
            the copy; may be empty.
        boundary: of a multipart body; must not occur in any picture.
        now: the server's time.
    """
    requested = requested_digest(scope["query_string"].decode("latin-1"))
    is_named = f".{digest[:VERSION_DIGITS]}." in file.path
    is_versioned = is_named or (requested is not None and digest.startswith(requested))
    cache_control = IMMUTABLE if is_versioned else caching
    is_new = file.modified_seconds > now.timestamp() - NEW.total_seconds()
    if CONDITIONS.isdisjoint(headers):
        return _whole(file, digest, cache_control, is_new=is_new)
    etags = frozenset({f'"{digest}"'})
    validators = _validators(file, digest, cache_control, is_new=is_new)
    status = precondition(headers, etags, file.modified)
    if status == HTTPStatus.NOT_MODIFIED:
        return CopyResponse(status, (*validators, *SAFE_HEADERS))
    if status is not None:
        return error(status)
    spans = None
    if scope["method"] == "GET" and "range" in headers and range_applies(headers, etags, file.modified):
        spans = parse_range(headers["range"], file.size)
    if spans is None:
        return _whole(file, digest, cache_control, is_new=is_new)
    return _parts(file, spans, (*validators, _RANGES, *SAFE_HEADERS), boundary)


def error(status: int, *more: tuple[str, str], caching: str = "no-store") -> CopyResponse:
    """Return a response with the status in words instead of a picture; by default caches must not store it."""
    text = f"{HTTPStatus(status).phrase}\n".encode()
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", caching), *SAFE_HEADERS, *more)
    return CopyResponse(status, (*headers, ("content-length", str(len(text)))), (text,))


@lru_cache(MAX_KNOWN_RESPONSES)
def _whole(file: ServedFile, digest: str, cache_control: str, *, is_new: bool) -> CopyResponse:
    """Return the response with the whole file."""
    headers = (*_validators(file, digest, cache_control, is_new=is_new), _RANGES, *SAFE_HEADERS)
    return _sized(HTTPStatus.OK, file.media_type, headers, (range(file.size),))


def _validators(file: ServedFile, digest: str, cache_control: str, *, is_new: bool) -> Headers:
    return (
        ("etag", f'"{digest}"'),
        *((("cache-control", cache_control),) if cache_control else ()),
        *((("last-modified", format_datetime(file.modified, usegmt=True)),) if not is_new else ()),
    )


def _parts(file: ServedFile, spans: tuple[range, ...], headers: Headers, boundary: str) -> CopyResponse:
    """Return one range, several as multipart/byteranges, or 416 (RFC 9110, section 15.3.7)."""
    if not spans:
        return error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, ("content-range", f"bytes */{file.size}"))
    if len(spans) == 1:
        content_range = ("content-range", _content_range(spans[0], file.size))
        return _sized(HTTPStatus.PARTIAL_CONTENT, file.media_type, (*headers, content_range), spans)
    body: list[bytes | range] = []
    for span in spans:
        content_range_line = f"Content-Range: {_content_range(span, file.size)}"
        head = f"--{boundary}\r\nContent-Type: {file.media_type}\r\n{content_range_line}\r\n\r\n"
        body += [head.encode(), span, b"\r\n"]
    body.append(f"--{boundary}--\r\n".encode())
    return _sized(HTTPStatus.PARTIAL_CONTENT, f"multipart/byteranges; boundary={boundary}", headers, tuple(body))


def _sized(status: HTTPStatus, media_type: str, headers: Headers, body: tuple[bytes | range, ...]) -> CopyResponse:
    length = str(CopyResponse(status, headers, body).length)
    return CopyResponse(status, (("content-type", media_type), ("content-length", length), *headers), body)


def _content_range(span: range, size: int) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{size}"
