"""How the API speaks HTTP: the parameters that its operations share, its JSON, and its one form of error."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import wraps
from http import HTTPStatus
from typing import Annotated, ParamSpec, TypeVar

from fastapi import HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from rehost.errors import CatalogueError, OperatorError
from rehost.model import Reason, State

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

UNAVAILABLE = "The database or the store cannot be used at the moment; rehost's log says why."

MAX_RUN = _MAX_ENTRY = 2**63 - 1
_NO_NUL = r"^[^\x00]*$"  # no database takes a NUL in text


def _digits_or(default: int) -> BeforeValidator:
    """Return a validator for whole numbers: only ASCII digits, and the default for an empty value."""

    def check(value: object) -> object:
        if value == "":
            return default
        if isinstance(value, str) and not (value.isascii() and value.isdigit()):
            raise PydanticCustomError("digits", "Input should be a whole number, written in digits")
        return value

    return BeforeValidator(check)


_EMPTY_IS_NONE = BeforeValidator(lambda value: value or None)

Source = Annotated[
    str,
    Query(
        max_length=100,
        pattern=_NO_NUL,
        description="Name of a source. Default: the first one, or all of them where links or runs are listed.",
    ),
]
Key = Annotated[str, Query(max_length=500, pattern=_NO_NUL, description="Key of the row.")]
RequiredKey = Annotated[str, Query(min_length=1, max_length=500, pattern=_NO_NUL, description="Key of the row.")]
Position = Annotated[int, Query(ge=0, le=2**31 - 1, description="Position of the link within its cell."), _digits_or(0)]
LinkState = Annotated[State | SkipJsonSchema[None], Query(description="Only links in this state."), _EMPTY_IS_NONE]
LastReason = Annotated[
    Reason | SkipJsonSchema[None],
    Query(description="Only links whose last visit ended for this reason."),
    _EMPTY_IS_NONE,
]
Host = Annotated[str, Query(max_length=255, pattern=_NO_NUL, description="Only links of this host.")]
RequiredHost = Annotated[str, Query(min_length=1, max_length=255, pattern=_NO_NUL, description="Name of the host.")]
Origin = Annotated[
    str,
    Query(
        max_length=300,
        pattern=_NO_NUL,
        description="Only links of this origin: scheme://host, and :port unless it is the scheme's default port.",
    ),
]
Text = Annotated[
    str, Query(max_length=200, pattern=_NO_NUL, description="Part of a key, a link or a title; case does not matter.")
]
After = Annotated[
    int, Query(ge=0, le=_MAX_ENTRY, description="Where the page starts: `next` of the previous page."), _digits_or(0)
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Number of entries at most."), _digits_or(50)]
Before = Annotated[
    int, Query(ge=1, le=MAX_RUN, description="Only runs with a smaller number than this."), _digits_or(MAX_RUN)
]
Seconds = Annotated[
    int, Query(ge=1, le=31 * 86400, description="How long; never shortens a longer pause."), _digits_or(86400)
]


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error in one sentence."""

    error: str


class JsonResponse(Response):
    """A value as JSON that caches must not store."""

    media_type = "application/json"

    def __init__(self, value: object, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        """Encode dataclasses, sequences, mappings, StrEnums, datetimes and what JSON has itself."""
        super().__init__(to_json(value), status, {"cache-control": "no-store", **(headers or {})})


def to_json(value: object) -> bytes:
    """Return a value as JSON in UTF-8; what UTF-8 cannot express becomes a question mark."""
    text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def as_json(operation: Callable[P, Awaitable[object]], status: int = HTTPStatus.OK) -> Callable[P, Awaitable[Response]]:
    """Wrap an operation so that it answers its return value as JSON.

    FastAPI still reads parameters and response model from the operation's own signature. Its own encoder is not used:
    it would write UTC as "Z", which clients of this API do not get today, and fail on text that is not valid UTF-8.
    """

    @wraps(operation)
    async def respond(*args: P.args, **kwargs: P.kwargs) -> Response:
        return JsonResponse(await operation(*args, **kwargs), status)

    return respond


def error_response(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error in the API's form: one sentence."""
    retry = {"retry-after": "10"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JsonResponse(ErrorBody(sentence), status, {**retry, **(headers or {})})


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer an HTTPException, which operations, the router and the static files raise."""
    assert isinstance(error, StarletteHTTPException)
    is_unknown_path = error.status_code == HTTPStatus.NOT_FOUND and not isinstance(error, HTTPException)
    sentence = "There is nothing here; /docs lists what there is." if is_unknown_path else str(error.detail)
    return error_response(error.status_code, sentence, dict(error.headers or {}))


async def on_invalid_parameter(_request: Request, error: Exception) -> Response:
    """Answer 400 to a parameter that breaks its rules."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    _, name, *_ = first["loc"]  # "query" comes first
    problem = "String should not contain NUL" if first["type"] == "string_pattern_mismatch" else first["msg"]
    return error_response(HTTPStatus.BAD_REQUEST, f"{name}: {problem}.")


async def on_operator_error(request: Request, error: Exception) -> Response:
    """Answer 503 while the database or the store cannot be used; only actions, which need the token, name the cause."""
    assert isinstance(error, OperatorError)
    logger.warning("not answered path=%s error=%r", request.url.path, str(error))
    is_action = request.method == "POST"
    sentence = str(error) if is_action and not isinstance(error, CatalogueError) else UNAVAILABLE
    return error_response(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
