"""The operator's page: its files, the API, and the copies once more below it, so that all comes from one origin.

All addresses are relative, so that the page can be mounted below any path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from rehost.server.api.actions import Actions, RunControl
from rehost.server.api.app import create_api
from rehost.server.api.live import Live
from rehost.server.api.problems import Problem, ProblemError, problem_response
from rehost.server.api.routes import Api
from rehost.server.api.upkeep import Upkeep
from rehost.server.dashboard.thumbnails import Thumbnails
from rehost.server.files.send import Application, Message, Receive, Send, headers_of
from rehost.server.host_header import KnownHosts

# Only our own files load and run: text from rows could not send anything anywhere even if it were not plain text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),  # revalidate each time: files of two versions do not fit together
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class SecurityHeaders:
    """Middleware that adds the page's headers to responses that do not set them."""

    inner: Application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in _HEADERS if pair[0] not in present]
                is_coded = b"content-encoding" in present
                headers = [_weak(pair) if is_coded else pair for pair in message["headers"]]
                message = {**message, "headers": [*headers, *added]}
            await send(message)

        await self.inner(scope, receive, send_with_headers)


def _weak(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return a header of a compressed response; its entity tag stands for other bytes (RFC 9110, section 8.8.1)."""
    name, value = header
    return (name, b"W/" + value) if name.lower() == b"etag" and not value.startswith(b"W/") else header


async def _misdirected(scope: Message, receive: Receive, send: Send) -> None:
    """Answer a request for another host."""
    response = problem_response(ProblemError(Problem.UNKNOWN_HOST), headers_of(scope).get("accept-language", ""))
    await response(scope, receive, send)


class Dashboard:
    """The page's application. It opens databases and processes on first use."""

    def __init__(  # noqa: PLR0913 - one for each part
        self,
        api: Api,
        runs: RunControl,
        live: Live,
        upkeep: Upkeep,
        files: Application,
        thumbnails: Thumbnails,
        *,
        token: str,
        version: str,
        hosts: frozenset[str],
    ) -> None:
        """Put the parts together; `files` serves the copies by key, and `hosts` are the names of the server."""
        self._api = api
        self._runs = runs
        self._live = live
        self._thumbnails = thumbnails
        app = create_api(api, Actions(api, runs), live, upkeep, token=token, version=version, lifespan=self._lifespan)
        assets = StaticFiles(packages=[("rehost.server.dashboard", "assets")])
        folder = Path(assets.all_directories[0])
        names = {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()}
        pages = {"": "index.html", "docs": "docs.html"}

        async def asset(request: Request) -> Response:
            path = request.scope["path"].removeprefix(request.scope.get("root_path", "")).removeprefix("/")
            return await assets.get_response(pages.get(path, path), request.scope)

        app.mount("/copies", files)
        app.mount("/thumbs", thumbnails)
        for name in (*names, *pages):
            app.add_route(f"/{name}", asset)
        compressed = GZipMiddleware(app, compresslevel=5, exclude_content_types=("image/*", "text/event-stream"))
        self._app = SecurityHeaders(KnownHosts(compressed, hosts, lambda _: _misdirected))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """End streams and the run that was started here, and close what was opened. To be awaited where mounted."""
        self._live.close()
        await self._thumbnails.close()
        await self._runs.close()
        await self._api.resources.close()

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        yield
        await self.close()
