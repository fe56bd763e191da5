"""Defers the due links of a host, an origin or a folder that is paused: unvisited, each kind in one statement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Update, and_, case, func, not_, or_, select, update

from rehost.db import Database, after, now, root_of
from rehost.http.url import read_folder, read_origin
from rehost.ledger.leases import FAILED, MOST_ROOTS, attempts_before, is_due, is_kept, is_open, is_place, is_taken_down
from rehost.ledger.schema import links
from rehost.model import Reason, State, Task

MOST_SPELLINGS = 20
"""Spellings of a folder that are read at once."""

_FOLDER = re.compile(r"[^/\\]*\Z")  # what follows the last slash


@dataclass(frozen=True, slots=True)
class Deferrals:
    """Lets links wait for the end of a pause, across all workers."""

    database: Database

    async def defer_host(self, source: str, host: str, reason: Reason, evidence: str, wait_seconds: float) -> int:
        """Defer all due links of one host, which is paused, unvisited, in one statement; return how many."""
        deferring = _deferring(host, reason, evidence, wait_seconds)
        is_theirs = and_(links.c.source == source, links.c.host == host, is_due(links))
        return await self.database.execute(deferring.where(is_theirs), slow=True)

    async def defer_origin(
        self, tasks: Sequence[Task], reason: Reason, evidence: str, wait_seconds: float
    ) -> int | None:
        """Defer these links, which are of one origin and not leased, and the due ones of the same origin, unvisited.

        Those are found by what their URLs begin with, as written; the most frequent MOST_ROOTS beginnings are read.

        Returns:
            how many links were deferred; None, and nothing is written, if all due links of the host are of this origin.
        """
        first = tasks[0]
        is_theirs = and_(links.c.source == first.link.source, links.c.host == first.host, is_due(links))
        root = root_of(links.c.url, links.c.page_url)
        query = select(root.label("root")).where(is_theirs).group_by(root).order_by(func.count().desc())
        roots = [row.root for row in await self.database.fetch_all(query.limit(MOST_ROOTS), slow=True)]
        same = [each for each in roots if read_origin(each) == first.origin]
        if len(same) == len(roots) < MOST_ROOTS:
            return None
        is_same = or_(root.in_(same), links.c.entry.in_([task.entry for task in tasks]))
        deferring = _deferring(first.origin, reason, evidence, wait_seconds)
        return await self.database.execute(deferring.where(is_theirs, is_same), slow=True)

    async def defer_folder(
        self, tasks: Sequence[Task], reason: Reason, evidence: str, wait_seconds: float
    ) -> int | None:
        """Defer these links, which are of one folder and not leased, and the due ones that are spelled like them.

        Returns:
            how many links were deferred; None, and nothing is written, if all due links of the host are of this folder.
        """
        first = tasks[0]
        is_theirs = and_(links.c.source == first.link.source, links.c.host == first.host, is_due(links))
        spelled = sorted({_FOLDER.sub("", task.link.url.partition("?")[0]) for task in tasks} - {""})[:MOST_SPELLINGS]
        below = [and_(links.c.url.startswith(each, autoescape=True), _has_no_slash_after(each)) for each in spelled]
        own = or_(links.c.entry.in_([task.entry for task in tasks]), *below)
        other = select(links.c.entry).where(is_theirs, not_(own)).limit(1)
        if not await self.database.fetch_all(other, slow=True):
            return None
        name = read_folder(first.link.url, first.link.page_url)
        deferring = _deferring(name, reason, evidence, wait_seconds)
        return await self.database.execute(deferring.where(is_theirs, own), slow=True)

    async def forget_waits(self, source: str, reason: str | None = None) -> int:
        """Make deferred and refused links (of one reason, or all) due now, as if never visited; return how many."""
        forgetting = _forgetting().where(links.c.source == source, links.c.due_at > now())
        if reason is not None:
            forgetting = forgetting.where(links.c.reason == reason)
        return await self.database.execute(forgetting, slow=True)

    async def forget_wait(self, source: str, row_key: str, position: int = 0) -> int:
        """Make one deferred or refused link due now, as if never visited; return 1, or 0 if it is neither."""
        return await self.database.execute(_forgetting().where(is_place(source, row_key, position)))


def _has_no_slash_after(beginning: str) -> ColumnElement[bool]:
    return not_(func.substr(links.c.url, len(beginning) + 1).contains("/"))


def _forgetting() -> Update:
    forgetting = update(links).values(due_at=now(), attempts=0)
    return forgetting.where(is_open(links), links.c.state.in_(FAILED), not_(is_taken_down()))


def _deferring(name: str, reason: Reason, evidence: str, wait_seconds: float) -> Update:
    """Return the statement that lets links wait for a pause; those that were visited keep what their visit found."""
    is_new = or_(links.c.visited_at.is_(None), links.c.reason.is_(None))
    is_ended = links.c.state == State.LEASED.value  # only due links are deferred: its worker has died
    values: dict[str, Any] = {
        "state": case(
            (and_(is_ended, is_kept()), State.HELD.value),
            (links.c.state == State.REFUSED.value, links.c.state),
            else_=State.DEFERRED.value,
        ),
        "reason": case((is_new, reason.value), else_=links.c.reason),
        "evidence": case((is_new, evidence), else_=links.c.evidence),
        "waits_for": name,
        "attempts": case((is_ended, attempts_before()), else_=links.c.attempts),
    }
    return update(links).values(values | {"due_at": after(wait_seconds), "fence": links.c.fence + 1})
