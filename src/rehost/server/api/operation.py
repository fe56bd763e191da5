"""One thing that the API can do: its place, its parameters and its answer, for the router and for the contract."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rehost.errors import CatalogueError, OperatorError
from rehost.server.api.asking import AskedWronglyError, Parameter
from rehost.server.api.auth import objection
from rehost.server.api.shapes import to_json

logger = logging.getLogger(__name__)

AWAY = "The database or the store cannot be used just now; rehost's log says why."


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no other answer."""

    error: str


class NothingThereError(Exception):
    """What was asked for does not exist; the message says so."""


class BusyError(Exception):
    """It cannot be done now; the message says why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    does: Callable[[Mapping[str, str]], Awaitable[object]]
    answer: object  # the type of what `does` returns
    parameters: tuple[Parameter, ...] = ()
    status: int = 200

    @property
    def is_action(self) -> bool:
        """Tell whether it changes anything, and needs the token."""
        return self.method == "POST"

    def route(self, token: str) -> Route:
        """Return the operation as a route."""

        async def answer(request: Request) -> Response:
            refused = objection(request.headers, token) if self.is_action else None
            if refused is not None:
                return trouble(*refused)
            return await self._respond(request)

        return Route(self.path, answer, methods=[self.method])

    async def _respond(self, request: Request) -> Response:
        try:
            return reply(await self.does(request.query_params), self.status)
        except AskedWronglyError as error:
            return trouble(HTTPStatus.BAD_REQUEST, str(error))
        except NothingThereError as error:
            return trouble(HTTPStatus.NOT_FOUND, str(error))
        except BusyError as error:
            return trouble(HTTPStatus.CONFLICT, str(error))
        except OperatorError as error:
            logger.warning("not answered path=%s error=%r", self.path, str(error))
            shown = str(error) if self.is_action and not isinstance(error, CatalogueError) else AWAY
            return trouble(HTTPStatus.SERVICE_UNAVAILABLE, shown)


def reply(value: object, status: int = 200) -> Response:
    """Return a value as JSON; nobody is to keep it."""
    return Response(to_json(value), status, {"cache-control": "no-store"}, "application/json")


def trouble(status: int, sentence: str) -> Response:
    """Return a refusal in one sentence."""
    response = reply(Trouble(sentence), status)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"  # RFC 6750, section 3
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["retry-after"] = "10"
    return response
