"""Errors as responses: the front end always gets the same envelope, with the HTTP status as `code`.

Messages are in Chinese where the request is: by its Accept-Language or, without one, by its URL.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import rehost
from app.answers import Fault, Refusal
from app.database import DatabaseRefusal, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


CHINESE = {
    "Semantic search is not implemented here: use keyword": "此处未实现语义搜索：请使用 keyword",
    "The request is not valid": "请求无效",
    "Not Found": "不存在",
    "Method Not Allowed": "不支持此请求方法",
    "The server failed on this request; its log has the details": "服务器处理此请求时出错，详情见其日志",
    "The database cannot process one of the values": "数据库无法处理其中的某个值",
    "The database has no table ad_cases: run database/init.sql": "数据库中没有 ad_cases 表：请执行 database/init.sql",
    "The database denies access to DB_USER: check DB_USER and DB_PASSWORD": (
        "数据库拒绝 DB_USER 访问：请检查 DB_USER 和 DB_PASSWORD"
    ),
    "The server has no database with this name: check DB_NAME": "服务器上没有此名称的数据库：请检查 DB_NAME",
    "The database does not answer: check DB_HOST and DB_PORT": "数据库没有响应：请检查 DB_HOST 和 DB_PORT",
}
_NO_CASE = re.compile(r"There is no case (\d+)")
_HAN = re.compile("[\u4e00-\u9fff]")


def answer_errors(app: FastAPI) -> None:
    """Make `app` answer every error in the envelope."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.add_exception_handler(DatabaseRefusal, _refused)
    app.add_exception_handler(Exception, _unexpected)


def _in_language_of(request: Request, message: str) -> str:
    """Return a message in the language of a request."""
    accepted = request.headers.get("accept-language")
    is_chinese = rehost.prefers_chinese(accepted) if accepted else _HAN.search(str(request.query_params.multi_items()))
    if not is_chinese:
        return message
    no_case = _NO_CASE.fullmatch(message)
    return f"没有案例 {no_case[1]}" if no_case else CHINESE.get(message, message)


def _answer(
    status: int, message: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    refusal = Refusal(code=status, message=message, errors=list(faults) or [Fault(message=message)])
    return JSONResponse({"data": None, **refusal.model_dump(exclude_none=True)}, status, headers)


def misdirected(sentence: str) -> JSONResponse:
    """Return the response to a request for another host."""
    return _answer(HTTPStatus.MISDIRECTED_REQUEST, sentence)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(field=".".join(str(part) for part in each["loc"][1:]) or None, message=each["msg"])
        for each in error.errors()
    ]
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, _in_language_of(request, "The request is not valid"), faults)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, _in_language_of(request, error.detail), headers=error.headers)


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, _in_language_of(request, str(error)), headers={"Retry-After": "5"})


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, _in_language_of(request, str(error)))


async def _unexpected(request: Request, _: Exception) -> JSONResponse:
    message = "The server failed on this request; its log has the details"
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, _in_language_of(request, message))
