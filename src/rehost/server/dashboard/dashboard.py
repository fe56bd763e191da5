"""Everything but the copies at their public URLs: the page, its files, the API, live events and metrics.

All addresses are relative, so that it can be mounted below any path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from rehost.server.api.actions import Actions
from rehost.server.api.api import Api
from rehost.server.api.contract import contract
from rehost.server.api.operation import reply, trouble
from rehost.server.app import Closing
from rehost.server.dashboard.live import Live
from rehost.server.dashboard.metrics import Metrics
from rehost.server.dashboard.run_control import RunControl
from rehost.server.files.send import Application, Message, Receive, Send

# Nothing runs or loads but our own files; what rows contain could not call anybody even if it were not plain text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),  # asked about each time: the parts of two versions do not fit together
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class Armoured:
    """An application whose answers all carry the page's headers, where they do not bring their own."""

    inner: Application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_armoured(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in _HEADERS if pair[0] not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.inner(scope, receive, send_armoured)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The copies, and their thumbnails."""

    files: Application
    thumbs: Closing


class Dashboard:
    """The page's application; it opens what it needs when it is first asked."""

    def __init__(
        self, api: Api, starter: RunControl, live: Live, pictures: Pictures, *, token: str, version: str
    ) -> None:
        """Take the parts; `pictures` are served once more, below the page, so that all comes from one origin."""
        self._api = api
        self._starter = starter
        self._live = live
        self._pictures = pictures
        operations = (*api.operations(), *Actions(api, starter).operations())
        document = contract(operations, version)

        assets = StaticFiles(packages=[("rehost.server.dashboard", "assets")], html=True)

        async def openapi(_request: Request) -> Response:
            return reply(document)

        async def who(_request: Request) -> Response:
            return reply({"version": version, "acts": bool(token)})

        async def docs(request: Request) -> Response:
            return await assets.get_response("docs.html", request.scope)

        async def missing(_request: Request, _error: Exception) -> Response:
            return trouble(404, "There is nothing here; /docs says what is.")

        routes: list[BaseRoute] = [
            *(operation.route(token) for operation in operations),
            Route("/api/live", live.respond),
            Route("/api/server", who),
            Route("/metrics", Metrics(api).respond),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
            Mount("/copies", pictures.files),
            Mount("/thumbs", pictures.thumbs),
            Mount("/", assets),
        ]
        handlers = {404: missing}
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        self._app = Armoured(app)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """End streams and the run that was started here, and close what was opened; for those who mount us."""
        self._live.close()
        await self._pictures.thumbs.close()
        await self._starter.close()
        await self._api.office.close()

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self.close()


def mounted(dashboard: Dashboard, at: str) -> Application:
    """Return the page below a path (such as /rehost) of an otherwise empty site; `at` may be empty."""
    if not at:
        return dashboard

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await dashboard.close()

    return Starlette(routes=[Mount(at, dashboard)], lifespan=lifespan)
