"""The API as a FastAPI application, and its OpenAPI document."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from fastapi import Depends, FastAPI, Security
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from rehost.errors import OperatorError
from rehost.server.api.actions import Actions, TokenGuard
from rehost.server.api.http import (
    JsonResponse,
    Listing,
    StrictRoute,
    as_json,
    on_http_error,
    on_invalid_parameter,
    on_operator_error,
    on_problem,
)
from rehost.server.api.live import Live
from rehost.server.api.metrics import Metrics
from rehost.server.api.problems import MEDIA_TYPE, Problem, ProblemDocument, ProblemError
from rehost.server.api.routes import Api
from rehost.server.api.upkeep import Upkeep

_ABOUT = "The state of the copies. Reading needs no token; actions need the operator's token (REHOST_TOKEN)."
_AWAY = (Problem.UNAVAILABLE,)
_OF_SOURCE = (Problem.UNKNOWN_SOURCE, *_AWAY)
_REFUSED = (Problem.TOKEN_NEEDED, Problem.FOREIGN_SITE, Problem.TOO_MANY_WRONG_TOKENS, *_AWAY)
_TOTAL = {"X-Total-Count": {"description": "Entries on all pages together.", "schema": {"type": "integer"}}}
_FIRST_LINK = {
    name: f"$response.body#/links/0/link/{name}" for name in ("row_key", "source", "position")
}  # OpenAPI 3.1, section 4.7.19


@dataclass(frozen=True, slots=True)
class Server:
    """What this server is."""

    version: str  # of rehost
    acts: bool  # whether it has a token, with which actions are possible


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation as the document describes it."""

    method: str
    path: str
    operation: Callable[..., Awaitable[object]]
    problems: tuple[Problem, ...] = _OF_SOURCE
    status: int = 200
    media_type: str = "application/json"  # if it is another one, or `is_raw`, the operation returns its own response
    is_raw: bool = False
    links: dict[str, Any] | None = None


def create_api(
    api: Api,
    actions: Actions,
    live: Live,
    upkeep: Upkeep,
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
        upkeep: the operations about upkeep.
        token: the operator's; without one, all actions are refused.
        version: of rehost.
        lifespan: context of the application.
    """
    document: dict[str, Any] = {}

    async def openapi() -> Response:
        """This document."""
        return JsonResponse(document)

    async def server() -> Server:
        """What this server is."""
        return Server(version, bool(token))

    app = FastAPI(
        openapi_url=None,  # served below, made once
        docs_url=None,  # the page has its own
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: on_http_error,
            RequestValidationError: on_invalid_parameter,
            OperatorError: on_operator_error,
            ProblemError: on_problem,
        },
    )
    app.router.route_class = StrictRoute
    guard = [Depends(TokenGuard(token)), Security(HTTPBearer(scheme_name="token", auto_error=False))]
    link = {"operationId": "api_link", "parameters": _FIRST_LINK}
    of_source = {"operationId": "api_standing", "parameters": {"source": "$response.body#/0"}}
    for operation in (
        _Operation("GET", "/health", api.health, ()),
        _Operation("GET", "/ready", api.ready, (Problem.NO_STORE, *_AWAY)),
        _Operation("GET", "/metrics", Metrics(api, live.clock).respond, _AWAY, media_type="text/plain", is_raw=True),
        _Operation("GET", "/openapi.json", openapi, (), is_raw=True),
        _Operation("GET", "/api/server", server, ()),
        _Operation("GET", "/api/sources", api.all_sources, _AWAY, links={"standing": of_source}),
        _Operation("GET", "/api/standing", api.standing),
        _Operation("GET", "/api/links", api.links, links={"first": link}),
        _Operation("GET", "/api/link", api.link, (Problem.UNKNOWN_LINK, *_OF_SOURCE)),
        _Operation("GET", "/api/hosts", api.hosts),
        _Operation("GET", "/api/origins", api.origins),
        _Operation("GET", "/api/runs", api.runs),
        _Operation("GET", "/api/usage", api.usage, _AWAY),
        _Operation("GET", "/api/upkeep", upkeep.summary, _AWAY),
        _Operation("GET", "/api/findings", upkeep.findings),
        _Operation("GET", "/api/freezes", upkeep.freezes, _AWAY),
        _Operation("GET", "/api/takedowns", upkeep.takedowns, _AWAY),
        _Operation("GET", "/api/takedown", upkeep.takedown, (Problem.UNKNOWN_TAKEDOWN, *_AWAY)),
        _Operation("GET", "/api/storage", upkeep.storage, _AWAY),
        _Operation("GET", "/api/trash", upkeep.trash, _AWAY),
        _Operation("GET", "/api/live", live.respond, media_type="text/event-stream", is_raw=True),
        _Operation("POST", "/api/retry", actions.retry, (Problem.UNKNOWN_SOURCE, *_REFUSED)),
        _Operation("POST", "/api/pause", actions.pause, _REFUSED),
        _Operation("POST", "/api/resume", actions.resume, _REFUSED),
        _Operation("POST", "/api/accept", upkeep.accept, (Problem.NOT_FROZEN, *_REFUSED)),
        _Operation("POST", "/api/keep", upkeep.keep, (Problem.NOT_FROZEN, *_REFUSED)),
        _Operation("POST", "/api/forget", upkeep.forget, (Problem.MANY_COPIES, *_REFUSED)),
        _Operation("POST", "/api/forget/preview", upkeep.preview, _REFUSED),
        _Operation("POST", "/api/allow", upkeep.allow, (Problem.UNKNOWN_TAKEDOWN, *_REFUSED)),
        _Operation(
            "POST", "/api/run", actions.run, (Problem.UNKNOWN_SOURCE, Problem.RUN_IN_PROGRESS, *_REFUSED), status=202
        ),
        _Operation("POST", "/api/stop", actions.stop, (Problem.UNKNOWN_RUN, Problem.RUN_NOT_IN_PROGRESS, *_REFUSED)),
    ):
        _add(app, operation, guard)
    document.update(_openapi(app, version))
    for route in app.routes:
        if isinstance(route, APIRoute) and route.methods == {"GET"}:
            route.methods.add("HEAD")  # RFC 9110, section 9.1: GET and HEAD belong together; FastAPI leaves it out
    return app


def _add(app: FastAPI, added: _Operation, guard: Sequence[Any]) -> None:
    """Add an operation; its parameters and its response model are those of its signature."""
    operation = added.operation
    answer = get_type_hints(operation)["return"]
    if is_listing := get_origin(answer) is Listing:
        answer = Sequence[get_args(answer)[0]]  # type: ignore[misc]  # made at run time
    described: dict[str, Any] = {"headers": _TOTAL} if is_listing else {}
    if added.is_raw:
        is_json = added.media_type == "application/json"
        schema = {"$ref": "#/components/schemas/OpenapiDocument"} if is_json else {"type": "string"}
        described["content"] = {added.media_type: {"schema": schema}}
    if added.links:
        described["links"] = added.links
    endpoint = operation if added.is_raw else as_json(operation, added.status)
    app.add_api_route(
        added.path,
        endpoint,
        methods=[added.method],
        status_code=added.status,
        summary=inspect.getdoc(operation),
        description=" ",  # the summary says it all
        operation_id=added.path.strip("/").removesuffix(".json").replace("/", "_"),
        tags=["actions" if added.method == "POST" else "state"],
        dependencies=guard if added.method == "POST" else None,
        response_class=Response if added.is_raw else JSONResponse,  # describes it; `as_json` makes the response
        response_model=None if added.is_raw else answer,
        response_description="The answer.",
        responses={added.status: described, **_problems(added.problems)},
    )


def _problems(kinds: Sequence[Problem]) -> dict[int | str, dict[str, Any]]:
    """Return the problem documents that an operation may answer, by status; parameters can always be wrong."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    described = {problem.status: f"{problem.titles[0]}." for problem in (Problem.INVALID_PARAMETER, *kinds)}
    return {
        status: {"description": text, "content": {MEDIA_TYPE: schema}} for status, text in sorted(described.items())
    }


def _openapi(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the OpenAPI document; its server is the folder in which the document itself lies."""
    document = get_openapi(
        title="rehost", version=version, description=_ABOUT, routes=app.routes, servers=[{"url": "."}]
    )
    for methods in document["paths"].values():
        for operation in methods.values():
            operation.pop("description", None)
            operation["responses"].pop("422", None)  # FastAPI's own; invalid parameters are answered 400 here
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas[ProblemDocument.__name__] = TypeAdapter(ProblemDocument).json_schema()
    schemas["OpenapiDocument"] = {"type": "object", "additionalProperties": True}
    return document
