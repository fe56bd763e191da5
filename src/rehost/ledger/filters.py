"""Which links and hosts a report lists, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, or_

from rehost.db import root_of
from rehost.ledger.schema import links
from rehost.model import Reason, State


class LinkOrder(StrEnum):
    """How links are sorted; equal ones, and those without the value, by entry."""

    ENTRY = "entry"
    NEWEST = "-entry"
    ROW_KEY = "row_key"
    NEXT_DUE = "due_at"
    LAST_VISITED = "-visited_at"
    LAST_HELD = "-held_at"
    LARGEST = "-size"
    MOST_ATTEMPTS = "-attempts"


class HostOrder(StrEnum):
    """How hosts are sorted: by name, or by a count of links, the most first."""

    PRESENT = "present"
    HELD = "held"
    FAILED = "failed"
    DUE = "due"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class LinkFilter:
    """Which links to show; None asks for any."""

    source: str | None = None
    state: State | None = None
    reason: Reason | None = None
    host: str | None = None
    roots: Sequence[str] | None = None  # beginnings of URLs, as in RootReport
    text: str | None = None  # part of the row's key or of the link, in upper or lower case
    keys: Sequence[str] = ()  # of rows whose titles match `text`; they match too
    is_rescued: bool = False  # only copies that came from elsewhere than their links


def of_hosts(source: str | Collection[str], text: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions that a link is of a source or of several, and of a host whose name contains the text."""
    found = [links.c.host.icontains(text, autoescape=True)] if text else []
    names = [source] if isinstance(source, str) else source
    return [links.c.source.in_(names), links.c.present, *found]


def conditions(which: LinkFilter) -> list[ColumnElement[bool]]:
    """Return the conditions that a link passes the filter."""
    exact = {
        links.c.source: which.source,
        links.c.state: which.state,
        links.c.reason: which.reason,
        links.c.host: which.host,
    }
    passing = [column == str(value) for column, value in exact.items() if value is not None]
    if which.roots is not None:
        passing.append(root_of(links.c.url, links.c.page_url).in_(which.roots))
    if which.is_rescued:
        passing.append(links.c.rescued.is_not(None))
    if which.text:
        found = [column.icontains(which.text, autoescape=True) for column in (links.c.row_key, links.c.url)]
        passing.append(or_(*found, links.c.row_key.in_(which.keys)))
    return passing
