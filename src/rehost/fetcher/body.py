"""The body of an answer that nobody wants, read so that its connection can be used again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rehost.errors import VisitError
from rehost.fetcher.response import Response

_DRAIN_BYTES = 64 * 1024  # an error page of this size is read
_DRAIN_SECONDS = 0.5


async def drain(answer: Response) -> None:
    """Read a body that nobody wants, if it is small; never for long."""
    if answer.length is not None and answer.length <= _DRAIN_BYTES:
        with suppress(TimeoutError, VisitError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await answer.receive(_nowhere)


def _nowhere(_piece: bytes | memoryview) -> None:
    """Take a piece, and that is all."""
