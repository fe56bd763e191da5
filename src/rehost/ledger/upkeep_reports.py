"""What the page and the API show of upkeep: passes, findings, frozen origins, takedowns, rescued copies; read-only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, false, func, or_, select

from rehost.db import Database, after
from rehost.ledger.findings import FILE_FAULTS
from rehost.ledger.freezes import Example, Freeze, Freezes
from rehost.ledger.leases import is_place
from rehost.ledger.schema import findings, freezes, links, passes, takedowns, tombstones
from rehost.model import State

MOST = 1000  # rows of one answer
RECENT_SECONDS = 90 * 86_400.0


@dataclass(frozen=True, slots=True)
class PassReport:
    """One walk through all copies."""

    name: str
    began_at: datetime
    ended_at: datetime | None  # None while it is under way: the next call goes on where the last one ended
    copies: int  # examined so far
    size: int  # bytes of these
    found: int  # faults


@dataclass(frozen=True, slots=True)
class UpkeepReport:
    """What upkeep has done, and what waits for the operator; over all sources."""

    passes: Sequence[PassReport]  # the last one first
    held: int  # copies
    verified: int  # copies whose bytes were read within 90 days, and were right the last time
    never_verified: int
    oldest_verified_at: datetime | None  # of the others
    rescued: int  # copies that came from elsewhere than their links
    open_findings: Mapping[str, int]  # by kind, the most first
    mended_findings: int
    undecided_freezes: int
    takedowns: int  # in force
    tombstones: int  # URLs, origins, digests and keys that are refused


@dataclass(frozen=True, slots=True)
class FindingReport:
    """A fault that verification found."""

    finding: int
    kind: str
    source: str
    row_key: str
    position: int
    key: str | None  # of the file
    evidence: str
    found_at: datetime
    last_at: datetime  # when it was found again last
    run: int | None  # that mended it
    mended_at: datetime | None
    mended_by: str | None


@dataclass(frozen=True, slots=True)
class FreezeReport:
    """An origin that a refresh froze, with the keys of what is held."""

    freeze: Freeze
    copy_keys: Sequence[str | None]  # of its examples, in their order; None if that picture is not held any more


@dataclass(frozen=True, slots=True)
class TakedownReport:
    """A takedown with the sums of its receipt."""

    takedown: int
    what: str  # as the operator named it
    legal: bool  # 451 is served, not 410
    os_user: str
    began_at: datetime
    ended_at: datetime | None  # when everything was removed
    allowed_at: datetime | None  # when it was taken back
    rows: int  # cleared
    files: int  # removed
    size: int  # bytes of these
    left: int  # rows that could not be cleared


@dataclass(frozen=True, slots=True)
class UpkeepQueries:
    """Reads the ledger's tables of upkeep for display."""

    database: Database

    async def summary(self) -> UpkeepReport:
        """Return what upkeep has done, and what waits for the operator."""
        is_held = and_(links.c.state == State.HELD.value, links.c.present)
        is_recent = and_(links.c.verified_at.is_not(None), links.c.verified_at > after(-RECENT_SECONDS))
        [copies] = await self._all(
            select(
                func.count().label("held"),
                func.count().filter(is_recent).label("verified"),
                func.count().filter(links.c.verified_at.is_(None)).label("never"),
                func.min(links.c.verified_at).label("oldest"),
                func.count().filter(links.c.rescued.is_not(None)).label("rescued"),
            ).where(is_held)
        )
        is_place_of = and_(*(findings.c[name] == links.c[name] for name in ("source", "row_key", "position")))
        is_faulty = and_(findings.c.mended_at.is_(None), findings.c.kind.in_([each.value for each in FILE_FAULTS]))
        faulty = select(func.count(links.c.entry.distinct())).join_from(findings, links, is_place_of)
        [[wrong]] = await self._all(faulty.where(is_faulty, is_held, is_recent))
        by_kind = select(findings.c.kind, func.count().label("number")).where(findings.c.mended_at.is_(None))
        by_kind = by_kind.group_by(findings.c.kind).order_by(func.count().desc(), findings.c.kind)
        walks = select(*_columns(passes, PassReport)).order_by(passes.c.began_at.desc(), passes.c.name)
        return UpkeepReport(
            passes=[PassReport(*row) for row in await self._all(walks.limit(MOST))],
            held=copies.held,
            verified=copies.verified - wrong,
            never_verified=copies.never,
            oldest_verified_at=copies.oldest,
            rescued=copies.rescued,
            open_findings={row.kind: row.number for row in await self._all(by_kind.limit(MOST))},
            mended_findings=await self.count_findings(is_open=False),
            undecided_freezes=await self._count(freezes, freezes.c.decision.is_(None)),
            takedowns=await self._count(takedowns, takedowns.c.allowed_at.is_(None)),
            tombstones=await self._count(tombstones),
        )

    async def findings(
        self,
        source: str | None = None,
        kind: str | None = None,
        *,
        is_open: bool | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[FindingReport]:
        """Return findings, the latest first; with `before`, those with a smaller number (the next page)."""
        wanted = _of_findings(source, kind, is_open=is_open)
        if before is not None:
            wanted.append(findings.c.finding < before)
        query = select(*_columns(findings, FindingReport)).where(*wanted)
        query = query.order_by(findings.c.finding.desc()).limit(min(limit, MOST))
        return [FindingReport(*row) for row in await self._all(query)]

    async def count_findings(
        self, source: str | None = None, kind: str | None = None, *, is_open: bool | None = None
    ) -> int:
        """Return the number of findings."""
        return await self._count(findings, *_of_findings(source, kind, is_open=is_open))

    async def freezes(self) -> Sequence[FreezeReport]:
        """Return the origins that froze: those that wait for a decision first, then the last one first."""
        every = sorted(await Freezes(self.database).all(), key=lambda each: not each.is_open)[:MOST]
        keys = await self._copy_keys([example for each in every for example in each.examples])
        return [FreezeReport(each, [keys.get(_copy_of(example)) for example in each.examples]) for each in every]

    async def takedowns(self, before: int | None = None, limit: int = 50) -> Sequence[TakedownReport]:
        """Return takedowns, the latest first; with `before`, those with a smaller number (the next page)."""
        query = select(takedowns).order_by(takedowns.c.takedown.desc()).limit(min(limit, MOST))
        if before is not None:
            query = query.where(takedowns.c.takedown < before)
        return [_takedown(row) for row in await self._all(query)]

    async def count_takedowns(self) -> int:
        """Return the number of takedowns, in force or taken back."""
        return await self._count(takedowns)

    async def takedown(self, number: int) -> tuple[TakedownReport, Mapping[str, Any]] | None:
        """Return a takedown and its receipt; None if there is none of this number."""
        rows = await self._all(select(takedowns).where(takedowns.c.takedown == number))
        return (_takedown(rows[0]), _receipt(rows[0])) if rows else None

    async def _copy_keys(self, examples: Sequence[Example]) -> Mapping[tuple[str, str, int, str], str]:
        """Return the keys of the copies that are held where the examples are, by place and digest."""
        places = [is_place(each.source, each.row_key, each.position) for each in examples]
        query = select(links.c.source, links.c.row_key, links.c.position, links.c.digest, links.c.key)
        query = query.where(or_(false(), *places), links.c.key.is_not(None))
        rows = await self._all(query)
        return {(row.source, row.row_key, row.position, row.digest): row.key for row in rows}

    async def _count(self, table: Any, *wanted: ColumnElement[bool]) -> int:  # noqa: ANN401 - a table
        found = await self._all(select(func.count()).select_from(table).where(*wanted))
        return int(found[0][0])

    async def _all(self, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        return await self.database.fetch_all(query, slow=True)


def _columns(table: Any, report: Any) -> list[ColumnElement[Any]]:  # noqa: ANN401 - a table and a dataclass
    return [table.c[name] for name in report.__dataclass_fields__]


def _of_findings(source: str | None, kind: str | None, *, is_open: bool | None) -> list[ColumnElement[bool]]:
    exact = {findings.c.source: source, findings.c.kind: kind}
    wanted = [column == value for column, value in exact.items() if value is not None]
    if is_open is not None:
        wanted.append(findings.c.mended_at.is_(None) if is_open else findings.c.mended_at.is_not(None))
    return wanted


def _copy_of(example: Example) -> tuple[str, str, int, str]:
    return example.source, example.row_key, example.position, example.held.digest


def _takedown(row: Row[*tuple[Any, ...]]) -> TakedownReport:
    receipt = _receipt(row)
    rows, files, size = (int(receipt.get(name, 0)) for name in ("rows", "files", "size"))
    named = (row.takedown, row.what, row.legal, row.os_user, row.began_at, row.ended_at, row.allowed_at)
    return TakedownReport(*named, rows, files, size, left=len(receipt.get("left", ())))


def _receipt(row: Row[*tuple[Any, ...]]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(row.receipt) if row.receipt else {}
    return found
