"""What the ledger knows of one picture, in the order of time; read-only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, and_, or_, select

from rehost.db import Database
from rehost.http.url import read_origin
from rehost.ledger.leases import is_place
from rehost.ledger.rescues import is_dead
from rehost.ledger.schema import STATES, changes, findings, freezes, links, runs, takedowns, tombstones, visits
from rehost.model import State

MOST = 20  # links of one question, and twins of one link
MOST_EVENTS = 200  # of each kind, the last ones; a link has fewer visits


class What(StrEnum):
    """What happened to a picture."""

    NOTED = "noted"  # a run saw the link for the first time
    LINK_CHANGED = "link-changed"
    VISITED = "visited"
    ROW_CHANGED = "row-changed"
    UNDONE = "undone"
    RESCUED = "rescued"
    VERIFIED = "verified"
    FOUND = "found"  # a fault
    MENDED = "mended"
    FROZEN = "frozen"  # its origin
    DECIDED = "decided"  # what becomes of that
    TAKEN_DOWN = "taken-down"
    ALLOWED = "allowed"  # the takedown was taken back


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """Something that happened to a picture."""

    at: datetime
    what: What
    word: str | None = None  # of a visit its outcome, of a fault its kind, of a decision accept or keep, ...
    reason: str | None = None
    evidence: str | None = None
    run: int | None = None
    verb: str | None = None  # of that run; None for `rehost run`
    times: int = 1  # visits that ended alike
    until: datetime | None = None  # the last of them
    before: str | None = None  # local URL, or None for an empty column
    after: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """A link as the ledger has it now."""

    entry: int
    source: str
    row_key: str
    position: int
    url: str
    page_url: str | None
    host: str
    present: bool
    state: State
    attempts: int
    reason: str | None
    evidence: str | None
    due_at: datetime
    visited_at: datetime | None
    waits_for: str | None
    key: str | None
    digest: str | None
    size: int | None
    held_url: str | None
    final_url: str | None
    local_url: str | None
    format: str | None
    width: int | None
    height: int | None
    frames: int | None
    damage: str | None
    held_at: datetime | None
    verified_at: datetime | None
    rescued: str | None

    @property
    def origin(self) -> str:
        """Return scheme://host[:port], or an empty text if the link is no valid URL."""
        return read_origin(self.url, self.page_url)


@dataclass(frozen=True, slots=True)
class Stories:
    """Reads what happened to pictures."""

    database: Database

    async def of_row(self, row_key: str, sources: Collection[str]) -> Sequence[KnownPicture]:
        """Return the links of the rows with this key."""
        return await self._pictures(and_(links.c.row_key == row_key, links.c.source.in_(sources)))

    async def of_url(self, url: str, sources: Collection[str]) -> Sequence[KnownPicture]:
        """Return the links with this URL, or with a copy that came from it."""
        is_its = or_(links.c.url == url, links.c.held_url == url, links.c.final_url == url)
        return await self._pictures(and_(is_its, links.c.source.in_(sources)))

    async def of_file(self, key: str, places: Collection[tuple[str, str, int]]) -> Sequence[KnownPicture]:
        """Return the links whose copy has this key in the store; if there are none, those at these places."""
        found = await self._pictures(links.c.key == key)
        return found or (await self._pictures(or_(*(is_place(*place) for place in places))) if places else ())

    async def _pictures(self, condition: ColumnElement[bool]) -> Sequence[KnownPicture]:
        columns = [links.c[name] for name in KnownPicture.__dataclass_fields__]
        query = select(*columns).where(condition).order_by(links.c.entry).limit(MOST)
        rows = await self.database.fetch_all(query, slow=True)
        return [KnownPicture(**row._asdict() | {"state": STATES[row.state]}) for row in rows]

    async def is_dead(self, picture: KnownPicture) -> bool:
        """Return whether a link has failed so often, for so long, that a rescue is due."""
        query = select(links.c.entry).where(links.c.entry == picture.entry, is_dead())
        return bool(await self.database.fetch_all(query))

    async def twins(self, picture: KnownPicture) -> Sequence[tuple[str, str, int]]:
        """Return up to MOST other links with the same bytes: source, row key, position."""
        if picture.digest is None:
            return []
        query = select(links.c.source, links.c.row_key, links.c.position).where(
            links.c.digest == picture.digest, links.c.entry != picture.entry, links.c.present
        )
        return [tuple(row) for row in await self.database.fetch_all(query.order_by(links.c.entry).limit(MOST))]

    async def events(self, picture: KnownPicture) -> Sequence[StoryEvent]:
        """Return what happened to a picture, in the order of time."""
        found = [
            *await self._own(picture),
            *await self._visits(picture),
            *await self._changes(picture),
            *await self._findings(picture),
            *await self._freezes(picture),
            *await self._takedowns(picture),
        ]
        return sorted(found, key=lambda event: event.at)

    async def _own(self, picture: KnownPicture) -> list[StoryEvent]:
        query = select(links.c.noted_at, links.c.changed_at).where(links.c.entry == picture.entry)
        noted_at, changed_at = (await self.database.fetch_all(query))[0]
        found = [StoryEvent(noted_at, What.NOTED, evidence=None if changed_at else picture.url)]
        if changed_at is not None:
            found.append(StoryEvent(changed_at, What.LINK_CHANGED, evidence=picture.url))
        if picture.rescued and picture.held_at:
            found.append(StoryEvent(picture.held_at, What.RESCUED, evidence=picture.rescued, digest=picture.digest))
        if picture.verified_at is not None and picture.verified_at != picture.held_at:
            found.append(StoryEvent(picture.verified_at, What.VERIFIED, digest=picture.digest))
        return found

    async def _visits(self, picture: KnownPicture) -> list[StoryEvent]:
        query = select(visits, runs.c.verb).join_from(visits, runs, runs.c.run == visits.c.run, isouter=True)
        rows = await self.database.fetch_all(query.where(visits.c.entry == picture.entry))
        return [
            StoryEvent(
                row.first_at,
                What.VISITED,
                row.outcome,
                row.reason,
                row.evidence,
                row.run,
                row.verb,
                times=row.times,
                until=row.last_at if row.times > 1 else None,
                digest=row.digest,
            )
            for row in rows
        ]

    async def _changes(self, picture: KnownPicture) -> list[StoryEvent]:
        is_its = [changes.c[name] == getattr(picture, name) for name in ("source", "row_key", "position")]
        query = select(changes, runs.c.verb, runs.c.undone_at)
        query = query.join_from(changes, runs, runs.c.run == changes.c.run, isouter=True).where(*is_its)
        rows = await self.database.fetch_all(query.order_by(changes.c.change.desc()).limit(MOST_EVENTS))
        found = [
            StoryEvent(
                row.changed_at,
                What.ROW_CHANGED,
                "lost" if row.lost else None,
                run=row.run,
                verb=row.verb,
                before=row.before_url,
                after=row.after_url,
                digest=row.after_digest,
            )
            for row in rows
            if row.before_url != row.after_url or row.before_digest != row.after_digest
        ]
        undone = {row.run: row.undone_at for row in rows if row.undone_at is not None}
        return found + [StoryEvent(at, What.UNDONE, run=run) for run, at in undone.items()]

    async def _findings(self, picture: KnownPicture) -> list[StoryEvent]:
        is_its = [findings.c[name] == getattr(picture, name) for name in ("source", "row_key", "position")]
        query = select(findings).where(*is_its).order_by(findings.c.finding.desc()).limit(MOST_EVENTS)
        found = []
        for row in await self.database.fetch_all(query):
            until = row.last_at if row.last_at != row.found_at else None
            found.append(StoryEvent(row.found_at, What.FOUND, row.kind, evidence=row.evidence, until=until))
            if row.mended_at is not None:
                found.append(StoryEvent(row.mended_at, What.MENDED, row.mended_by, reason=row.kind, run=row.run))
        return found

    async def _freezes(self, picture: KnownPicture) -> list[StoryEvent]:
        query = select(freezes).where(freezes.c.origin == picture.origin)
        found = []
        for row in await self.database.fetch_all(query):
            found.append(StoryEvent(row.frozen_at, What.FROZEN, row.origin, evidence=row.evidence, run=row.run))
            if row.decided_at is not None:
                found.append(StoryEvent(row.decided_at, What.DECIDED, row.decision, evidence=row.origin))
        return found

    async def _takedowns(self, picture: KnownPicture) -> list[StoryEvent]:
        marks = [("url", picture.url), ("url", picture.held_url), ("origin", picture.origin)]
        marks += [("digest", picture.digest), ("key", picture.key)]
        given = self.database.given({"kind": Text(), "value": Text()}, [mark for mark in marks if mark[1]])
        is_named = and_(tombstones.c.kind == given.c.kind, tombstones.c.value == given.c.value)
        numbers = select(tombstones.c.takedown).join_from(given, tombstones, is_named)
        condition: ColumnElement[bool] = takedowns.c.takedown.in_(numbers)
        if number := _takedown_of(picture):
            condition = or_(condition, takedowns.c.takedown == number)
        found = []
        for row in await self.database.fetch_all(select(takedowns).where(condition)):
            found.append(_taken_down(row))
            if row.allowed_at is not None:
                found.append(StoryEvent(row.allowed_at, What.ALLOWED, evidence=row.what))
        return found


def _takedown_of(picture: KnownPicture) -> int | None:
    """Return the number of the takedown that the evidence of a link names."""
    word, _, number = (picture.evidence or "").partition(" ")
    return int(number) if picture.reason == "taken-down" and word == "takedown" and number.isdigit() else None


def _taken_down(row: Row[*tuple[Any, ...]]) -> StoryEvent:
    return StoryEvent(row.began_at, What.TAKEN_DOWN, "451" if row.legal else "410", evidence=row.what)
