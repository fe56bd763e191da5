"""The whole application, built from settings."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from starlette.middleware.gzip import GZipMiddleware

import rehost
from app.answers import Answer, Refusal
from app.cases.collection import Library
from app.cases.routes import case_routes
from app.contract import contract_page
from app.database import Database
from app.faults import answer_errors, misdirected
from app.query_string import PlainQueryString

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Health(BaseModel):
    """All is well."""

    status: str = "ok"
    database: str = "reachable"


class Name(BaseModel):
    """The name and version of this server."""

    name: str = "rehost backend"
    version: str = rehost.__version__
    documentation: str = "/docs"


def create_app(settings: rehost.Settings) -> FastAPI:
    """Return the application: the case API, the copies under their prefix, the dashboard, health.

    It starts without the database.
    """
    database = Database(settings.database_url)
    page = rehost.site(settings)
    images = rehost.read_through(settings) if settings.read_through else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with database, rehost.Connections().bounded():
            yield
        await page.close()
        if images is not None:
            await images.close()

    refusals: dict[int | str, dict[str, Any]] = {422: {"model": Refusal}, 503: {"model": Refusal}}
    app = FastAPI(
        title="Advertising cases",
        version=rehost.__version__,
        lifespan=lifespan,
        responses=refusals,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    answer_errors(app)
    public = f"{settings.static_url_path}/", "/image/"
    app.add_middleware(rehost.KnownHosts, names=rehost.known_hosts(settings), refuse=misdirected, public=public)
    app.add_middleware(rehost.RelativeRedirects)
    app.add_middleware(PlainQueryString)
    app.add_middleware(GZipMiddleware, compresslevel=5, exclude_content_types=("image/*", "text/event-stream"))
    app.include_router(case_routes(Library(database)))

    @app.get("/", tags=["server"])
    async def name() -> Answer[Name]:
        """Return name and version of this server."""
        return Answer(data=Name())

    @app.get("/health", tags=["server"])
    async def health() -> Answer[Health]:
        """Check that the database can be reached; 503 if not."""
        await database.fetch("SELECT 1")
        return Answer(data=Health())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return contract_page()

    app.mount(settings.static_url_path, rehost.files(settings))
    app.mount("/rehost", page)
    if images is not None:
        app.mount("/image", images)
    return app
