"""What is answered to a request for a copy: status, headers, and which bytes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import parse_qs

from rehost.server.files.conditions import precondition, range_holds
from rehost.server.files.ranges import Span, spans

REVALIDATED = "no-cache"  # may be kept, but is asked about before each use: a URL outlives its picture
IMMUTABLE = "max-age=31536000, immutable"  # RFC 8246; for URLs that carry the digest of their bytes

_DIGEST = re.compile(r"[0-9a-f]{8,64}")

# What comes from strangers must never become a document with a script in it, whatever a browser makes of its bytes.
HARMLESS = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; sandbox"),
    ("cross-origin-resource-policy", "cross-origin"),  # pictures are there to be shown, on other sites too
)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Served:
    """A copy as it is served: one file on disk, recognised by what a rename changes."""

    path: str
    device: int
    inode: int
    modified_ns: int
    size: int
    media_type: str

    @property
    def etag(self) -> str:
        """Return a strong tag: files in the store are never written to, only replaced by another one."""
        return f'"{self.inode:x}-{self.modified_ns:x}-{self.size:x}"'

    @property
    def modified(self) -> datetime:
        """Return when the bytes came, in whole seconds, as HTTP has it.

        A second earlier, for it must not be later than Date (RFC 9110, 8.8.2.1), which servers take once a second.
        """
        return datetime.fromtimestamp(self.modified_ns // 10**9 - 1, UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `body` is text of ours, or parts of the file between them."""

    status: int
    headers: Headers
    body: tuple[bytes | Span, ...] = ()

    @property
    def has_file(self) -> bool:
        """Tell whether bytes of the file are in the body."""
        return any(isinstance(part, Span) for part in self.body)

    @property
    def length(self) -> int:
        """Return the bytes of the body."""
        return sum(len(part) for part in self.body)


def asked_digest(query: str) -> str | None:
    """Return the digest, or the beginning of one, that a URL carries as `?v=`."""
    value = parse_qs(query).get("v", [""])[0] if "v=" in query else ""
    return value if _DIGEST.fullmatch(value) else None


def answer(method: str, headers: Mapping[str, str], served: Served, digest: str | None, boundary: str) -> Answer:
    """Return the answer to a GET or HEAD for a copy.

    Args:
        method: GET or HEAD.
        headers: of the request, names in lower case.
        served: the copy.
        digest: its SHA-256, if the URL carries it (or its beginning) rightly.
        boundary: for the parts of several ranges; nothing that a picture has in it.
    """
    etags = frozenset({served.etag, f'"{digest}"'} if digest else {served.etag})
    shown = (
        ("etag", f'"{digest}"' if digest else served.etag),
        ("cache-control", IMMUTABLE if digest else REVALIDATED),
        ("last-modified", format_datetime(served.modified, usegmt=True)),
    )
    status = precondition(headers, etags, served.modified)
    if status == HTTPStatus.NOT_MODIFIED:
        return Answer(status, (*shown, *HARMLESS))
    if status is not None:
        return error(status)
    asked = None
    if method == "GET" and "range" in headers and range_holds(headers, etags, served.modified):
        asked = spans(headers["range"], served.size)
    return _content(served, asked, (*shown, ("accept-ranges", "bytes"), *HARMLESS), boundary)


def error(status: int, *more: tuple[str, str]) -> Answer:
    """Return an answer without a picture; nobody is to keep it."""
    text = f"{HTTPStatus(status).phrase}\n".encode()
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"), *HARMLESS, *more)
    return Answer(status, (*headers, ("content-length", str(len(text)))), (text,))


def _content(served: Served, asked: tuple[Span, ...] | None, headers: Headers, boundary: str) -> Answer:
    """Return all of a file, one range, several as a multipart, or that there is no such range (section 15.3.7)."""
    if asked is None:
        return _sized(HTTPStatus.OK, served.media_type, headers, (Span(0, served.size),))
    if not asked:
        return error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, ("content-range", f"bytes */{served.size}"))
    if len(asked) == 1:
        place = ("content-range", _place(asked[0], served.size))
        return _sized(HTTPStatus.PARTIAL_CONTENT, served.media_type, (*headers, place), asked)
    body: list[bytes | Span] = []
    for span in asked:
        head = (
            f"--{boundary}\r\nContent-Type: {served.media_type}\r\nContent-Range: {_place(span, served.size)}\r\n\r\n"
        )
        body += [head.encode(), span, b"\r\n"]
    body.append(f"--{boundary}--\r\n".encode())
    return _sized(HTTPStatus.PARTIAL_CONTENT, f"multipart/byteranges; boundary={boundary}", headers, tuple(body))


def _sized(status: HTTPStatus, media_type: str, headers: Headers, body: tuple[bytes | Span, ...]) -> Answer:
    sized = Answer(status, headers, body)
    return Answer(status, (("content-type", media_type), ("content-length", str(sized.length)), *headers), body)


def _place(span: Span, size: int) -> str:
    return f"bytes {span.start}-{span.end - 1}/{size}"
