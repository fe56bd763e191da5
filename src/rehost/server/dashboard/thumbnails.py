"""Thumbnails of the copies, for the gallery: a wall of originals would be megabytes, which no phone likes.

They are made when they are first asked for, by decoder processes, and kept in memory within a bound; a browser keeps
them for ever where the URL carries the digest. What is small already, or makes no thumbnail, is served as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from rehost.errors import OperatorError
from rehost.server.files.conditions import precondition
from rehost.server.files.files import CopyFiles, headers_of, path_within
from rehost.server.files.response import HARMLESS, IMMUTABLE, REVALIDATED, Answer, Served, asked_digest
from rehost.server.files.send import Message, Receive, Send, send_text
from rehost.server.lazy import Lazy

SIDE = 480  # pixels: a tile of a phone at its double resolution
SMALL_BYTES = 24 * 1024
MOST_BYTES = 32 * 1024 * 1024  # in memory, some two thousand
MOST_MAKING = 200  # at once, waiting ones included


class Making(Protocol):
    """Who makes thumbnails (images/thumbnails.py)."""

    async def make(self, path: Path, side: int) -> bytes | None:
        """Return a WebP of the picture, no longer than `side` either way; None where there is none to be had."""
        ...


class Thumbs:
    """An ASGI application that serves thumbnails by the keys of their copies."""

    def __init__(self, files: CopyFiles, maker: Lazy[Making]) -> None:
        self._files = files
        self._maker = maker
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._going: dict[str, asyncio.Task[bytes | None]] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}:
            served = await self._files.look(path_within(scope).removeprefix("/"))
            if served is not None and served.size > SMALL_BYTES and (small := await self._small(served)) is not None:
                reply = await self._answer(scope, served, small)
                await send_text(reply, send, with_body=scope["method"] == "GET")
                return
        await self._files(scope, receive, send)

    async def close(self) -> None:
        """End the processes."""
        await self._maker.close()

    async def _answer(self, scope: Message, served: Served, small: bytes) -> Answer:
        asked = asked_digest(scope["query_string"].decode("latin-1"))
        digest = await self._files.digest(served) if asked else None
        is_right = asked is not None and digest is not None and digest.startswith(asked)
        etag = f'"{hashlib.sha256(small).hexdigest()}"'
        shown = (("etag", etag), ("cache-control", IMMUTABLE if is_right else REVALIDATED), *HARMLESS)
        if precondition(headers_of(scope), frozenset({etag}), served.modified) == HTTPStatus.NOT_MODIFIED:
            return Answer(HTTPStatus.NOT_MODIFIED, shown)
        sized = (("content-type", "image/webp"), ("content-length", str(len(small))))
        return Answer(HTTPStatus.OK, (*sized, *shown), (small,))

    async def _small(self, served: Served) -> bytes | None:
        """Return the thumbnail of a copy; None where the copy itself has to do."""
        if (kept := self._kept.get(served.etag)) is not None:
            self._kept.move_to_end(served.etag)
            return kept or None
        going = self._going.get(served.etag)
        if going is None:
            if len(self._going) >= MOST_MAKING:
                return None
            going = asyncio.create_task(self._make(served))
            self._going[served.etag] = going
            going.add_done_callback(lambda _: self._going.pop(served.etag))
        try:
            return await asyncio.shield(going)
        except OperatorError:
            return None

    async def _make(self, served: Served) -> bytes | None:
        made = await (await self._maker.get()).make(Path(served.path), SIDE)
        if made is not None and len(made) >= served.size:
            made = None
        self._keep(served.etag, made or b"")  # that there is none is worth remembering too
        return made

    def _keep(self, etag: str, content: bytes) -> None:
        self._kept[etag] = content
        self._kept_bytes += len(content) + len(etag)
        while self._kept_bytes > MOST_BYTES:
            name, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest) + len(name)
