"""Normalises query strings as front ends write them before the application reads them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class PlainQueryString:
    """ASGI middleware: `name[]=a&name[]=b` becomes `name=a&name=b`, and `name=` (an empty form field) is dropped."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["query_string"]:
            scope = {**scope, "query_string": plain(scope["query_string"])}
        await self._app(scope, receive, send)


def plain(query: bytes) -> bytes:
    """Return the normalised query string."""
    pairs = (pair.partition(b"=") for pair in query.split(b"&"))
    return b"&".join(_plain_name(name) + b"=" + value for name, _, value in pairs if value)


def _plain_name(name: bytes) -> bytes:
    return re.sub(rb"(\[|%5B)(\]|%5D)$", b"", name, flags=re.IGNORECASE)
