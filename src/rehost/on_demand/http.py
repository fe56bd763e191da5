"""Read-through: `/image/{source}/{key}` serves the copy if it is held, and otherwise fetches it now.

Only links that stand in the catalogue can be asked for, by their row's key and never by a URL: it is no open proxy.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs

from rehost.errors import OperatorError
from rehost.on_demand.placeholder import AGAIN_SECONDS, placeholder, stand_in
from rehost.ports import Entry
from rehost.server.api.asking import POSITION, AskedWronglyError
from rehost.server.files.files import CopyFiles, decline, path_within
from rehost.server.files.response import Answer, error
from rehost.server.files.send import Message, Receive, Send, send_text
from rehost.server.lazy import Lazy

logger = logging.getLogger(__name__)

LONGEST_KEY = 2000  # characters


class Entries(Protocol):
    """The ledger, as far as it is asked here."""

    async def entry(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return how one link stands; None if the catalogue did not have it when it was noted last."""
        ...


class Bringing(Protocol):
    """Who brings single pictures (on_demand/service.py)."""

    async def fetch(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return how a link stands, once what can be done for it now is done."""
        ...


class ReadThrough:
    """An ASGI application, to be mounted at /image; it opens what it needs when it is first asked."""

    def __init__(
        self, files: CopyFiles, entries: Lazy[Entries], demand: Lazy[Bringing], *, wait_seconds: float
    ) -> None:
        """Take the parts; whoever asks waits for a fetch for at most so long, the fetch itself goes on."""
        self._files = files
        self._entries = entries
        self._demand = demand
        self._wait_seconds = wait_seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        else:
            await decline(scope, receive, send)

    async def close(self) -> None:
        """Let what is in flight end, and close what was opened; for whoever mounts us."""
        await self._demand.close()
        await self._entries.close()

    async def _respond(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:
            found: str | Answer = error(HTTPStatus.METHOD_NOT_ALLOWED, ("allow", "GET, HEAD"))
        else:
            found = await self._find(scope)
        if isinstance(found, Answer):
            await send_text(found, send, with_body=scope["method"] != "HEAD")
        else:
            await self._files({**scope, "path": f"/{found}", "root_path": ""}, receive, send)

    async def _find(self, scope: Message) -> str | Answer:
        """Return the key of the copy that is asked for, or what is said in its place."""
        source, _, row_key = path_within(scope).removeprefix("/").partition("/")
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            position = POSITION.read({name: values[-1] for name, values in query.items()})
        except AskedWronglyError:
            return stand_in(HTTPStatus.BAD_REQUEST, "no such position")
        if len(row_key) > LONGEST_KEY or not _is_text(source) or not _is_text(row_key):
            return placeholder(None)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._held(source, row_key, position) or await self._fetched(source, row_key, position)
        except TimeoutError:
            return stand_in(HTTPStatus.GATEWAY_TIMEOUT, "not yet", AGAIN_SECONDS)
        except (OperatorError, OSError) as problem:
            logger.warning("picture not served source=%r row=%r error=%r", source, row_key, str(problem))
            return stand_in(HTTPStatus.SERVICE_UNAVAILABLE, "not now", AGAIN_SECONDS)

    async def _held(self, source: str, row_key: str, position: int) -> str | None:
        """Return the key of a copy that is held and whose file is there."""
        entry = await (await self._entries.get()).entry(source, row_key, position)
        if entry is None or entry.copy is None or await self._files.look(entry.copy.key) is None:
            return None
        return entry.copy.key

    async def _fetched(self, source: str, row_key: str, position: int) -> str | Answer:
        entry = await (await self._demand.get()).fetch(source, row_key, position)
        return placeholder(entry) if entry is None or entry.copy is None else entry.copy.key


def _is_text(text: str) -> bool:
    """Tell whether a database can be asked for a text: no NUL, nothing that was no UTF-8."""
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text)
