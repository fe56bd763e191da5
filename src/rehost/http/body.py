"""The body of an answer: as it was before it was coded for its way, or read because nobody wants it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rehost.errors import Permanent, VisitError
from rehost.http.coding import check_transfer, decoder_for
from rehost.http.response import Response, Sink
from rehost.model import Reason

_DRAIN_BYTES = 64 * 1024  # an error page of this size is read, so that its connection can be used again
_DRAIN_SECONDS = 0.5


async def receive(answer: Response, sink: Sink) -> None:
    """Hand the decoded body to a sink, to its end.

    Raises:
        VisitError: MALFORMED, TRUNCATED, or the sink's.
        OperatorError: the sink's.
    """
    check_transfer(answer.headers.listed("Transfer-Encoding"))
    decoder = decoder_for(answer.headers.listed("Content-Encoding"))
    if decoder is None:
        await answer.receive(sink)
        return

    def feed(piece: bytes | memoryview) -> None:
        for decoded in decoder.feed(piece):
            sink(decoded)

    await answer.receive(feed)
    if answer.received:
        decoder.finish()


async def beginning(answer: Response, max_bytes: int) -> bytes:
    """Return the decoded body, or of a longer one its first `max_bytes`; raises as `receive` does."""
    body = bytearray()

    def keep(piece: bytes | memoryview) -> None:
        body.extend(piece)
        if len(body) >= max_bytes:
            raise Permanent(Reason.TOO_LARGE)

    try:
        await receive(answer, keep)
    except Permanent:
        if len(body) < max_bytes:
            raise
    return bytes(body[:max_bytes])


async def drain(answer: Response) -> None:
    """Read a body that nobody wants, if it is small; never for long."""
    if answer.length is not None and answer.length <= _DRAIN_BYTES:
        with suppress(TimeoutError, VisitError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await answer.receive(_nowhere)


def _nowhere(_piece: bytes | memoryview) -> None:
    """Take a piece, and that is all."""
