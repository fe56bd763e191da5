"""The application of `rehost serve`: the copies below their prefix, and whatever else it is given for the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from rehost.server.answer import error
from rehost.server.sending import Message, Receive, Send, send_text
from rehost.server.static import live

Application = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Nothing:
    """Answers 404 to everything."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await send_text(error(HTTPStatus.NOT_FOUND), send, with_body=scope["method"] != "HEAD")
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            await live(receive, send)


@dataclass(frozen=True, slots=True)
class Site:
    """Copies below `prefix`, the rest elsewhere."""

    files: Application
    prefix: str
    rest: Application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand one request on; lifespan is the rest's business."""
        if scope["type"] == "http":
            root_path: str = scope.get("root_path", "")
            mounted = root_path.rstrip("/") + self.prefix
            if scope["path"].startswith(f"{mounted}/"):
                await self.files({**scope, "root_path": mounted}, receive, send)
                return
        await self.rest(scope, receive, send)


def build(files: Application, url_prefix: str, rest: Application | None = None) -> Application:
    """Return an application that serves copies where their public URLs say.

    Args:
        files: serves copies by key.
        url_prefix: the public URLs' beginning; a host in it is somebody else's business (a CDN that asks here).
        rest: the pages and the API; without it all else is not found.
    """
    return Site(files, urlsplit(url_prefix).path.rstrip("/"), rest or Nothing())
