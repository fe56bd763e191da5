"""How the API speaks HTTP: the parameters that its operations share, what it refuses, and its JSON."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import wraps
from http import HTTPStatus
from typing import Annotated, Any, Generic, ParamSpec, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rehost.errors import CatalogueError, OperatorError
from rehost.ledger.filters import HostOrder, LinkOrder
from rehost.ledger.findings import Fault
from rehost.model import Reason, State
from rehost.server.api.problems import Problem, ProblemError, Texts, problem_response
from rehost.server.files.preconditions import matches

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_RUN = _MAX_ENTRY = 2**63 - 1
_NO_NUL = r"^[^\x00]*$"  # no database takes a NUL in text
_FORMER_NAMES = {"key": "row_key"}  # of parameters: they go on working


def _written(value: object) -> object:
    """Accept whole numbers only in ASCII digits."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise PydanticCustomError("digits", "Input should be a whole number, written in digits")
    return value


_DIGITS = BeforeValidator(_written)


def _text(max_length: int, description: str, pattern: str = _NO_NUL) -> Any:  # noqa: ANN401 - as FastAPI declares it
    """Describe a parameter that is a text; of one that may be left out, pydantic does not describe the pattern."""
    return Query(
        min_length=1,
        max_length=max_length,
        pattern=pattern,
        description=description,
        json_schema_extra={"pattern": pattern},
    )


_SOURCE = "Name of a source. Default: the first one, or all of them where links or runs are listed."
_ROW_KEY = "Key of the row, in the operator's table."
_ORIGIN = "Only links of this origin: scheme://host, and :port unless it is the scheme's default port."

Source = Annotated[str | SkipJsonSchema[None], _text(100, _SOURCE)]
RowKey = Annotated[str | SkipJsonSchema[None], _text(500, _ROW_KEY)]
RequiredRowKey = Annotated[str, _text(500, _ROW_KEY)]
Host = Annotated[str | SkipJsonSchema[None], _text(255, "Only links of this host.")]
RequiredHost = Annotated[str, _text(255, "Name or address of the host alone.", r"^[^\x00-\x20/?#@\\%]+$")]
Origin = Annotated[str | SkipJsonSchema[None], _text(300, _ORIGIN)]
Text = Annotated[str | SkipJsonSchema[None], _text(200, "Part of a key, a link or a title; case does not matter.")]
HostText = Annotated[str | SkipJsonSchema[None], _text(255, "Only hosts whose name contains this text.")]
Position = Annotated[int, Query(ge=0, le=2**31 - 1, description="Position of the link within its cell."), _DIGITS]
LinkState = Annotated[State | SkipJsonSchema[None], Query(description="Only links in this state.")]
LastReason = Annotated[
    Reason | SkipJsonSchema[None], Query(description="Only links whose last visit ended for this reason.")
]
Everything = Annotated[bool, Query(alias="all", description="All failed links of the source.")]
LinkSort = Annotated[
    LinkOrder, Query(alias="sort", description="Order of the links; `entry` is that in which they were taken in.")
]
HostSort = Annotated[
    HostOrder, Query(alias="sort", description="Order of the hosts; counts are sorted in descending order.")
]
After = Annotated[
    int,
    Query(ge=0, le=_MAX_ENTRY, description="Where the page starts: `next` of the page before, of the same request."),
    _DIGITS,
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Number of entries at most."), _DIGITS]
Before = Annotated[int, Query(ge=1, le=MAX_RUN, description="Only runs with a smaller number than this."), _DIGITS]
RunNumber = Annotated[int, Query(ge=1, le=MAX_RUN - 1, description="Number of the run."), _DIGITS]
BeforeNumber = Annotated[
    int, Query(ge=1, le=MAX_RUN, description="Only entries with a smaller number than this."), _DIGITS
]
TakedownNumber = Annotated[int, Query(ge=1, le=MAX_RUN, description="Number of the takedown."), _DIGITS]
What = Annotated[
    str, _text(2000, "A URL, an origin, the key of a row (SOURCE:KEY) or of a copy, a local URL, or a digest.")
]
Legal = Annotated[bool, Query(description="For legal reasons: 451 is answered, not 410.")]
Sure = Annotated[bool, Query(description="Remove more than 20 copies.")]
Rescued = Annotated[bool, Query(description="Only links whose copy came from elsewhere than the link.")]
FindingKind = Annotated[Fault | SkipJsonSchema[None], Query(description="Only findings of this kind.")]
RequiredOrigin = Annotated[str, _text(300, "The frozen origin, as it is listed.")]
Seconds = Annotated[int, Query(ge=1, le=31 * 86400, description="How long; never shortens a longer pause."), _DIGITS]


class FindingState(StrEnum):
    """Whether a fault is still there."""

    OPEN = "open"
    MENDED = "mended"


WhichFindings = Annotated[FindingState | SkipJsonSchema[None], Query(description="Only open or only mended findings.")]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A page of a list that is answered as a plain JSON array; its total is in the header X-Total-Count."""

    entries: Sequence[T]
    total: int


class StrictRoute(APIRoute):
    """A route that refuses what it would otherwise ignore: unknown, repeated and empty parameters, and bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which checks a request before anything else reads it."""
        handle = super().get_route_handler()
        known = [field.alias for field in self.dependant.query_params]

        async def checked(request: Request) -> Response:
            return _if_changed(request, await handle(_check(request, known)))

        return checked


def _if_changed(request: Request, response: Response) -> Response:
    """Return the response, or 304 if the client has it already (RFC 9110, section 13.1.2)."""
    etag, known = response.headers.get("etag"), request.headers.get("if-none-match")
    if request.method == "POST" or not etag or not known or not matches(known, frozenset({etag[2:]}), weakly=True):
        return response
    kept = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def _check(request: Request, known: Sequence[str]) -> Request:
    """Return the request, former names of parameters replaced by today's.

    Raises:
        ProblemError: the operation would ignore a part of it.
    """
    pairs = request.query_params.multi_items()
    given = [(_FORMER_NAMES[name] if _FORMER_NAMES.get(name) in known else name, value) for name, value in pairs]
    for name, count in Counter(name for name, _ in given).items():
        if name not in known:
            raise ProblemError(Problem.UNKNOWN_PARAMETER, name=name, known=", ".join(known) or Texts("none", "无"))
        if count > 1:
            raise ProblemError(Problem.REPEATED_PARAMETER, name=name)
    for name, value in given:
        if not value:
            raise _invalid(name, "string_too_short", {})
    headers = request.headers
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise ProblemError(Problem.BODY_NOT_ALLOWED)
    if given == pairs:
        return request
    return Request({**request.scope, "query_string": urlencode(given).encode()}, request.receive)


class JsonResponse(Response):
    """A value as JSON; caches may store it, but must ask each time whether it is still right."""

    media_type = "application/json"

    def __init__(self, value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> None:
        """Encode dataclasses, sequences, mappings, StrEnums, datetimes and what JSON has itself."""
        content = to_json(value)
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        validator = {"cache-control": "private, no-cache", "etag": f'W/"{digest}"'}  # weak: it may be compressed later
        super().__init__(content, status, {**validator, **(headers or {})})


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
        value = await operation(*args, **kwargs)
        if isinstance(value, Listing):
            return JsonResponse(value.entries, status, {"x-total-count": str(value.total)})
        return JsonResponse(value, status)

    return respond


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer what an operation raised."""
    assert isinstance(error, ProblemError)
    return problem_response(error, request.headers.get("accept-language", ""))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the router and the static files raise."""
    assert isinstance(error, HTTPException)
    problem, headers = ProblemError(Problem.UNKNOWN_PATH), dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(sorted(headers.get("Allow", "").split(", ")))  # RFC 9110, section 10.2.1
        problem = ProblemError(Problem.METHOD_NOT_ALLOWED, {"allow": allow}, allow=allow)
    return await on_problem(request, problem)


async def on_invalid_parameter(request: Request, error: Exception) -> Response:
    """Answer 400 to a parameter that breaks its rules."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    _, name, *_ = first["loc"]  # "query" comes first
    return await on_problem(request, _invalid(str(name), first["type"], {"said": first["msg"], **first.get("ctx", {})}))


_RULES = {  # by pydantic's type of error
    "missing": Texts("is required", "为必填项"),
    "string_too_short": Texts("is empty; leave it out instead", "为空；不需要时请省略该参数"),
    "string_too_long": Texts("has more than {max_length} characters", "超过 {max_length} 个字符"),
    "string_pattern_mismatch": Texts("has a character that is not allowed here", "含有不允许的字符"),
    "digits": Texts("is not a whole number, written in digits", "不是用数字书写的整数"),
    "greater_than_equal": Texts("is less than {ge}", "小于 {ge}"),
    "less_than_equal": Texts("is more than {le}", "大于 {le}"),
    "enum": Texts("is none of {expected}", "不是以下取值之一：{expected}"),
    "bool_parsing": Texts("is neither true nor false", "不是 true 或 false"),
    "host": Texts(
        "is not the name or address of a host, without scheme, port and path",
        "不是主机名或地址（不含协议、端口和路径）",
    ),
}


def invalid_host() -> ProblemError:
    """Return the problem of a parameter that should name a host."""
    return _invalid("host", "host", {})


def _invalid(name: str, rule: str, values: Mapping[str, object]) -> ProblemError:
    texts = _RULES.get(rule, Texts("{said}", "{said}"))
    fault = Texts(texts.english.format(**values), texts.chinese.format(**values))
    return ProblemError(Problem.INVALID_PARAMETER, name=name, fault=fault)


async def on_operator_error(request: Request, error: Exception) -> Response:
    """Answer 503 while the database or the store cannot be used; only actions, which need the token, name the cause."""
    assert isinstance(error, OperatorError)
    logger.warning("not answered path=%s error=%r", request.url.path, str(error))
    if request.method == "POST" and not isinstance(error, CatalogueError):
        return await on_problem(request, ProblemError(Problem.STOPPED, cause=str(error)))
    return await on_problem(request, ProblemError(Problem.UNAVAILABLE))
