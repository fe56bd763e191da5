"""What every answer looks like: {"code", "message", "data"}, and "errors" where there are any."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")


class Answer(BaseModel, Generic[T]):
    """A success."""

    code: int = 200
    message: str = "success"
    data: T


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str | None = None
    message: str


class Refusal(BaseModel):
    """An error; `code` is the HTTP status."""

    code: int
    message: str
    data: None = None
    errors: list[Fault] = Field(default_factory=list)
