"""Which held links a refresh asks for again, and the origins that froze: what they sent, and what the operator decided.

An origin freezes when many of its answers would make copies worse (upkeep/refresh.py). Until the operator decides, and
after `keep`, no refresh asks it. After `accept`, what it sends for links that were asked for before is right.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    Row,
    Text,
    and_,
    case,
    delete,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
    update,
)

from rehost.db import Connection, Database, after, now, root_of
from rehost.http.url import host_of, read_origin
from rehost.ledger.leases import MOST_ROOTS
from rehost.ledger.schema import answers, freezes, links, visits
from rehost.model import State

GROUP = 1000  # links that are read at once

COUNTED_SECONDS = 30 * 86_400.0
"""For so long answers count, of refreshes that each ask for a few links."""


class Decision(StrEnum):
    """What the operator decided about a frozen origin."""

    ACCEPT = "accept"  # what it sends is right
    KEEP = "keep"  # the held copies stay, and it is asked no more


@dataclass(frozen=True, slots=True)
class Picture:
    """What is held, or what came, as far as it is known."""

    size: int  # bytes
    digest: str
    width: int | None = None  # pixels
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A link of a frozen origin: what is held of it, and what came in its place."""

    source: str
    row_key: str
    position: int
    url: str
    held: Picture
    came: Picture | None  # None if no picture came
    kind: str  # why that is worse: smaller, same-picture, or a Reason
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Freeze:
    """An origin that froze in a refresh."""

    origin: str  # scheme://host[:port]
    run: int  # the refresh
    evidence: str
    answers: int
    bad: int
    examples: Sequence[Example]
    frozen_at: datetime | None = None
    decision: Decision | None = None
    decided_at: datetime | None = None

    @property
    def host(self) -> str:
        """Return the origin's host."""
        return host_of(self.origin)

    @property
    def is_open(self) -> bool:
        """Return whether the operator has not decided yet."""
        return self.decision is None


@dataclass(frozen=True, slots=True)
class Standing:
    """Which origins are not asked, and of which all is accepted that they send for links asked for before."""

    frozen: set[str]  # undecided, or to be kept; more come while a refresh goes on
    accepted: Mapping[str, datetime]  # by when

    def is_accepted(self, origin: str, asked_at: datetime | None) -> bool:
        """Return whether what an origin sends for a link is right, which was asked for last at this time."""
        decided_at = self.accepted.get(origin)
        return decided_at is not None and (asked_at is None or asked_at < decided_at)


@dataclass(frozen=True, slots=True)
class Former:
    """What the ledger knows of a link's copy, beyond what its task has."""

    width: int | None
    height: int | None
    asked_at: datetime | None
    is_rescued: bool  # not its origin's
    reason: str | None  # why the visit before brought no picture, if it brought none


@dataclass(frozen=True, slots=True)
class RefreshFilter:
    """Which links to ask for: held ones that were not asked for lately; empty collections leave nothing out."""

    older_seconds: float
    hosts: Collection[str] = ()
    keys: Collection[str] = ()  # of rows


@dataclass(slots=True)
class Freezes:
    """The frozen origins, and the links that a refresh asks for."""

    database: Database
    _roots: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)  # by source and origin

    # --- what froze

    async def all(self) -> Sequence[Freeze]:
        """Return every freeze, the last one first."""
        query = select(freezes).order_by(freezes.c.frozen_at.desc(), freezes.c.origin)
        return [_freeze(row) for row in await self.database.fetch_all(query)]

    async def standing(self) -> Standing:
        """Return what the freezes and the operator's decisions mean for a refresh that begins now."""
        every = await self.all()
        accepted = {each.origin: each.decided_at for each in every if each.decision is Decision.ACCEPT}
        accepted_at = {origin: at for origin, at in accepted.items() if at is not None}
        return Standing({each.origin for each in every} - accepted_at.keys(), accepted_at)

    async def add(self, freeze: Freeze) -> None:
        """Remember that an origin froze, in place of an earlier freeze and its decision."""
        values = {
            "run": freeze.run,
            "frozen_at": now(),
            "evidence": freeze.evidence,
            "answers": freeze.answers,
            "bad": freeze.bad,
            "examples": json.dumps([asdict(each) for each in freeze.examples], ensure_ascii=False),
            "decision": None,
            "decided_at": None,
        }
        adding = self.database.insert(freezes).values(origin=freeze.origin, **values)

        async def work(connection: Connection) -> None:
            await connection.execute(adding.on_conflict_do_update(index_elements=[freezes.c.origin], set_=values))
            await connection.execute(delete(answers).where(answers.c.origin == freeze.origin))

        await self.database.transact(work)

    async def end_accepted(self) -> None:
        """Forget the freezes that were accepted, and whose links have all been asked for since."""
        for origin, decided_at in (await self.standing()).accepted.items():
            root = root_of(links.c.url, links.c.page_url)
            query = select(root.label("root")).where(
                *(links.c.host == host_of(origin), links.c.present, links.c.state == State.HELD.value),
                *(links.c.held_url == links.c.url, _asked_at() < decided_at),
            )
            rows = await self.database.fetch_all(query.group_by(root).limit(MOST_ROOTS), slow=True)
            if not any(read_origin(row.root or "") == origin for row in rows):
                is_accepted = freezes.c.decision == Decision.ACCEPT.value
                await self.database.execute(delete(freezes).where(freezes.c.origin == origin, is_accepted))

    async def answers_before(self, origin: str) -> tuple[int, int]:
        """Return how many answers an origin gave to earlier refreshes of these weeks, and how many were worse."""
        query = select(answers.c.answers, answers.c.bad).where(answers.c.origin == origin)
        rows = await self.database.fetch_all(query.where(answers.c.since > after(-COUNTED_SECONDS)))
        return (rows[0].answers, rows[0].bad) if rows else (0, 0)

    async def add_answers(self, given: Sequence[tuple[str, int, int]]) -> None:
        """Add what origins answered in a refresh: each origin, its answers, and how many were worse."""
        if not given:
            return
        added = self.database.given({"origin": Text(), "answers": BigInteger(), "bad": BigInteger()}, given)
        query = select(added.c.origin, now(), added.c.answers, added.c.bad).where(literal(value=True))
        adding = self.database.insert(answers).from_select(["origin", "since", "answers", "bad"], query)
        is_old = answers.c.since <= after(-COUNTED_SECONDS)
        new = adding.excluded
        sums = {name: case((is_old, new[name]), else_=answers.c[name] + new[name]) for name in ("answers", "bad")}
        since = {"since": case((is_old, new.since), else_=answers.c.since)}
        await self.database.execute(adding.on_conflict_do_update(index_elements=[answers.c.origin], set_=sums | since))

    async def decide(self, origins: Sequence[str], decision: Decision) -> None:
        """Remember the operator's decision about these origins."""
        deciding = update(freezes).values(decision=decision.value, decided_at=now())
        await self.database.execute(deciding.where(freezes.c.origin.in_(origins)))

    # --- what a refresh asks for

    async def due(self, source: str, which: RefreshFilter, standing: Standing) -> AsyncIterator[Sequence[int]]:
        """Yield the held links of a source to ask for, those first that were not asked for longest, in groups.

        Args:
            source: its name.
            which: the filter.
            standing: links of frozen origins are left out; those of accepted ones are due if they were asked for
                before the decision.
        """
        asked, last = _asked_at(), None
        order = type_coerce(asked, Float()) if self.database.is_sqlite else asked  # exact, so that nothing comes twice
        while True:
            passing = await self._conditions(source, which, standing)
            if last is not None:
                passing.append(or_(order > last[0], and_(order == last[0], links.c.entry > last[1])))
            query = select(links.c.entry, order.label("asked")).where(*passing)
            query = query.order_by(order, links.c.entry).limit(GROUP)
            rows = await self.database.fetch_all(query, slow=True)
            if not rows:
                return
            last = (rows[-1].asked, rows[-1].entry)
            yield [row.entry for row in rows]

    async def count(self, source: str, which: RefreshFilter, standing: Standing) -> Mapping[str, int]:
        """Return how many links `due` would yield of each host, the most first."""
        number = func.count().label("number")
        query = select(links.c.host, number).where(*await self._conditions(source, which, standing))
        query = query.group_by(links.c.host).order_by(number.desc(), links.c.host)
        return {row.host: row.number for row in await self.database.fetch_all(query, slow=True)}

    async def former(self, entry: int) -> Former:
        """Return what is known of the copy of one link, and of the visit before this one."""
        last = select(visits.c.reason).where(visits.c.entry == links.c.entry).order_by(visits.c.turn.desc()).limit(1)
        query = select(
            *(links.c.width, links.c.height, _asked_at(), links.c.rescued.is_not(None), last.scalar_subquery())
        ).where(links.c.entry == entry)
        return Former(*(await self.database.fetch_all(query))[0])

    async def _conditions(self, source: str, which: RefreshFilter, standing: Standing) -> list[ColumnElement[bool]]:
        columns, asked = links.c, _asked_at()
        at_once = [
            and_(await self._is_of(source, origin), asked < decided_at)
            for origin, decided_at in standing.accepted.items()
        ]
        passing = [
            columns.source == source,
            columns.present,
            columns.state == State.HELD.value,
            columns.held_url == columns.url,
            or_(asked < after(-which.older_seconds), *at_once),
        ]
        if which.hosts:
            passing.append(columns.host.in_(which.hosts))
        if which.keys:
            passing.append(columns.row_key.in_(which.keys))
        return [*passing, *[not_(await self._is_of(source, origin)) for origin in sorted(standing.frozen)]]

    async def _is_of(self, source: str, origin: str) -> ColumnElement[bool]:
        """Return the condition that a link of the source is of an origin, however it spells it."""
        host, root = host_of(origin), root_of(links.c.url, links.c.page_url)
        if (source, origin) not in self._roots:
            query = select(root.label("root")).where(links.c.source == source, links.c.host == host)
            query = query.group_by(root).order_by(func.count().desc()).limit(MOST_ROOTS)
            spelled = [row.root for row in await self.database.fetch_all(query, slow=True)]
            self._roots[source, origin] = [each for each in spelled if each and read_origin(each) == origin]
        roots = self._roots[source, origin]
        return and_(links.c.host == host, root.in_(roots)) if roots else false()


def _asked_at() -> ColumnElement[datetime]:
    return func.coalesce(links.c.visited_at, links.c.noted_at)


def _freeze(row: Row[*tuple[Any, ...]]) -> Freeze:
    decision = Decision(row.decision) if row.decision else None
    examples = [
        Example(**{**each, "held": Picture(**each["held"]), "came": each["came"] and Picture(**each["came"])})
        for each in json.loads(row.examples)
    ]
    return Freeze(
        *(row.origin, row.run, row.evidence, row.answers, row.bad),
        examples=examples,
        frozen_at=row.frozen_at,
        decision=decision,
        decided_at=row.decided_at,
    )
