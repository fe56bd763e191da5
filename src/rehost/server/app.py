"""The application of `rehost serve`: the copies below their prefix, single pictures, and the page and the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.routing import Mount

from rehost.server.files.response import error
from rehost.server.files.send import Application, Message, Receive, Send, decline, send_text, serve_lifespan
from rehost.server.host_header import RelativeRedirects

IMAGES = "/image"


@dataclass(frozen=True, slots=True)
class NotFound:
    """Answers 404 to every request."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await send_text(error(HTTPStatus.NOT_FOUND), send, with_body=scope["method"] != "HEAD")
        else:
            await decline(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Site:
    """Routes requests: copies below `prefix`, single pictures below IMAGES if there are any, all else to `rest`."""

    files: Application  # by key
    prefix: str
    rest: Application = NotFound()
    images: Application | None = None
    closing: tuple[Callable[[], Awaitable[None]], ...] = ()  # awaited in this order when the server shuts down

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's lifespan events."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, self._close)
            return
        if scope["type"] == "http":
            root_path: str = scope.get("root_path", "").rstrip("/")
            for prefix, application in ((IMAGES, self.images), (self.prefix, self.files)):
                if application is not None and scope["path"].startswith(f"{root_path}{prefix}/"):
                    await application({**scope, "root_path": root_path + prefix}, receive, send)
                    return
        await self.rest(scope, receive, send)

    async def _close(self) -> None:
        for close in self.closing:
            await close()


def mount(application: Application, path: str) -> Application:
    """Return an application that serves another one below a path such as /rehost, or at the root if it is empty."""
    return RelativeRedirects(Starlette(routes=[Mount(path, application)])) if path else application
