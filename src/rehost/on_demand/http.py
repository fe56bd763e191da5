"""Read-through: `/image/{source}/{key}` serves a link's copy if it is held, and otherwise fetches it now.

Links are named by source and row key, never by a URL, and must be in the catalogue: this is no open proxy. Where there
is no picture to show, a small neutral one takes its place, with the status that says why.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from math import ceil
from urllib.parse import parse_qs

from rehost.errors import OperatorError
from rehost.ledger.leases import DueLinks, Entry
from rehost.model import Reason
from rehost.on_demand.service import OnDemandService
from rehost.server.files.copies import CopyFiles
from rehost.server.files.response import SAFE_HEADERS, CopyResponse, error
from rehost.server.files.send import Message, Receive, Send, decline, path_within, send_text
from rehost.server.resources import Lazy

logger = logging.getLogger(__name__)

MAX_KEY_CHARACTERS = 2000
MAX_RETRY_AFTER_SECONDS = 86400
RETRY_AFTER_SECONDS = 5  # where the ledger does not know better

_MAX_POSITION = 2**31 - 1

# Grey, which suits any background; only shapes and one word of ours.
_PLACEHOLDER = """<svg xmlns="http://www.w3.org/2000/svg" width="320" height="240" viewBox="0 0 320 240">\
<title>{}</title><rect width="320" height="240" fill="#888" fill-opacity=".14"/>\
<g fill="none" stroke="#888" stroke-opacity=".6" stroke-width="5" stroke-linejoin="round">\
<rect x="112" y="80" width="96" height="80" rx="8"/><path d="M116 148l28-30 20 20 14-12 26 26"/>\
<circle cx="184" cy="102" r="8"/></g></svg>
"""

_STATUSES = {
    Reason.NOT_A_URL: HTTPStatus.NOT_FOUND,
    Reason.KEY_TOO_LONG: HTTPStatus.NOT_FOUND,
    Reason.GONE: HTTPStatus.NOT_FOUND,
    Reason.ADDRESS_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.PORT_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.ROBOTS_REFUSED: HTTPStatus.FORBIDDEN,
    Reason.TIMED_OUT: HTTPStatus.GATEWAY_TIMEOUT,
    Reason.THROTTLED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.QUOTA_REACHED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.FILE_UNREADABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.WORKER_DIED: HTTPStatus.SERVICE_UNAVAILABLE,
    Reason.BUG: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class ReadThrough:
    """An ASGI application, to be mounted at /image; it opens its databases on first use."""

    def __init__(
        self, files: CopyFiles, links: Lazy[DueLinks], service: Lazy[OnDemandService], *, wait_seconds: float
    ) -> None:
        """Take the parts; a request waits at most `wait_seconds` for a fetch, which then goes on without it."""
        self._files = files
        self._links = links
        self._service = service
        self._wait_seconds = wait_seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        else:
            await decline(scope, receive, send)

    async def close(self) -> None:
        """Finish the fetches in flight, and close what was opened. To be awaited where this is mounted."""
        await self._service.close()
        await self._links.close()

    async def _respond(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            found: str | CopyResponse = error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
        else:
            found = await self._find(scope)
        if isinstance(found, CopyResponse):
            await send_text(found, send, with_body=scope["method"] != "HEAD")
        else:
            await self._files({**scope, "path": f"/{found}", "root_path": ""}, receive, send)

    async def _find(self, scope: Message) -> str | CopyResponse:
        """Return the key of the requested copy, or the response that takes its place."""
        source, _, row_key = path_within(scope).removeprefix("/").partition("/")
        position = _position(scope["query_string"].decode("latin-1"))
        if position is None:
            return placeholder(HTTPStatus.BAD_REQUEST, "no such position")
        if len(row_key) > MAX_KEY_CHARACTERS or not _is_text(source) or not _is_text(row_key):
            return placeholder_for(None)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._held(source, row_key, position) or await self._fetch(source, row_key, position)
        except TimeoutError:
            return placeholder(HTTPStatus.GATEWAY_TIMEOUT, "not yet", RETRY_AFTER_SECONDS)
        except (OperatorError, OSError) as problem:
            logger.warning("picture not served source=%r row=%r error=%r", source, row_key, str(problem))
            return placeholder(HTTPStatus.SERVICE_UNAVAILABLE, "not now", RETRY_AFTER_SECONDS)

    async def _held(self, source: str, row_key: str, position: int) -> str | None:
        """Return the key of a held copy whose file exists."""
        entry = await (await self._links.get()).entry(source, row_key, position)
        if entry is None or entry.copy is None or await self._files.find(entry.copy.key) is None:
            return None
        return entry.copy.key

    async def _fetch(self, source: str, row_key: str, position: int) -> str | CopyResponse:
        entry = await (await self._service.get()).fetch(source, row_key, position)
        return placeholder_for(entry) if entry is None or entry.copy is None else entry.copy.key


def _position(query: str) -> int | None:
    """Return the link's position within its cell, 0 where the query names none; None if it is not a valid one."""
    text = parse_qs(query).get("position", ["0"])[-1]
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_POSITION))
    return int(text) if is_number and int(text) <= _MAX_POSITION else None


def _is_text(text: str) -> bool:
    """Return whether a database accepts a text: no NUL, no bytes that were not UTF-8."""
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text)


def placeholder_for(entry: Entry | None) -> CopyResponse:
    """Return the response for a link without a copy; None stands for a link that the catalogue does not have.

    The status says that it was taken down (410, 451), or what the origin did: it has no such picture (404), did not
    answer in time (504), asked us to come back later (503), or sent something else that is no picture (502). An entry
    without a reason is still being fetched.
    """
    if entry is None:
        return placeholder(HTTPStatus.NOT_FOUND, "no such link")
    if entry.reason is Reason.TAKEN_DOWN:
        return placeholder(
            HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS if entry.is_legal else HTTPStatus.GONE, entry.reason
        )
    if entry.reason is None:
        return placeholder(HTTPStatus.SERVICE_UNAVAILABLE, "not yet", RETRY_AFTER_SECONDS)
    status = _STATUSES.get(entry.reason, HTTPStatus.BAD_GATEWAY)
    return placeholder(status, entry.reason.value, min(ceil(entry.wait_seconds), MAX_RETRY_AFTER_SECONDS))


def placeholder(status: HTTPStatus, word: str, retry_after: int = 0) -> CopyResponse:
    """Return the neutral picture, titled by a word; caches must not store it.

    `retry_after` is in seconds (RFC 9110, section 10.2.3); 0 if another request is of no use.
    """
    picture = _PLACEHOLDER.format(word).encode()
    retry = (("retry-after", str(retry_after)),) if retry_after else ()
    headers = (("content-type", "image/svg+xml"), ("cache-control", "no-store"), *SAFE_HEADERS, *retry)
    return CopyResponse(status, (*headers, ("content-length", str(len(picture)))), (picture,))
