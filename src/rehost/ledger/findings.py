"""What verification found wrong and how it was mended: one open finding for each fault, however often it is found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Integer, Text, Update, and_, insert, select, update

from rehost.db import Columns, Connection, Database, now
from rehost.ledger.schema import findings

GROUP = 500


class Fault(StrEnum):
    """What is wrong with a copy, its row or a file."""

    MISSING = "missing"  # the copy's file is not there
    CUT = "cut"  # the file ends early
    ALTERED = "altered"  # bytes of the picture have changed
    WRONG_TYPE = "wrong-type"  # the bytes are of another format than the file's name says
    REPLACED = "replaced"  # another whole picture is in its place
    UNREADABLE = "unreadable"  # the system does not let us read it
    NOT_A_FILE = "not-a-file"  # a folder, a pipe or a device has its name
    OTHER_URL = "other-url"  # the row of a held copy holds another local URL
    CLEARED_ROW = "cleared-row"  # the row of a held copy holds no local URL
    ROW_WITHOUT_COPY = "row-without-copy"  # a row points at a file that is not there and that is no held copy's
    COPY_WITHOUT_ROW = "copy-without-row"  # the row of a copy is gone
    STRAY = "stray-file"  # a file at the place of a copy, which is none
    SERVED = "served-differently"  # the served URL gives something else than the copy


class Mend(StrEnum):
    """What cured a fault."""

    STORE = "same-bytes-in-store"
    TRASH = "trash"  # or the quarantine
    ORIGIN = "origin"  # it still has the same picture
    CHANGED = "origin-changed"  # it has another picture now, which was proven and recorded
    RESCUED = "rescued"
    CLEARED = "cleared"  # nothing has the picture any more: the row was cleared
    ROW = "row"  # the local URL was written again
    OTHERWISE = "otherwise"  # found right again, or gone


FILE_FAULTS = frozenset(
    {Fault.MISSING, Fault.CUT, Fault.ALTERED, Fault.WRONG_TYPE, Fault.REPLACED, Fault.UNREADABLE, Fault.NOT_A_FILE}
)
"""Faults of a held copy's file."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault, where it is, and what showed it."""

    kind: Fault
    source: str
    row_key: str
    position: int
    key: str  # of the file
    evidence: str
    mended_by: Mend | None = None


_PLACE: Columns = {"source": Text(), "row_key": Text(), "position": Integer(), "key": Text()}
_FINDING: Columns = {"kind": Text(), **_PLACE, "evidence": Text()}


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings in the ledger."""

    database: Database

    async def report(self, found: Sequence[Finding]) -> None:
        """Open a finding for each of these faults, or note that one that is open was found again."""
        if not found:
            return
        given = self._given(found)
        again = update(findings).where(findings.c.mended_at.is_(None), _is_same(given))
        known = select(findings.c.finding).where(findings.c.mended_at.is_(None), _is_same(given)).exists()
        query = select(*(given.c[name] for name in _FINDING), now(), now()).where(~known)

        async def work(connection: Connection) -> None:
            await self.database.lock(connection, "findings")
            await connection.execute(again.values(evidence=given.c.evidence, last_at=now()))
            await connection.execute(insert(findings).from_select([*_FINDING, "found_at", "last_at"], query))

        await self.database.transact(work)

    async def mend(self, found: Sequence[Finding], run: int | None) -> None:
        """Close the open findings of these faults, each by its `mended_by`, under the number of a run if one did it."""
        if not found:
            return
        rows = [(*_row(each), each.mended_by and each.mended_by.value) for each in found]
        given = self.database.given({**_FINDING, "mended_by": Text()}, rows)
        closing = update(findings).where(findings.c.mended_at.is_(None), _is_same(given))
        await self.database.execute(closing.values(mended_at=now(), mended_by=given.c.mended_by, run=run))

    async def is_any_open(self, sources: Collection[str]) -> bool:
        """Return whether one of these sources has an open finding."""
        is_open = select(findings.c.finding).where(findings.c.mended_at.is_(None), findings.c.source.in_(sources))
        return bool(await self.database.fetch_all(is_open.limit(1)))

    async def close_at(self, places: Sequence[tuple[str, str, int, str]], kinds: Collection[Fault]) -> None:
        """Close the open findings of these kinds about copies that are right now: source, row key, position, key."""
        given = self.database.given(_PLACE, places)
        is_theirs = and_(*(findings.c[name] == given.c[name] for name in _PLACE))
        is_open = and_(findings.c.mended_at.is_(None), findings.c.kind.in_([each.value for each in kinds]))
        await self.database.execute(_closing().where(is_open, is_theirs))

    async def time(self) -> datetime:
        """Return the database's time, for `close_older`."""
        return (await self.database.fetch_all(select(now())))[0][0]  # type: ignore[no-any-return]

    async def close_older(self, since: datetime, kinds: Collection[Fault], sources: Collection[str]) -> None:
        """Close the open findings of these kinds that a search through everything since then has not found again."""
        is_older = and_(findings.c.mended_at.is_(None), findings.c.last_at < since, findings.c.source.in_(sources))
        await self.database.execute(_closing().where(is_older, findings.c.kind.in_([each.value for each in kinds])))

    async def open_ones(
        self, sources: Collection[str], kinds: Collection[Fault], row_key: str | None = None, after: int = 0
    ) -> Sequence[tuple[int, Finding]]:
        """Return up to GROUP open findings with their numbers, after this one."""
        query = select(findings).where(
            findings.c.mended_at.is_(None),
            findings.c.finding > after,
            findings.c.source.in_(sources),
            findings.c.kind.in_([each.value for each in kinds]),
        )
        if row_key is not None:
            query = query.where(findings.c.row_key == row_key)
        rows = await self.database.fetch_all(query.order_by(findings.c.finding).limit(GROUP))
        return [(row.finding, _finding(row)) for row in rows]

    def _given(self, found: Sequence[Finding]) -> FromClause:
        return self.database.given(_FINDING, [_row(each) for each in found])


def _closing() -> Update:
    return update(findings).values(mended_at=now(), mended_by=Mend.OTHERWISE.value)


def _row(finding: Finding) -> tuple[object, ...]:
    place = (finding.source, finding.row_key, finding.position, finding.key)
    return (finding.kind.value, *place, finding.evidence)


def _is_same(given: FromClause) -> ColumnElement[bool]:
    return and_(*(findings.c[name] == given.c[name] for name in ("kind", *_PLACE)))


def _finding(row: Any) -> Finding:  # noqa: ANN401 - a row of `findings`
    return Finding(Fault(row.kind), row.source, row.row_key, row.position, row.key, row.evidence)
