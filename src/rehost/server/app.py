"""The application of `rehost serve`: the copies below their prefix, single pictures, and what it is given besides."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from rehost.server.files.files import decline
from rehost.server.files.response import error
from rehost.server.files.send import Application, Message, Receive, Send, send_text

IMAGES = "/image"


@dataclass(frozen=True, slots=True)
class Nothing:
    """Answers 404 to everything."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await send_text(error(HTTPStatus.NOT_FOUND), send, with_body=scope["method"] != "HEAD")
        else:
            await decline(scope, receive, send)


class Closing(Protocol):
    """An application that has something to close at the end."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...

    async def close(self) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """Copies below `prefix`, single pictures below IMAGES where there is somebody to bring them, the rest elsewhere."""

    files: Application  # by key
    prefix: str
    rest: Application = Nothing()
    images: Closing | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand one request on; lifespan is the rest's business, the single pictures' end aside."""
        if scope["type"] == "http":
            for prefix, application in ((IMAGES, self.images), (self.prefix, self.files)):
                root_path: str = scope.get("root_path", "")
                mounted = root_path.rstrip("/") + prefix
                if application is not None and scope["path"].startswith(f"{mounted}/"):
                    await application({**scope, "root_path": mounted}, receive, send)
                    return
        if scope["type"] == "lifespan" and self.images is not None:
            receive = _closing(self.images, receive)
        await self.rest(scope, receive, send)


def _closing(images: Closing, receive: Receive) -> Receive:
    """Return a `receive` that closes the single pictures before it tells anybody of the end."""

    async def receive_closing() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await images.close()
        return message

    return receive_closing
