"""The copies over HTTP: a plain ASGI application that any other can mount (ASGI 3, HTTP connection scope)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.server.files.finder import read_now
from rehost.server.files.response import CONDITIONS, MISSING, REVALIDATED, CopyResponse, ServedFile, error, respond
from rehost.server.files.send import (
    WHOLE_BYTES,
    Message,
    Receive,
    Send,
    decline,
    headers_of,
    path_within,
    send_parts,
    send_path,
    send_text,
    send_whole,
)

logger = logging.getLogger(__name__)

SIGNED_SECONDS = 900.0  # that a URL to which a request is redirected can be used
# Caches keep a redirect for less: credentials of a role end sooner than the URL, though not within 5 minutes.
REDIRECTED = "max-age=240"
_ATTEMPTS = 3  # a copy may be replaced between finding and opening it, but hardly more often than that


class Finder(Protocol):
    """Finds and reads the copies of one kind of store: only pictures under their keys, nothing else that lies there.

    Every method may raise OSError or StoreError where the store cannot be read now.
    """

    async def find(self, key: str, *, is_read: bool = False) -> ServedFile | None:
        """Return the copy of a key; None if there is nothing to serve.

        With `is_read` it may have been replaced or removed since it was seen last: the caller will find that by `read`.
        """
        ...

    async def digest(self, file: ServedFile) -> str | None:
        """Return the SHA-256 of a copy in 64 lower-case hexadecimal digits; None if another one has its name now."""
        ...

    async def gone_status(self, key: str) -> int | None:
        """Return the status that says that the copy of a key was taken down; None if it was not."""
        ...

    def read(self, file: ServedFile, spans: Sequence[range]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of these spans in pieces that do not cross their borders.

        Raises:
            FileNotFoundError: another copy, or none, has its name now.
        """
        ...

    def as_file(self, file: ServedFile) -> AbstractAsyncContextManager[Path]:
        """Give a path at which the copy's bytes can be read until the context ends."""
        ...


class EitherFinder:
    """Finds copies in two stores, while they are moved from one to the other: each in the first one that has it."""

    def __init__(self, first: Finder, second: Finder) -> None:
        """Find copies in the first store, or else in the second one."""
        self._finders = (first, second)

    async def find(self, key: str, *, is_read: bool = False) -> ServedFile | None:  # noqa: ARG002 - either may have it
        """Return the copy of a key; None if neither store has one."""
        for place, finder in enumerate(self._finders):
            if (found := await finder.find(key)) is not None:
                return replace(found, place=place)
        return None

    async def digest(self, file: ServedFile) -> str | None:
        """Return the SHA-256 of a copy; None if another one has its name now."""
        return await self._finders[file.place].digest(file)

    async def gone_status(self, key: str) -> int | None:
        """Return the status that says that the copy of a key was taken down; None if neither store says so."""
        first, second = self._finders
        return await first.gone_status(key) or await second.gone_status(key)

    def read(self, file: ServedFile, spans: Sequence[range]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of these spans."""
        return self._finders[file.place].read(file, spans)

    def as_file(self, file: ServedFile) -> AbstractAsyncContextManager[Path]:
        """Give a path at which the copy's bytes can be read until the context ends."""
        return self._finders[file.place].as_file(file)


class CopyFiles:
    """Serves the store's copies by key: `app.mount("/static/images", CopyFiles(FileFinder(root, media_type)))`.

    ASGI's `root_path` names the prefix to remove from the path. Where the server offers `http.response.pathsend`, it
    sends files above WHOLE_BYTES itself; if a copy is replaced at that very moment, the response breaks off.
    """

    def __init__(
        self,
        finder: Finder,
        cache_control: str = REVALIDATED,
        blocked_by: str = "",
        locate: Callable[[ServedFile, str], Awaitable[str]] | None = None,
    ) -> None:
        """Serve what `finder` finds.

        Args:
            finder: of the store.
            cache_control: for URLs that do not carry the digest of their copy.
            blocked_by: the URL that a response of status 451 names.
            locate: returns a URL to which a request with this method is redirected, valid for SIGNED_SECONDS; an empty
                text where the copy is to be sent from here. Without it, all are.
        """
        self._blocked_by = (("link", f'<{blocked_by}>; rel="blocked-by"'),) if blocked_by else ()  # RFC 7725, section 4
        self._clock = Clock()
        self._finder = finder
        self._cache_control = cache_control
        self._locate = locate

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        else:
            await decline(scope, receive, send)

    async def find(self, key: str) -> ServedFile | None:
        """Return the file that would be served for a key; None if there is none, or it cannot be read."""
        try:
            return await self._finder.find(key)
        except (OSError, StoreError) as problem:
            logger.warning("file not examined key=%r error=%r", key, problem)
            return None

    async def digest(self, file: ServedFile) -> str | None:
        """Return the SHA-256 of a copy; None if another file has its name now, or it cannot be read."""
        try:
            return await self._finder.digest(file)
        except (OSError, StoreError):
            return None

    def as_file(self, file: ServedFile) -> AbstractAsyncContextManager[Path]:
        """Give a path at which the copy's bytes can be read until the context ends.

        Raises:
            OSError: the copy cannot be read.
            StoreError: the same.
        """
        return self._finder.as_file(file)

    async def _respond(self, scope: Message, receive: Receive, send: Send) -> None:
        with_body = scope["method"] != "HEAD"
        if scope["method"] not in {"GET", "HEAD"}:
            refusal = error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
            await send_text(refusal, send, with_body=with_body)
            return
        for attempt in range(_ATTEMPTS):
            response, file = await self._prepare(scope, is_first=attempt == 0)
            if file is None or not with_body or not response.has_file:
                await send_text(response, send, with_body=with_body)
                return
            is_whole = file.is_on_disk and response.status == HTTPStatus.OK
            if is_whole and await _sent_at_once(scope, response, file, send):
                return
            spans = [part for part in response.body if isinstance(part, range)]
            async with aclosing(self._finder.read(file, spans)) as chunks:
                try:
                    first = await anext(chunks)
                except FileNotFoundError:
                    continue
                except (OSError, StoreError) as problem:
                    await send_text(self._failed(scope, problem), send, with_body=True)
                else:
                    await send_parts(response, first, chunks, receive, send)
                return
        await send_text(_unavailable(), send, with_body=with_body)

    async def _prepare(self, scope: Message, *, is_first: bool) -> tuple[CopyResponse, ServedFile | None]:
        """Return the response, and the copy if there is one."""
        key, headers = path_within(scope).removeprefix("/"), headers_of(scope)
        is_read = is_first and scope["method"] == "GET" and CONDITIONS.isdisjoint(headers)
        try:
            for attempt in range(_ATTEMPTS):
                file = await self._finder.find(key, is_read=is_read and attempt == 0)
                if file is None:
                    return await self._missing(key), None
                if self._locate is not None and (url := await self._locate(file, scope["method"])):
                    # Preconditions and ranges are for where it leads (RFC 9110, section 13.2.1).
                    return error(HTTPStatus.TEMPORARY_REDIRECT, ("location", url), caching=REDIRECTED), None
                if (digest := await self._finder.digest(file)) is None:
                    continue
                caching, now = self._cache_control, self._clock.now()
                boundary = secrets.token_hex(16) if "range" in headers else ""
                return respond(scope, headers, file, digest, caching, boundary, now), file
        except (OSError, StoreError) as problem:
            return self._failed(scope, problem), None
        return _unavailable(), None

    async def _missing(self, key: str) -> CopyResponse:
        status = await self._finder.gone_status(key) or HTTPStatus.NOT_FOUND
        is_legal = status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS
        return error(status, *(self._blocked_by if is_legal else ()), caching=MISSING)

    def _failed(self, scope: Message, problem: Exception) -> CopyResponse:
        logger.warning("file not served path=%r error=%r", scope["path"], problem)
        return _unavailable()


async def _sent_at_once(scope: Message, response: CopyResponse, file: ServedFile, send: Send) -> bool:
    """Send a whole copy with one message, if that can be done without waiting for the disk; return whether it was."""
    if file.size <= WHOLE_BYTES:
        if content := read_now(file):
            await send_whole(response, content, send)
            return True
    elif "http.response.pathsend" in (scope.get("extensions") or {}):
        await send_path(response, file.path, send)
        return True
    return False


def _unavailable() -> CopyResponse:
    return error(HTTPStatus.SERVICE_UNAVAILABLE, ("retry-after", "10"))
