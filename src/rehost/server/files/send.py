"""An answer onto the wire: in bounded pieces, off the event loop where the disk makes wait."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from rehost.server.files.ranges import Span
from rehost.server.files.response import Answer

Message = MutableMapping[str, Any]  # ASGI's own shape
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

CHUNK_BYTES = 256 * 1024  # of a file in memory, for each request that is being answered

_NOWAIT = getattr(os, "RWF_NOWAIT", None)  # Linux: read what is in memory, never wait for the disk


async def send_head(reply: Answer, send: Send) -> None:
    """Send status and headers."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in reply.headers]
    await send({"type": "http.response.start", "status": int(reply.status), "headers": headers})


async def send_text(reply: Answer, send: Send, *, with_body: bool) -> None:
    """Send an answer that has nothing of a file in it, or only the headers of one that has."""
    await send_head(reply, send)
    text = b"".join(part for part in reply.body if isinstance(part, bytes)) if with_body else b""
    await send({"type": "http.response.body", "body": text})


async def send_path(reply: Answer, path: str, send: Send) -> None:
    """Send all of a file by the server's own means (the ASGI extension of that name)."""
    await send_head(reply, send)
    await send({"type": "http.response.pathsend", "path": path})


async def send_parts(reply: Answer, descriptor: int, send: Send) -> None:
    """Send text and parts of an open file, a chunk at a time: the next one is read when the last one is taken.

    Raises:
        OSError: the disk failed, or the file ended early; the answer is broken off.
    """
    await send_head(reply, send)
    for part in reply.body:
        if isinstance(part, bytes):
            await _send_piece(part, send)
            continue
        at = part.start
        while at < part.end:
            piece = await _read(descriptor, Span(at, min(at + CHUNK_BYTES, part.end)))
            await _send_piece(piece, send)
            at += len(piece)
    await send({"type": "http.response.body", "body": b""})


async def _send_piece(piece: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _read(descriptor: int, span: Span) -> bytes:
    """Return bytes of a span, at least one: at once what is in memory, otherwise by a thread."""
    piece = _in_memory(descriptor, span) or await asyncio.to_thread(os.pread, descriptor, len(span), span.start)
    if not piece:
        raise OSError(errno.EIO, "the file is shorter than it was")
    return piece


def _in_memory(descriptor: int, span: Span) -> bytes:
    """Return what of a span can be had without waiting; nothing where the system cannot tell (preadv2(2))."""
    if _NOWAIT is None:
        return b""
    buffer = bytearray(len(span))
    try:
        count = os.preadv(descriptor, [buffer], span.start, _NOWAIT)
    except OSError:  # EAGAIN: not in memory; EOPNOTSUPP: not with this file system
        return b""
    return bytes(memoryview(buffer)[:count])
