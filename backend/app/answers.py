"""The envelope of every response: {"code", "message", "data"}, and "errors" if there are any."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")


class Answer(BaseModel, Generic[T]):
    """The response to a successful request."""

    code: int = 200
    message: str = "success"
    data: T


class Fault(BaseModel):
    """One error in a request."""

    field: str | None = None
    message: str


class Refusal(BaseModel):
    """An error; `code` is the HTTP status."""

    code: int
    message: str
    data: None = None
    errors: list[Fault] = Field(default_factory=list)
