"""ASGI by hand: reading a scope, and sending a response in pieces of bounded size without blocking the event loop."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from rehost.server.files.response import MAX_KNOWN_RESPONSES, CopyResponse, Headers

Message = MutableMapping[str, Any]  # ASGI's own type
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 16 * 1024, 256 * 1024  # of a file in memory; small chunks cost time
ALL_CHUNKS_BYTES = 1024**2  # of all responses, one chunk of each; granian keeps up to five more
WHOLE_BYTES = 128 * 1024  # of a file that is sent at once: as much as granian keeps of one that it sends by itself

_NOWAIT = getattr(os, "RWF_NOWAIT", None)  # Linux: read only what is in the page cache, never wait for the disk


def path_within(scope: Message) -> str:
    """Return the request's path without the prefix at which the application is mounted (ASGI 3, `root_path`)."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    return path[len(prefix) :] if path.startswith(f"{prefix}/") else path


def headers_of(scope: Message) -> Mapping[str, str]:
    """Return the request headers; repeated ones are joined into one list (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def decline(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse a WebSocket; answer lifespan events, for which there is nothing to do."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    elif scope["type"] == "lifespan":
        await serve_lifespan(receive, send)


async def serve_lifespan(receive: Receive, send: Send, close: Callable[[], Awaitable[None]] | None = None) -> None:
    """Answer the events of the lifespan protocol, and await `close` before shutdown is complete."""
    while True:
        message = await receive()
        is_last = message["type"] == "lifespan.shutdown"
        if is_last and close is not None:
            await close()
        await send({"type": f"{message['type']}.complete"})
        if is_last:
            return


async def send_head(response: CopyResponse, send: Send) -> None:
    """Send status and headers."""
    await send(
        {"type": "http.response.start", "status": int(response.status), "headers": [*_encoded(response.headers)]}
    )


@lru_cache(MAX_KNOWN_RESPONSES)
def _encoded(headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.encode("ascii"), value.encode("latin-1")) for name, value in headers)


async def send_text(response: CopyResponse, send: Send, *, with_body: bool) -> None:
    """Send a response that has no bytes of a file in its body, or only the headers of one that has."""
    text = b"".join(part for part in response.body if isinstance(part, bytes)) if with_body else b""
    await send_whole(response, text, send)


async def send_whole(response: CopyResponse, content: bytes, send: Send) -> None:
    """Send a response whose whole body is there."""
    await send_head(response, send)
    await send({"type": "http.response.body", "body": content})


async def send_path(response: CopyResponse, path: str, send: Send) -> None:
    """Have the server send the whole file by itself (ASGI extension `http.response.pathsend`)."""
    await send_head(response, send)
    await send({"type": "http.response.pathsend", "path": path})


def chunk_bytes(responses: int) -> int:
    """Return the size of the chunks in which a file is sent while there are so many responses."""
    return max(MIN_CHUNK_BYTES, min(ALL_CHUNKS_BYTES // responses, MAX_CHUNK_BYTES))


async def send_parts(
    response: CopyResponse, first: bytes, chunks: AsyncIterator[bytes], receive: Receive, send: Send
) -> None:
    """Send text and parts of a copy, each piece as soon as the server takes it, until the client is gone.

    Args:
        response: what to send.
        first: the first piece of the copy.
        chunks: the other pieces, none of which crosses a border between two parts.
        receive: of the server.
        send: of the server.

    Raises:
        OSError: the store failed; the response breaks off.
    """
    if len(first) == response.length:
        await send_whole(response, first, send)
        return
    await send_head(response, send)
    is_gone = asyncio.create_task(_disconnected(receive))
    try:
        chunk = first
        for part in response.body:
            if isinstance(part, bytes):
                await _send_chunk(part, send)
                continue
            left = len(part)
            while left:
                if is_gone.done():
                    return
                chunk = chunk or await anext(chunks)
                await _send_chunk(chunk, send)
                left -= len(chunk)
                chunk = b""
        await send({"type": "http.response.body", "body": b""})
    finally:
        is_gone.cancel()


async def _disconnected(receive: Receive) -> None:
    """Return once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_chunk(chunk: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def read_file(descriptor: int, span: range) -> bytes:
    """Return at least one byte of a span: directly from the page cache if possible, otherwise through a thread.

    Raises:
        OSError: the disk failed, or the file is shorter than it was.
    """
    chunk = read_cached(descriptor, span) or await asyncio.to_thread(os.pread, descriptor, len(span), span.start)
    if not chunk:
        raise OSError(errno.EIO, "the file is shorter than it was")
    return chunk


def read_cached(descriptor: int, span: range) -> bytes:
    """Return the bytes that can be read without waiting; none where the system cannot say (preadv2(2))."""
    if _NOWAIT is None:
        return b""
    buffer = bytearray(len(span))
    try:
        count = os.preadv(descriptor, [buffer], span.start, _NOWAIT)
    except OSError:  # EAGAIN: not in the page cache; EOPNOTSUPP: the file system does not support it
        return b""
    return bytes(memoryview(buffer)[:count])
