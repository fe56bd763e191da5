"""One connection: a request goes out, its answer comes in, and so on while the origin keeps it open."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from rehost.http.response import Response

BUFFER_BYTES = 256 * 1024
_HEAD_BYTES = 16 * 1024  # read at first: what comes of a body before somebody wants it is copied


class Connection(asyncio.BufferedProtocol):
    """A protocol of asyncio for one exchange after the other; implements response.Stream.

    Attributes:
        is_usable: whether another request may go out on it.
        has_spoken: whether anything has come of the answer to the last one.
    """

    def __init__(self, buffer: memoryview) -> None:
        """Take memory to read into. What is read is used up before the next is, so that all connections share it."""
        self.is_usable = False
        self.has_spoken = False
        self._buffer = buffer
        self._room = buffer[:_HEAD_BYTES]
        self._transport: asyncio.Transport  # once there is a connection
        self._answer: Response | None = None
        self._is_paused = False

    def ask(
        self, request: bytes, closed: Callable[[], None] = lambda: None, *, is_to_connect: bool = False
    ) -> Response:
        """Send a request; return its answer, of which nothing is known yet.

        Args:
            request: as it is to be sent.
            closed: is told when the answer has been closed.
            is_to_connect: whether it is a CONNECT.
        """
        self.has_spoken = False
        self._room = self._buffer[:_HEAD_BYTES]
        answer = self._answer = Response(self, closed, is_to_connect=is_to_connect)
        self._transport.write(request)
        return answer

    async def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """Begin TLS within it.

        Raises:
            OSError: the handshake failed.
        """
        loop = asyncio.get_running_loop()
        inner = await loop.start_tls(self._transport, self, tls, server_hostname=host)
        self._transport = cast("asyncio.Transport", inner)

    def hang_up(self) -> None:
        """Close it at once."""
        self.is_usable = False
        self._transport.abort()

    # What the answer calls.

    def pause(self) -> None:
        """Read nothing more for now."""
        if self.is_usable and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, and much at a time."""
        self._room = self._buffer
        if self.is_usable and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def finish(self, *, is_reusable: bool) -> None:
        """Take it that the answer is over."""
        self._answer = None
        if is_reusable:
            self.resume()  # to know when the origin closes it
        else:
            self.hang_up()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_usable = True

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the event loop's guess
        """Return where to read to."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read; nobody speaks unasked, and who does is not asked again."""
        self.has_spoken = True
        if self._answer is not None:
            self._answer.feed(self._buffer[:nbytes])
        else:
            self.hang_up()

    def eof_received(self) -> None:
        """Take it that the origin says no more; the transport closes itself."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.is_usable = False
        if self._answer is not None:
            self._answer.cut(exc)
