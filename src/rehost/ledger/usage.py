"""What the ledger's copies take up: by source, host and format, month by month, and how many have the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, func, select

from rehost.db import Database, after
from rehost.ledger.schema import links, tombstones

MOST_HOSTS = 20


@dataclass(frozen=True, slots=True)
class Part:
    """The copies of one source, host or format."""

    name: str
    copies: int
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Month:
    """What was stored within a month, and is held still."""

    month: str  # 2026-11
    copies: int
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Copies whose bytes another copy has as well."""

    digests: int  # different pictures among them
    copies: int  # beyond the first of each
    size: int  # their bytes


@dataclass(frozen=True, slots=True)
class LedgerUsage:
    """What the ledger knows of the copies."""

    copies: int
    size: int  # bytes
    sources: Sequence[Part]
    hosts: Sequence[Part]  # the largest ones
    formats: Sequence[Part]
    without_row: Part
    rescued: Part
    duplicates: Duplicates
    tombstones: int
    months: Sequence[Month]  # the oldest first
    bytes_per_day: int  # stored within the last RECENT_DAYS, or since the first copy


RECENT_DAYS = 90.0
_DAY_SECONDS = 86_400.0
_HAS_COPY = links.c.key.is_not(None)
_AMOUNT = (func.count(), func.coalesce(func.sum(links.c.size), 0))


@dataclass(frozen=True, slots=True)
class UsageQueries:
    """Questions about the copies in the ledger."""

    database: Database

    async def usage(self, now: datetime, months: int = 12) -> LedgerUsage:
        """Return what the copies take up, and the growth of the last months.

        Args:
            now: the present, in UTC.
            months: how many, the current one included.
        """
        total = await self._part("", _HAS_COPY)
        repeated = select(func.count().label("number"), func.max(links.c.size).label("size"))
        same = repeated.where(_HAS_COPY).group_by(links.c.digest).having(func.count() > 1).subquery()
        further = same.c.number - 1
        sums = (func.count(), *(func.coalesce(func.sum(each), 0) for each in (further, further * same.c.size)))
        ((digests, copies, size),) = await self._all(select(*sums).select_from(same))
        ((stones,),) = await self._all(select(func.count()).select_from(tombstones))
        return LedgerUsage(
            total.copies,
            total.size,
            await self._parts(links.c.source),
            await self._parts(links.c.host, MOST_HOSTS),
            await self._parts(func.coalesce(links.c.format, "")),
            await self._part("without_row", _HAS_COPY & ~links.c.present),
            await self._part("rescued", _HAS_COPY & links.c.rescued.is_not(None)),
            Duplicates(digests, int(copies), int(size)),
            stones,
            await self._months(now, months),
            await self._rate(now),
        )

    async def sizes(self, keys: Collection[str]) -> Mapping[str, int]:
        """Return the sizes that the ledger has for those of these keys that are copies'."""
        given = self.database.given({"key": Text()}, [[key] for key in sorted(keys)])
        query = select(links.c.key, links.c.size).where(links.c.key.in_(select(given.c.key)))
        return {row.key: row.size for row in await self._all(query)} if keys else {}

    async def _part(self, name: str, condition: ColumnElement[bool]) -> Part:
        ((copies, size),) = await self._all(select(*_AMOUNT).where(condition))
        return Part(name, copies, int(size))

    async def _parts(self, column: ColumnElement[str], limit: int | None = None) -> Sequence[Part]:
        query = select(column, *_AMOUNT).where(_HAS_COPY).group_by(column)
        rows = await self._all(query.order_by(_AMOUNT[1].desc(), column).limit(limit))
        return [Part(name, copies, int(size)) for name, copies, size in rows]

    async def _rate(self, now: datetime) -> int:
        recent = await self._part("recent", _HAS_COPY & (links.c.held_at > after(-_DAY_SECONDS * RECENT_DAYS)))
        ((first,),) = await self._all(select(func.min(links.c.held_at)).where(_HAS_COPY))
        days = (now - first).total_seconds() / _DAY_SECONDS if first is not None else 1.0
        return round(recent.size / min(RECENT_DAYS, max(1.0, days)))

    async def _months(self, now: datetime, number: int) -> Sequence[Month]:
        """Count from the start of each month to now, and subtract."""
        starts = [_start_of_month(now, back) for back in range(number)]  # the latest first
        since = [links.c.held_at >= after(-(now - start).total_seconds()) for start in starts]
        columns = [each for condition in since for each in (column.filter(condition) for column in _SUMS)]
        (row,) = await self._all(select(*columns).where(_HAS_COPY))
        sums = [(0, 0), *((int(row[2 * i]), int(row[2 * i + 1] or 0)) for i in range(number))]
        found = [
            Month(f"{start:%Y-%m}", later[0] - before[0], later[1] - before[1])
            for start, before, later in zip(starts, sums, sums[1:], strict=False)
        ]
        return found[::-1]

    async def _all(self, query: Select[*tuple[Any, ...]]) -> Sequence[Any]:
        return await self.database.fetch_all(query, slow=True)


_SUMS = (func.count(), func.sum(links.c.size))


def _start_of_month(now: datetime, back: int) -> datetime:
    """Return the start of the month that was so many months ago."""
    months = now.year * 12 + now.month - 1 - back
    return now.replace(year=months // 12, month=months % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0)
