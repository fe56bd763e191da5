"""The copies over HTTP: a plain ASGI application that any other can mount (ASGI 3, HTTP connection scope)."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from rehost.clock import Clock
from rehost.server.files.finder import FileFinder, open_same
from rehost.server.files.response import MISSING, REVALIDATED, CopyResponse, ServedFile, error, respond
from rehost.server.files.send import (
    Message,
    Receive,
    Send,
    chunk_bytes,
    decline,
    headers_of,
    path_within,
    send_parts,
    send_path,
    send_text,
)

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # a copy may be replaced between finding and opening it, but hardly more often than that


class CopyFiles:
    """Serves the store's copies by key: `app.mount("/static/images", CopyFiles(root, media_type))`.

    ASGI's `root_path` names the prefix to remove from the path. Where the server offers `http.response.pathsend`, it
    sends whole files itself; if a copy is replaced at that very moment, the response breaks off.
    """

    def __init__(
        self,
        root: Path,
        media_type: Callable[[bytes], str | None],
        cache_control: str = REVALIDATED,
        blocked_by: str = "",
    ) -> None:
        """Serve files below `root`, which need not exist yet, whose first bytes have a media type.

        `cache_control` is for URLs that do not carry the digest of their copy; `blocked_by` is the URL that a response
        of status 451 names.
        """
        self._blocked_by = (("link", f'<{blocked_by}>; rel="blocked-by"'),) if blocked_by else ()  # RFC 7725, section 4
        self._clock = Clock()
        self._finder = FileFinder(root, media_type)
        self._cache_control = cache_control
        self._sending = 0  # responses whose bytes are read here

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._respond(scope, send)
        else:
            await decline(scope, receive, send)

    async def find(self, key: str) -> ServedFile | None:
        """Return the file that would be served for a key; None if there is none, or it cannot be read."""
        try:
            return await self._finder.find(key)
        except OSError as problem:
            logger.warning("file not examined key=%r error=%r", key, problem)
            return None

    async def digest(self, file: ServedFile) -> str | None:
        """Return the SHA-256 of a copy; None if another file has its name now, or it cannot be read."""
        try:
            return await self._finder.digest(file)
        except OSError:
            return None

    async def _respond(self, scope: Message, send: Send) -> None:
        with_body = scope["method"] != "HEAD"
        if scope["method"] not in {"GET", "HEAD"}:
            refusal = error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
            await send_text(refusal, send, with_body=with_body)
            return
        by_server = "http.response.pathsend" in (scope.get("extensions") or {})
        response, file, descriptor = await self._prepare(scope, opened=with_body, by_server=by_server)
        if descriptor is not None:
            self._sending += 1
            try:
                await send_parts(response, descriptor, send, chunk_bytes(self._sending))
            finally:
                self._sending -= 1
                os.close(descriptor)
        elif file is not None and with_body and response.status == HTTPStatus.OK:
            await send_path(response, file.path, send)
        else:
            await send_text(response, send, with_body=with_body)

    async def _prepare(
        self, scope: Message, *, opened: bool, by_server: bool
    ) -> tuple[CopyResponse, ServedFile | None, int | None]:
        """Return the response, the copy, and a descriptor of the copy if we have to send its bytes ourselves."""
        try:
            for _ in range(_ATTEMPTS):
                key = path_within(scope).removeprefix("/")
                file = await self._finder.find(key)
                if file is None:
                    status = await self._finder.gone_status(key) or HTTPStatus.NOT_FOUND
                    is_legal = status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS
                    return error(status, *(self._blocked_by if is_legal else ()), caching=MISSING), None, None
                if (digest := await self._finder.digest(file)) is None:
                    continue
                boundary = secrets.token_hex(16)
                caching, now = self._cache_control, self._clock.now()
                response = respond(scope, headers_of(scope), file, digest, caching, boundary, now)
                if not (opened and response.has_file) or (by_server and response.status == HTTPStatus.OK):
                    return response, file, None
                if (descriptor := open_same(file)) is not None:
                    return response, file, descriptor
        except OSError as problem:
            logger.warning("file not served path=%r error=%r", scope["path"], problem)
        return error(HTTPStatus.SERVICE_UNAVAILABLE, ("retry-after", "10")), None, None
