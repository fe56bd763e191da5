"""Heads and chunks of HTTP/1 responses (RFC 9112), read as leniently as browsers read them. Pure, no I/O.

What leaves one reading of where the body ends is read, whatever is wrong with it, but its connection carries no second
response (`is_regular`). What leaves two readings is a ProtocolError. docs/reference/answers.md lists both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from rehost.http.errors import ProtocolError
from rehost.http.headers import Headers, names_of

MAX_FIELDS = 1000  # a head of 64 kB holds no more that say something
_SWITCHING_PROTOCOLS, _FIRST_FINAL, _LAST = 101, 200, 599  # RFC 9110, section 15
_WITHOUT_BODY = frozenset({_SWITCHING_PROTOCOLS, 204, 304})  # RFC 9112, section 6.3
_MAX_DIGITS = 18  # of a length; more are no length of a file

_START = b"HTTP/"
_NO_STATUS_LINE = "no status line of HTTP"
_HEAD_END = re.compile(rb"\n\r?\n")
_STATUS_LINE = re.compile(rb"HTTP/(\d)\.(\d)[ \t]+(\d{3})(?!\d)", re.IGNORECASE)
_TOKEN, _REST = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", rb"[^\r\n\0]*"  # RFC 9110, section 5.6.2; of a line
_REGULAR_STATUS_LINE = re.compile(rb"HTTP/1\.[01] \d{3}(?: .*)?")
_REGULAR_NAME = re.compile(_TOKEN)
_FIELD = re.compile(rb"(%b):(%b)\r\n" % (_TOKEN, _REST))
_FIELD_EXTRA = len(b":\r\n")
_SMALL_BYTES = 512  # a copy of fewer takes no more memory than a view of them
_LINE_END = re.compile(rb"\n")
_NEXT_CHUNK = re.compile(rb"\r\n(?:([1-9A-Fa-f][0-9A-Fa-f]{0,7})\r\n|0\r\n\r\n)")  # as most are; or the end
_SIZE = re.compile(rb"[ \t]*0*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r*", re.DOTALL)


class Head:
    """The head of a response.

    Attributes:
        status: from 100 to 599.
        headers: its fields.
        length: of the body in bytes; None if the body is chunked, or goes on until the connection is closed.
        is_chunked: whether the body is chunked.
        is_regular: whether it is framed as RFC 9112 says; if not, no other response must be read after this one.
        keeps_alive: whether the connection can be used for another request.
    """

    def __init__(self, raw: bytes) -> None:
        """Read a head, with or without the blank line at its end.

        Raises:
            ProtocolError: it is none, or leaves open where the body ends.
        """
        first, _, fields = raw.partition(b"\n")
        found = _STATUS_LINE.match(first)
        if found is None or b"\0" in raw:
            raise ProtocolError("a head with a NUL" if found else _NO_STATUS_LINE)
        self.status = int(found[3])
        if not 100 <= self.status <= _LAST:  # noqa: PLR2004 - the first status, RFC 9110, section 15
            raise ProtocolError(f"status {self.status}")
        self.is_regular = _REGULAR_STATUS_LINE.fullmatch(first.removesuffix(b"\r")) is not None
        self.headers = Headers()
        regular = _FIELD.findall(fields + b"\n")  # most heads need no more
        if sum(map(len, chain.from_iterable(regular))) + _FIELD_EXTRA * len(regular) == len(fields) + 1:
            for name, value in regular:
                self.headers.add(name, value)
        else:
            self._read_fields(fields.split(b"\n"))
        if len(self.headers) > MAX_FIELDS:
            raise ProtocolError("too many fields in a head")
        self.is_chunked = False
        self.length: int | None = None
        self._read_framing()
        connection = names_of(self.headers.joined("Connection"))
        is_persistent = "close" not in connection and (found[2] != b"0" or "keep-alive" in connection)
        has_end = self.is_chunked or self.length is not None
        self.keeps_alive = is_persistent and has_end and self.is_regular and self.status != _SWITCHING_PROTOCOLS

    @property
    def is_interim(self) -> bool:
        """Whether another response to the same request follows."""
        return self.status < _FIRST_FINAL and self.status != _SWITCHING_PROTOCOLS

    def _read_fields(self, lines: Sequence[bytes]) -> None:
        """Read the fields; a line without a name is ignored, as browsers do."""
        name = value = b""
        for line in lines:
            text = line.rstrip(b"\r")
            if text[:1] in {b" ", b"\t"} and name:  # a folded line, RFC 9112, section 5.2
                value += b" " + text.strip(b" \t")
                continue
            self._add(name, value)
            name, colon, value = text.partition(b":")
            if text and not (colon and _REGULAR_NAME.fullmatch(name)):
                self.is_regular = False
            name = name.strip(b" \t") if colon else b""
        self._add(name, value)

    def _add(self, name: bytes, value: bytes) -> None:
        if name:
            self.headers.add(name, value)

    def _read_framing(self) -> None:
        """Find out where the body ends (RFC 9112, section 6.3)."""
        codings = names_of(self.headers.joined("Transfer-Encoding"))
        lengths = self.headers.all("Content-Length")
        if self.status in _WITHOUT_BODY or self.is_interim:
            self.length = 0
        elif "chunked" in codings:
            self.is_chunked = True
            self.is_regular = self.is_regular and codings == ["chunked"] and not lengths
        elif lengths:
            self.length = _length(lengths)
            self.is_regular = self.is_regular and not codings and len(lengths) == 1 and lengths[0].isdigit()
        else:
            self.is_regular = self.is_regular and not codings


def _length(values: Sequence[str]) -> int | None:
    """Return the length that Content-Length announces; None if no value of it is a number.

    Raises:
        ProtocolError: there are two, so a proxy may have read another one.
    """
    if len(values) == 1 and len(values[0]) <= _MAX_DIGITS and values[0].isascii() and values[0].isdigit():
        return int(values[0])
    parts = {part.strip() for value in values for part in value.split(",")}
    numbers = {part.lstrip("0") or "0" for part in parts if part.isascii() and part.isdigit()}
    if not numbers:
        return None
    if len(numbers) > 1 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ProtocolError(f"two values of Content-Length: {', '.join(sorted(parts))[:100]!a}")
    number = numbers.pop()
    if len(number) > _MAX_DIGITS:
        raise ProtocolError(f"a Content-Length of {len(number)} digits")
    return int(number)


class HeadReader:
    """Collects the bytes of a head, up to the blank line after it."""

    def __init__(self) -> None:
        self._raw = bytearray()

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """Take bytes; return the head and the bytes after it as soon as it is complete.

        Raises:
            ProtocolError: as `Head`.
        """
        raw = self._raw
        start = max(0, len(raw) - 2)
        raw += data
        if start == 0 and raw.startswith((b"\r", b"\n")):  # browsers skip blank lines (RFC 9112, section 2.2)
            raw[:] = raw.lstrip(b"\r\n")
        if raw[: len(_START)].upper() != _START[: len(raw)]:
            raise ProtocolError(_NO_STATUS_LINE)
        end = _HEAD_END.search(raw, start)
        if end is None:
            return None
        rest = bytes(raw[end.end() :])
        head = Head(bytes(raw[: end.start()]))
        raw.clear()
        return head, rest


class ChunkReader:
    """Reads a chunked body (RFC 9112, section 7.1).

    Attributes:
        is_complete: whether its last chunk and the trailer section have arrived.
        is_regular: whether it was written as the RFC says.
        error: a ProtocolError once something came that is no chunk; the pieces before it count.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.is_regular = True
        self.error: ProtocolError | None = None
        self._line = bytearray()  # the beginning of a line
        self._left = 0  # bytes of the chunk in hand
        self._read_line = self._read_size

    def feed(self, data: memoryview) -> list[bytes | memoryview]:
        """Return the pieces of the body in these bytes; bytes after its end are ignored."""
        pieces, at, size = list[bytes | memoryview](), 0, len(data)
        while at < size and self.error is None:
            if self.is_complete:
                self.is_regular = False
                break
            if not self._left:
                at = self._take_line(data, at)
                continue
            piece = data[at : at + self._left]
            pieces.append(piece if len(piece) > _SMALL_BYTES else bytes(piece))
            self._left -= len(piece)
            at += len(piece)
            if not self._left and (following := _NEXT_CHUNK.match(data, at)):
                self._left, at = int(following[1] or b"0", 16), following.end()
                self.is_complete = not self._left
        return pieces

    def _take_line(self, data: memoryview, at: int) -> int:
        """Take the bytes from `at` to the end of the line, if it is there; return where the next one begins."""
        found = _LINE_END.search(data, at)
        self._line += data[at : found.start() if found else None]
        if found is None:
            return len(data)
        line = bytes(self._line)
        self._line.clear()
        self.is_regular = self.is_regular and line.endswith(b"\r")
        self._read_line(line)
        return found.end()

    def _read_size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line)
        if found is None:
            self.error = ProtocolError(f"no chunk size: {line[:20]!a}")
            return
        self._left = int(found[1], 16)
        self._read_line = self._read_end if self._left else self._read_trailer

    def _read_end(self, line: bytes) -> None:
        if line.rstrip(b"\r"):
            self.error = ProtocolError("a chunk that is longer than announced")
        self._read_line = self._read_size

    def _read_trailer(self, line: bytes) -> None:
        self.is_complete = not line.rstrip(b"\r")
