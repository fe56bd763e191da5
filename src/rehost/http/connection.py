"""One connection: a request goes out and its response comes in, then the next one, while both sides keep it open.

A body that is not chunked goes from the connection's buffer straight to its sink, and no task is woken for a piece.
A response moves through these states:

    HEAD ──┬──> CHUNKED ──────┐
           ├──> COUNTED ──────┼──> COMPLETE             the connection can be reused if the framing allows it
           ├──> UNTIL_CLOSE ──┤
           └──────────────────┴──> FAILED, ABANDONED    the connection is closed
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Self, cast

from rehost.http.errors import ConnectionClosed, HttpError, IncompleteBody, ProtocolError, printable
from rehost.http.framing import ChunkReader, Head, HeadReader
from rehost.http.headers import Headers

Sink = Callable[[bytes | memoryview], None]
"""Takes a piece of a body and keeps no reference: the memory is used again. It may raise HttpError or OSError."""

BUFFER_BYTES = 256 * 1024
_HEAD_BYTES = 16 * 1024  # read at first: body bytes that arrive before a sink is known are copied
_MAX_EARLY_BYTES = 4 * _HEAD_BYTES  # of those; one read has them, and then the connection is paused
# Heads, sizes and extensions of chunks, trailers: so much may arrive without one byte of body, and in total so much
# more than half of the body. Chunks of 16 bytes come with 6 around each; those of one byte, with 5.
_MAX_OVERHEAD_BYTES = 64 * 1024
_TINY_CHUNKS_BYTES = 2 * 1024 * 1024  # of a body that may come in chunks of ten bytes; the rest, in larger ones


class State(IntEnum):
    """What a response waits for; from COMPLETE on, for nothing more."""

    HEAD = 0  # the status line and fields of the final response (interim ones, RFC 9110, section 15.2, are skipped)
    CHUNKED = 1  # a body in chunks
    COUNTED = 2  # a body of `length` bytes
    UNTIL_CLOSE = 3  # a body that ends with the connection (RFC 9112, section 6.3)
    COMPLETE = 4
    FAILED = 5  # it broke off, broke a rule, or its sink raised an error
    ABANDONED = 6  # its reader closed it before the end


class Connection(asyncio.BufferedProtocol):
    """An asyncio protocol for one exchange after the other.

    Attributes:
        is_usable: whether another request can be sent on it.
        has_received: whether any byte has arrived since the last request.
    """

    def __init__(self, buffer: memoryview) -> None:
        """Take memory to read into. Each read is used up before the next one, so all connections can share it."""
        self.is_usable = False
        self.has_received = False
        self._buffer = buffer
        self._room = buffer[:_HEAD_BYTES]
        self._transport: asyncio.Transport  # set by connection_made
        self._response: Response | None = None
        self._is_paused = False
        self._arrived = select.poll()

    def send(
        self, request: bytes, on_close: Callable[[], None] = lambda: None, *, is_connect: bool = False
    ) -> Response:
        """Send a request (`headers.encode_request`) and return its response, of which nothing has arrived yet.

        `on_close` is called when the response is closed; `is_connect` says whether the method is CONNECT.
        """
        self.has_received = False
        self._room = self._buffer[:_HEAD_BYTES]
        response = self._response = Response(self, on_close, is_connect=is_connect)
        self._transport.write(request)
        return response

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS within the connection.

        Raises:
            OSError: the handshake failed.
        """
        loop = asyncio.get_running_loop()
        inner = await loop.start_tls(self._transport, self, context, server_hostname=host)
        self._transport = cast("asyncio.Transport", inner)

    @property
    def cipher(self) -> str:
        """The cipher suite of its TLS; "none" without TLS."""
        return str((self._transport.get_extra_info("cipher") or ("none",))[0])

    def is_quiet(self) -> bool:
        """Return whether nothing waits on the socket, read or not: between exchanges nothing may arrive.

        What did arrive was made to be taken for the next response (response splitting), or is the end of the stream.
        """
        return not self._arrived.poll(0)

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_usable = False
        self._transport.abort()

    # The response calls these.

    def pause(self) -> None:
        """Stop reading from the socket."""
        if self.is_usable and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read from the socket again, in large pieces."""
        self._room = self._buffer
        if self.is_usable and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def finish(self, *, is_reusable: bool) -> None:
        """End the exchange; without reuse, close the connection."""
        self._response = None
        if is_reusable:
            self.resume()  # to notice when the server closes it
        else:
            self.abort()

    # The event loop calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._arrived.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.is_usable = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's guess
        """Return the memory to read into."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read; bytes that answer no request close the connection."""
        self.has_received = True
        if self._response is not None:
            self._response.feed(self._buffer[:nbytes])
        else:
            self.abort()

    def eof_received(self) -> None:
        """Treat the end of the stream as the end of the connection; the transport closes itself."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange, if there is one."""
        self.is_usable = False
        if self._response is not None:
            self._response.disconnect(exc)


class Response:
    """The response to one request; an async context manager that closes it.

    Attributes:
        status: of the final response.
        headers: of the final response.
        length: the announced bytes of the body, or None.
        received: bytes of the body so far, before content codings are undone.
        is_exact: whether it was framed as RFC 9112 says, as far as it has been read.
    """

    def __init__(self, connection: Connection, on_close: Callable[[], None], *, is_connect: bool = False) -> None:
        """Wait for a response on a connection; arguments as in `Connection.send`.

        A 2xx to CONNECT ends at its head, whatever fields it has: there the tunnel begins (RFC 9110, section 9.3.6).
        """
        self.status = 0
        self.headers = Headers()
        self.length: int | None = None
        self.received = 0
        self.is_exact = True
        self._connection = connection
        self._on_close = on_close
        self._is_connect = is_connect
        self._state = State.HEAD
        self._head = HeadReader()
        self._chunks: ChunkReader | None = None  # while the body is chunked
        self._keeps_alive = False
        self._error: BaseException | None = None
        self._overhead = 0  # bytes so far that are not body
        self._silence = 0  # bytes of the last reads, none of which had body in it
        self._early: list[bytes] = []  # body bytes that arrived before the sink was known: those of a read or two
        self._sink: Sink | None = None
        self._changed: asyncio.Future[None] | None = None  # while a task waits for the head or the end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    async def read_head(self) -> None:
        """Return as soon as status and headers are known.

        Raises:
            ConnectionClosed: the connection ended first.
            ProtocolError: the head is not HTTP/1.x.
        """
        while self._state is State.HEAD:
            await self._change()
        if self.status == 0 and self._error is not None:
            raise self._error

    async def read_body(self, sink: Sink) -> None:
        """Pass the body to a sink, to its end, as it was framed and coded; call it once, after `read_head`.

        Raises:
            ProtocolError: the framing is broken.
            IncompleteBody: the connection ended before the body did.
            HttpError, OSError: from the sink.
        """
        for piece in self._early:
            sink(piece)
        self._early.clear()
        self._sink = sink
        if self._state < State.COMPLETE:
            self._connection.resume()
        while self._state < State.COMPLETE:
            await self._change()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Read nothing more. The connection is closed too, unless the response is complete."""
        self._end(State.ABANDONED)
        self._on_close()

    # The connection calls these.

    def feed(self, data: memoryview) -> None:
        """Take received bytes; they are used up on return."""
        try:
            if self._state is State.HEAD:
                self._read_head(bytes(data))
            else:
                self._read_body(data)
        except ProtocolError as error:
            self._fail(error)

    def disconnect(self, error: BaseException | None) -> None:
        """Take note that the connection was closed (None) or broke, so nothing more will arrive."""
        if error is not None and not isinstance(error, OSError):
            self._fail(error)  # a bug in the sink, which the event loop passes back
        elif self._state is State.HEAD:
            self._fail(ConnectionClosed(printable(error) if error else "closed without an answer"))
        elif error is None and self._state is State.UNTIL_CLOSE:
            self._end(State.COMPLETE)
        else:
            self._fail(IncompleteBody(f"cut off after {self.received} bytes"))

    def _read_head(self, data: bytes) -> None:
        """Take bytes of heads, those of interim responses first (RFC 9110, section 15.2), and what follows them."""
        self._overhead += len(data)
        while (found := self._head.feed(data)) is not None:
            head, data = found
            if not head.is_interim:
                self._overhead -= len(data)
                self._start_body(head, memoryview(data))
                return
        if self._overhead > _MAX_OVERHEAD_BYTES:
            raise ProtocolError("a head that does not end")

    def _start_body(self, head: Head, data: memoryview) -> None:
        """Take the final head, and the bytes that came with it."""
        self.status, self.headers, self.length = head.status, head.headers, head.length
        self.is_exact, self._keeps_alive = head.is_regular, head.keeps_alive
        if self._is_connect and head.status // 100 == 2:  # noqa: PLR2004 - the class of the status
            self.length, self._keeps_alive = 0, True
            if data:
                raise ProtocolError("bytes before the tunnel is used")
        if head.is_chunked and self.length is None:
            self._state, self._chunks = State.CHUNKED, ChunkReader()
        else:
            self._state = State.UNTIL_CLOSE if self.length is None else State.COUNTED
        self._read_body(data)
        if self._state < State.COMPLETE:
            self._connection.pause()  # until the reader names a sink
            self._wake()

    def _read_body(self, data: memoryview) -> None:
        if self._state is State.CHUNKED:
            self._read_chunks(data)
        elif self._state is State.COUNTED:
            assert self.length is not None
            missing = self.length - self.received
            if len(data) > missing and bytes(data[missing:]).strip(b"\r\n"):
                self.is_exact = False
            self._deliver(data[:missing])
            if self.received == self.length:
                self._end(State.COMPLETE)
        elif data:
            self._deliver(data)

    def _read_chunks(self, data: memoryview) -> None:
        """Take a piece of a chunked body; the chunks in it reach the sink together."""
        chunks = self._chunks
        assert chunks is not None
        pieces = chunks.feed(data)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if body:
            self._deliver(body)
        self.is_exact = self.is_exact and chunks.is_regular
        self._overhead += len(data) - len(body)
        self._silence = 0 if body else self._silence + len(data)
        if chunks.error is not None:
            raise chunks.error
        if chunks.is_complete:
            self._end(State.COMPLETE)
        elif self._silence > _MAX_OVERHEAD_BYTES or self._overhead > self._most_overhead():
            raise ProtocolError("what is around a body does not end")

    def _most_overhead(self) -> int:
        """Return how many bytes may surround what was received; tiny chunks cost time, and are for small bodies."""
        return _MAX_OVERHEAD_BYTES + min(self.received, _TINY_CHUNKS_BYTES) // 2 + self.received // 16

    def _deliver(self, data: bytes | memoryview) -> None:
        if self._state >= State.COMPLETE or not data:  # the sink has refused an earlier piece
            return
        self.received += len(data)
        if self._sink is None:
            self._early.append(bytes(data))
            if self.received > _MAX_EARLY_BYTES:
                self._fail(ProtocolError("a body that comes too early"))
            return
        try:
            self._sink(data)
        except (HttpError, OSError) as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._end(State.FAILED, error)

    def _end(self, state: State, error: BaseException | None = None) -> None:
        """Enter a final state, once, and free the connection or close it."""
        if self._state >= State.COMPLETE:
            return
        self._state, self._error = state, error
        self._connection.finish(is_reusable=self._keeps_alive and self.is_exact and state is State.COMPLETE)
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


IDLE_SECONDS = 15.0
"""An idle connection is closed after 15 to 30 s; servers close theirs after 5 s to a minute or so."""


class _Idle(NamedTuple):
    origin: str
    connection: Connection
    sweep: int  # the number of sweeps before it was kept


class IdleConnections:
    """Connections that are kept open for the next request to the same origin, each for one or two periods."""

    def __init__(self, seconds: float = IDLE_SECONDS) -> None:
        self._seconds = seconds
        self._kept: list[_Idle] = []  # the last used one at the end
        self._sweeps = 0
        self._next_sweep: asyncio.TimerHandle | None = None

    def take(self, origin: str) -> Connection | None:
        """Return the last used connection to an origin, and keep it no longer; None if there is none.

        One on which something has arrived meanwhile is closed.
        """
        for kept in reversed(self._kept):  # from its end: what is removed on the way moves nothing that is to come
            if kept.origin == origin and kept.connection.is_usable:
                self._kept.remove(kept)
                if kept.connection.is_quiet():
                    return kept.connection
                kept.connection.abort()
        return None

    def keep(self, origin: str, connection: Connection) -> None:
        """Keep a connection if it is usable."""
        if connection.is_usable:
            self._kept.append(_Idle(origin, connection, self._sweeps))
            self._schedule_sweep()

    def shrink(self, at_most: int) -> None:
        """Close the connections that were used longest ago until at most so many are kept."""
        while len(self._kept) > at_most:
            self._kept.pop(0).connection.abort()

    def close(self) -> None:
        """Close all connections."""
        self.shrink(0)
        if self._next_sweep is not None:
            self._next_sweep.cancel()

    def _schedule_sweep(self) -> None:
        if self._next_sweep is None and self._kept:
            self._next_sweep = asyncio.get_running_loop().call_later(self._seconds, self._sweep)

    def _sweep(self) -> None:
        self._next_sweep = None
        self.shrink(sum(kept.sweep == self._sweeps for kept in self._kept))  # the newest ones, at the list's end
        self._sweeps += 1
        self._schedule_sweep()
