"""Thumbnails of the copies for the gallery, where a page of originals would be many megabytes.

Decoder processes make them on first request, and they are kept in memory within a bound; browsers keep them for ever if
the URL carries the digest. A copy that is small already, or of which no thumbnail can be made, is served as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
from http import HTTPStatus

from cachetools import LRUCache

from rehost.errors import OperatorError
from rehost.images.verifier import Thumbnailer
from rehost.server.files.copies import CopyFiles
from rehost.server.files.preconditions import precondition
from rehost.server.files.response import (
    IMMUTABLE,
    REVALIDATED,
    SAFE_HEADERS,
    CopyResponse,
    ServedFile,
    requested_digest,
)
from rehost.server.files.send import Message, Receive, Send, headers_of, path_within, send_text
from rehost.server.resources import Lazy

SIDE_PIXELS = 480  # a tile on a phone, at two device pixels per CSS pixel
SMALL_BYTES = 24 * 1024
MAX_BYTES = 32 * 1024 * 1024  # of all thumbnails in memory: about two thousand
MAX_PENDING = 200  # thumbnails that are being made or wait for a process
_ENTRY_BYTES = 100  # about what an entry costs besides its content


class Thumbnails:
    """An ASGI application that serves thumbnails by the keys of their copies."""

    def __init__(self, files: CopyFiles, maker: Lazy[Thumbnailer], max_bytes: int = MAX_BYTES) -> None:
        """Take the copies, the decoder processes, and the bound of the memory that thumbnails may take."""
        self._files = files
        self._maker = maker
        self._kept: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=lambda content: len(content) + _ENTRY_BYTES)
        self._pending: dict[str, asyncio.Task[bytes | None]] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            file = await self._files.find(path_within(scope).removeprefix("/"))
            if file is not None and file.size > SMALL_BYTES and (content := await self._thumbnail(file)) is not None:
                response = await self._respond(scope, file, content)
                await send_text(response, send, with_body=scope["method"] == "GET")
                return
        await self._files(scope, receive, send)

    @property
    def kept_bytes(self) -> int:
        """Return the memory that the kept thumbnails take, in bytes."""
        return int(self._kept.currsize)

    async def close(self) -> None:
        """End the decoder processes."""
        await self._maker.close()

    async def _respond(self, scope: Message, file: ServedFile, content: bytes) -> CopyResponse:
        requested = requested_digest(scope["query_string"].decode("latin-1"))
        digest = await self._files.digest(file) if requested else None
        is_right = requested is not None and digest is not None and digest.startswith(requested)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        validators = (("etag", etag), ("cache-control", IMMUTABLE if is_right else REVALIDATED), *SAFE_HEADERS)
        if precondition(headers_of(scope), frozenset({etag}), file.modified) == HTTPStatus.NOT_MODIFIED:
            return CopyResponse(HTTPStatus.NOT_MODIFIED, validators)
        sized = (("content-type", "image/webp"), ("content-length", str(len(content))))
        return CopyResponse(HTTPStatus.OK, (*sized, *validators), (content,))

    async def _thumbnail(self, file: ServedFile) -> bytes | None:
        """Return the thumbnail of a copy; None if the copy itself is to be served."""
        if (kept := self._kept.get(file.identity)) is not None:
            return kept or None
        task = self._pending.get(file.identity)
        if task is None:
            if len(self._pending) >= MAX_PENDING:
                return None
            task = asyncio.create_task(self._make(file))
            self._pending[file.identity] = task
            task.add_done_callback(lambda _: self._pending.pop(file.identity))
        try:
            return await asyncio.shield(task)
        except (OperatorError, OSError):
            return None

    async def _make(self, file: ServedFile) -> bytes | None:
        async with self._files.as_file(file) as path:
            made = await (await self._maker.get()).make(path, SIDE_PIXELS)
        if made is not None and len(made) >= file.size:
            made = None
        if len(made or b"") + _ENTRY_BYTES <= self._kept.maxsize:
            self._kept[file.identity] = made or b""  # empty: none can be made, which is worth remembering too
        return made
