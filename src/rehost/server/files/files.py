"""The copies over HTTP: a plain ASGI application, to be mounted in any other (ASGI 3, HTTP connection scope)."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

from rehost.server.files.finder import FileFinder, open_same
from rehost.server.files.response import Answer, Served, answer, asked_digest, error
from rehost.server.files.send import Message, Receive, Send, send_parts, send_path, send_text

logger = logging.getLogger(__name__)

_LOOKS = 3  # a copy may be replaced between looking and opening; hardly that often


class CopyFiles:
    """Serves the store's copies by key: `app.mount("/static/images", CopyFiles(root, media_type))`.

    The prefix is taken off the path as ASGI's `root_path` says. Whole files are left to the server where it offers
    `http.response.pathsend`; if a copy is replaced at that very moment, the answer breaks off.
    """

    def __init__(self, root: Path, media_type: Callable[[bytes], str | None]) -> None:
        """Serve files below `root` (which need not exist yet) of which the first bytes have a media type."""
        self._shelf = FileFinder(root, media_type)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._respond(scope, send)
        else:
            await decline(scope, receive, send)

    async def look(self, key: str) -> Served | None:
        """Return what would be served for a key; None if there is nothing, or the disk does not answer properly."""
        try:
            return await self._shelf.find(key)
        except OSError as problem:
            logger.warning("file not looked at key=%r error=%r", key, problem)
            return None

    async def digest(self, served: Served) -> str | None:
        """Return the SHA-256 of a copy; None if another file has its name now."""
        try:
            return await self._shelf.digest(served)
        except OSError:
            return None

    async def _respond(self, scope: Message, send: Send) -> None:
        with_body = scope["method"] != "HEAD"
        if scope["method"] not in {"GET", "HEAD"}:
            refused = error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
            await send_text(refused, send, with_body=with_body)
            return
        by_server = "http.response.pathsend" in (scope.get("extensions") or {})
        reply, served, descriptor = await self._prepare(scope, opened=with_body, by_server=by_server)
        if descriptor is not None:
            try:
                await send_parts(reply, descriptor, send)
            finally:
                os.close(descriptor)
        elif served is not None and with_body and reply.status == HTTPStatus.OK:
            await send_path(reply, served.path, send)
        else:
            await send_text(reply, send, with_body=with_body)

    async def _prepare(
        self, scope: Message, *, opened: bool, by_server: bool
    ) -> tuple[Answer, Served | None, int | None]:
        """Return the answer, the copy, and the copy's open file where its bytes are ours to send."""
        try:
            for _ in range(_LOOKS):
                served = await self._shelf.find(path_within(scope).removeprefix("/"))
                if served is None:
                    return error(HTTPStatus.NOT_FOUND), None, None
                reply = await self._decide(scope, served)
                if not (opened and reply.has_file) or (by_server and reply.status == HTTPStatus.OK):
                    return reply, served, None
                if (descriptor := open_same(served)) is not None:
                    return reply, served, descriptor
        except OSError as problem:
            logger.warning("file not served path=%r error=%r", scope["path"], problem)
        return error(HTTPStatus.SERVICE_UNAVAILABLE, ("retry-after", "10")), None, None

    async def _decide(self, scope: Message, served: Served) -> Answer:
        asked = asked_digest(scope["query_string"].decode("latin-1"))
        digest = await self._shelf.digest(served) if asked else None
        if digest is not None and not digest.startswith(asked or digest):
            digest = None  # another picture's: this one may be kept, but not for ever
        return answer(scope["method"], headers_of(scope), served, digest, boundary=secrets.token_hex(16))


def path_within(scope: Message) -> str:
    """Return the request's path without what the application is mounted at (ASGI 3, `root_path`)."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    return path[len(prefix) :] if path.startswith(f"{prefix}/") else path


async def decline(scope: Message, receive: Receive, send: Send) -> None:
    """Answer what is no HTTP request: a WebSocket is refused, and there is nothing to start or to end."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
    elif scope["type"] == "lifespan":
        await _live(receive, send)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def headers_of(scope: Message) -> Mapping[str, str]:
    """Return the request's headers; one that came in several lines is one list (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
