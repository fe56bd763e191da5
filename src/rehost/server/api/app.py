"""The API as a FastAPI application, and its OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import Depends, FastAPI, Security
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from rehost.errors import OperatorError
from rehost.server.api.actions import Actions, token_check
from rehost.server.api.http import (
    ErrorBody,
    JsonResponse,
    as_json,
    on_http_error,
    on_invalid_parameter,
    on_operator_error,
)
from rehost.server.api.live import Live
from rehost.server.api.metrics import Metrics
from rehost.server.api.routes import Api

_ABOUT = "The state of the copies. Reading needs no token; actions need the operator's token (REHOST_TOKEN)."
_READ_ERRORS = {400: "A parameter is invalid.", 404: "There is no such thing.", 503: "Not available at the moment."}
_ACTION_ERRORS = {401: "The token is missing or wrong.", 403: "Not allowed, or not from there.", 409: "In progress."}


def create_api(
    api: Api,
    actions: Actions,
    live: Live,
    *,
    token: str,
    version: str,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    """Return the API as an application to which the page adds its own routes.

    Args:
        api: the read operations.
        actions: the operations that need the token.
        live: the stream of a run's progress.
        token: the operator's; without one, all actions are refused.
        version: of rehost.
        lifespan: context of the application.
    """
    app = FastAPI(
        openapi_url=None,  # served below, made once
        docs_url=None,  # the page has its own
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            StarletteHTTPException: on_http_error,
            RequestValidationError: on_invalid_parameter,
            OperatorError: on_operator_error,
        },
    )
    _add_operations(app, api, actions, token)
    document = _openapi(app, version)

    async def openapi() -> Response:
        return JsonResponse(document)

    async def server() -> Response:
        return JsonResponse({"version": version, "acts": bool(token)})

    hidden: tuple[tuple[str, Callable[..., Awaitable[Response]]], ...] = (
        ("/api/live", live.respond),
        ("/api/server", server),
        ("/metrics", Metrics(api).respond),
        ("/openapi.json", openapi),
    )
    for path, respond in hidden:
        app.add_api_route(path, respond, include_in_schema=False, response_model=None)
    for route in app.routes:
        if isinstance(route, APIRoute) and route.methods == {"GET"}:
            route.methods.add("HEAD")  # RFC 9110, section 9.1: GET and HEAD belong together; FastAPI leaves it out
    return app


def _add_operations(app: FastAPI, api: Api, actions: Actions, token: str) -> None:
    """Add the operations; their parameters and response models are those of their signatures."""
    guard = [Depends(token_check(token)), Security(HTTPBearer(scheme_name="token", auto_error=False))]
    operations: tuple[tuple[str, str, Callable[..., Awaitable[object]], int], ...] = (
        ("GET", "/health", api.health, 200),
        ("GET", "/ready", api.ready, 200),
        ("GET", "/api/sources", api.all_sources, 200),
        ("GET", "/api/standing", api.standing, 200),
        ("GET", "/api/links", api.links, 200),
        ("GET", "/api/link", api.link, 200),
        ("GET", "/api/hosts", api.hosts, 200),
        ("GET", "/api/origins", api.origins, 200),
        ("GET", "/api/runs", api.runs, 200),
        ("GET", "/api/usage", api.usage, 200),
        ("POST", "/api/retry", actions.retry, 200),
        ("POST", "/api/pause", actions.pause, 200),
        ("POST", "/api/resume", actions.resume, 200),
        ("POST", "/api/run", actions.run, 202),
    )
    for method, path, operation, status in operations:
        is_action = method == "POST"
        errors = {**_READ_ERRORS, **_ACTION_ERRORS} if is_action else _READ_ERRORS
        endpoint = as_json(operation, status)
        summary, endpoint.__doc__ = operation.__doc__, None
        app.add_api_route(
            path,
            endpoint,
            methods=[method],
            status_code=status,
            summary=summary,
            operation_id=path.strip("/").replace("/", "_"),
            dependencies=guard if is_action else None,
            response_description="The answer.",
            responses={code: {"model": ErrorBody, "description": about} for code, about in sorted(errors.items())},
        )


def _openapi(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the OpenAPI document; its server is the folder in which the document itself lies."""
    document = get_openapi(
        title="rehost", version=version, description=_ABOUT, routes=app.routes, servers=[{"url": "."}]
    )
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)  # FastAPI's own; invalid parameters are answered 400 here
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document
