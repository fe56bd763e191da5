"""Errors as responses: the front end always gets the same envelope, with the HTTP status as `code`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.answers import Fault, Refusal
from app.database import DatabaseRefusal, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def answer_errors(app: FastAPI) -> None:
    """Make `app` answer every error in the envelope."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(DatabaseRefusal, _refused)
    app.add_exception_handler(Exception, _unexpected)


def _answer(
    status: int, message: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    refusal = Refusal(code=status, message=message, errors=list(faults) or [Fault(message=message)])
    return JSONResponse({"data": None, **refusal.model_dump(exclude_none=True)}, status, headers)


def misdirected(sentence: str) -> JSONResponse:
    """Return the response to a request for another host."""
    return _answer(HTTPStatus.MISDIRECTED_REQUEST, sentence)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(field=".".join(str(part) for part in each["loc"][1:]) or None, message=each["msg"])
        for each in error.errors()
    ]
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, "The request is not valid", faults)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, error.detail, headers=error.headers)


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "5"})


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))


async def _unexpected(_: Request, __: Exception) -> JSONResponse:
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed on this request; its log has the details")
