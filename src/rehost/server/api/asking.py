"""What a request may ask for in its query string: read strictly, and told in the contract in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from rehost.server.api.shapes import Json

E = TypeVar("E", bound=StrEnum)


class AskedWronglyError(Exception):
    """A parameter is not what it may be; the message says so to whoever asked."""


class Parameter(Protocol):
    """One part of the query string."""

    def contract(self) -> Mapping[str, Json]:
        """Return the parameter as OpenAPI has it."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """Some text."""

    name: str
    about: str
    longest: int = 500

    def read(self, query: Mapping[str, str]) -> str | None:
        """Return the text; None where there is none, or an empty one.

        Raises:
            AskedWronglyError: it is too long, or has a NUL in it, which no database takes.
        """
        text = query.get(self.name, "")
        if len(text) > self.longest or "\0" in text:
            raise AskedWronglyError(f"{self.name} is text of at most {self.longest} characters, without NUL.")
        return text or None

    def need(self, query: Mapping[str, str]) -> str:
        """Return the text.

        Raises:
            AskedWronglyError: there is none.
        """
        text = self.read(query)
        if text is None:
            raise AskedWronglyError(f"{self.name} must be given.")
        return text

    def contract(self) -> Mapping[str, Json]:
        """Return the parameter as OpenAPI has it."""
        return _contract(self.name, self.about, {"type": "string", "maxLength": self.longest})


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between bounds."""

    name: str
    about: str
    least: int
    most: int
    default: int

    def read(self, query: Mapping[str, str]) -> int:
        """Return the number.

        Raises:
            AskedWronglyError: it is none, or out of bounds.
        """
        text = query.get(self.name, "")
        if not text:
            return self.default
        if text.isascii() and text.isdigit() and len(text) <= len(str(self.most)):
            number = int(text)
            if self.least <= number <= self.most:
                return number
        raise AskedWronglyError(f"{self.name} is a whole number from {self.least} to {self.most}.")

    def contract(self) -> Mapping[str, Json]:
        """Return the parameter as OpenAPI has it."""
        bounds: Mapping[str, Json] = {
            "type": "integer",
            "minimum": self.least,
            "maximum": self.most,
            "default": self.default,
        }
        return _contract(self.name, self.about, bounds)


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """One of some words."""

    name: str
    about: str
    kind: type[E]

    def read(self, query: Mapping[str, str]) -> E | None:
        """Return the word; None where there is none.

        Raises:
            AskedWronglyError: it is another one.
        """
        text = query.get(self.name, "")
        if not text:
            return None
        if text not in {each.value for each in self.kind}:
            raise AskedWronglyError(f"{self.name} is one of: {', '.join(each.value for each in self.kind)}.")
        return self.kind(text)

    def contract(self) -> Mapping[str, Json]:
        """Return the parameter as OpenAPI has it."""
        return _contract(self.name, self.about, {"type": "string", "enum": [each.value for each in self.kind]})


def _contract(name: str, about: str, kind: Mapping[str, Json]) -> Mapping[str, Json]:
    return {"name": name, "in": "query", "description": about, "schema": kind}


POSITION = Whole("position", "Place of the link within its cell.", 0, 2**31 - 1, 0)
"""With the row's key it names one link; wherever a link is asked for, it is the same."""
