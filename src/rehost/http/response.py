"""One answer of HTTP/1.1 as it arrives: its head, then its body, piece by piece, to where it is due.

httptools (llhttp) reads heads and chunks. What follows a head without chunks is body, and goes from the connection's
buffer straight to who receives it; nobody is woken for a piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, Self

import httptools

from rehost.errors import OperatorError, Permanent, Transient, VisitError
from rehost.http.coding import is_coded
from rehost.http.headers import Fields
from rehost.model import Reason

Sink = Callable[[bytes | memoryview], None]
"""Takes a piece of a body and keeps none of it: its memory is used again. May raise VisitError and OperatorError."""

_OVERHEAD_BYTES = 64 * 1024  # may arrive without one byte of a body among them: heads, sizes of chunks, trailers
_FIELDS = 128
_SWITCHING_PROTOCOLS, _FIRST_FINAL = 101, 200


class Stream(Protocol):
    """The connection that an answer comes from, as far as the answer steers it."""

    def pause(self) -> None:
        """Read nothing more for now."""
        ...

    def resume(self) -> None:
        """Read on, and much at a time."""
        ...

    def finish(self, *, is_reusable: bool) -> None:
        """Take it that the answer is over: what comes now is no part of it."""
        ...


class Response:
    """What an origin says to one request; an async context manager, at whose end nothing more is received.

    Attributes:
        status: of the final answer, not of interim ones (RFC 9110, section 15.2).
        headers: the fields of its head.
        length: bytes that its body is announced to have, or None.
        received: bytes of its body so far, as they came.
    """

    def __init__(self, stream: Stream, closed: Callable[[], None], *, is_to_connect: bool = False) -> None:
        """Wait for it.

        Args:
            stream: the connection.
            closed: is told that the answer was closed.
            is_to_connect: whether it answers CONNECT: if well, it ends at its head, whatever that says of a body, and
                what follows on the connection is another matter (RFC 9110, section 9.3.6).
        """
        self.status = 0
        self.headers = Fields()
        self.length: int | None = None
        self.received = 0
        self._stream = stream
        self._closed = closed
        self._is_to_connect = is_to_connect
        self._parser: httptools.HttpResponseParser | None = _parser(self)
        self._has_head = False
        self._is_whole = False
        self._is_reusable = False
        self._is_over = False
        self._fault: BaseException | None = None
        self._overhead = 0
        self._held: list[bytes] = []  # of the body, before anybody wants it
        self._sink: Sink | None = None
        self._changed: asyncio.Future[None] | None = None  # while somebody waits for the head, or for the end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    async def head(self) -> None:
        """Return as soon as status and fields are known.

        Raises:
            VisitError: MALFORMED, UNREACHABLE.
        """
        while not self._has_head:
            if self._fault is not None:
                raise self._fault
            await self._change()

    async def receive(self, sink: Sink) -> None:
        """Hand the body to a sink, to its end; to be called once, after `head`.

        Raises:
            VisitError: MALFORMED, TRUNCATED, or the sink's.
            OperatorError: the sink's.
        """
        for piece in self._held:
            sink(piece)
        self._held.clear()
        self._sink = sink
        if not self._is_over:
            self._stream.resume()
        while not self._is_over:
            await self._change()
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """Receive nothing more. The connection goes down with an answer that is not over."""
        self._is_reusable = False
        self._end()
        self._closed()

    def feed(self, data: memoryview) -> None:
        """Take what has arrived; it is used up on return."""
        received = self.received
        if self._parser is not None:
            self._parse(self._parser, data)
        elif self.length is None:
            self._give(data)
        else:
            self._give_counted(data, self.length - received)
        self._overhead = 0 if self.received > received else self._overhead + len(data)
        if self._overhead > _OVERHEAD_BYTES or len(self.headers) > _FIELDS:
            self._end(Permanent(Reason.MALFORMED, "a header, or what is around a body, that does not end"))

    def cut(self, error: BaseException | None) -> None:
        """Take it that nothing more will arrive: the connection was closed (None) or broke."""
        if error is not None and not isinstance(error, OSError):
            self._end(error)  # our own, out of what took the bytes
        elif not self._has_head:
            self._end(Transient(Reason.UNREACHABLE, first_line(error) if error else "closed without an answer"))
        elif error is None and self._parser is None and self.length is None:
            self._end()  # RFC 9112, section 6.3: the end of the connection is the body's
        else:
            self._end(Transient(Reason.TRUNCATED, f"cut off after {self.received} bytes"))

    # What the parser calls while it is fed.

    def on_message_begin(self) -> None:
        """Begin an interim answer or the final one; nothing may follow that."""
        self._check_no_more()
        self.headers = Fields()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one behind the body (a trailer) says nothing to us."""
        if not self._has_head:
            self.headers.add(name, value)

    def on_headers_complete(self) -> None:
        """Take the head, if it is the final answer's."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL and status != _SWITCHING_PROTOCOLS:
            return
        self.status = status
        self._has_head = True
        self._is_whole = self._is_to_connect and status // 100 == 2  # noqa: PLR2004 - the class of the status
        self._is_reusable = self._is_whole or (status != _SWITCHING_PROTOCOLS and self._parser.should_keep_alive())
        length = self.headers.get("Content-Length")
        self.length = int(length) if length is not None else None

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._check_no_more()
        self._give(data)

    def on_message_complete(self) -> None:
        """Take it that the answer is whole, if it is the final one."""
        self._is_whole = self._has_head

    def _check_no_more(self) -> None:
        if self._is_whole:
            raise Permanent(Reason.MALFORMED, "more bytes than announced")

    def _parse(self, parser: httptools.HttpResponseParser, data: memoryview) -> None:
        had_head = self._has_head
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, VisitError):
                raise
            self._end(error.__context__)
        except httptools.HttpParserError as error:
            if self.status != _SWITCHING_PROTOCOLS:
                self._end(Permanent(Reason.MALFORMED, first_line(error)))
        if self._is_whole:
            self._end()
        elif self._has_head and not had_head:
            if not is_coded(self.headers.listed("Transfer-Encoding")):
                self._parser = None  # what is to come is body, all of it
            self._stream.pause()  # until somebody says where it is to go
            self._wake()

    def _give_counted(self, data: memoryview, missing: int) -> None:
        if len(data) > missing and bytes(data[missing:]).strip(b"\r\n"):
            self._end(Permanent(Reason.MALFORMED, "more bytes than announced"))
            return
        self._give(data[:missing])
        if self.received == self.length:
            self._end()

    def _give(self, data: bytes | memoryview) -> None:
        if self._is_over:  # the sink wants no more
            return
        self.received += len(data)
        if self._sink is None:
            self._held.append(bytes(data))
            return
        try:
            self._sink(data)
        except (VisitError, OperatorError) as error:
            self._end(error)

    def _end(self, fault: BaseException | None = None) -> None:
        """Be over, once; with a fault, the connection is over too."""
        if self._is_over:
            return
        self._is_over = True
        self._fault = fault
        self._parser = None  # and with it the circle of it and us
        self._stream.finish(is_reusable=self._is_reusable and fault is None)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _change(self) -> None:
        self._changed = asyncio.get_running_loop().create_future()
        try:
            await self._changed
        finally:
            self._changed = None


def _parser(answer: Response) -> httptools.HttpResponseParser:
    """Return a parser that bears with what browsers bear with in a head: bare LF, stray bytes in values."""
    parser = httptools.HttpResponseParser(answer)
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser


def first_line(text: object) -> str:
    """Return plain text fit for evidence: one line, ASCII, short."""
    lines = str(text).splitlines() or [""]
    return ascii(lines[0][:120])[1:-1]
