"""The API's operations about upkeep: what was verified and found, frozen origins, takedowns, the trash."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rehost.clock import Clock
from rehost.errors import SettingsError
from rehost.ledger.freezes import Decision, Freezes
from rehost.ledger.upkeep_reports import FindingReport, FreezeReport, TakedownReport, UpkeepQueries, UpkeepReport
from rehost.ledger.usage import LedgerUsage, UsageQueries
from rehost.model import Tombstone
from rehost.server.api.actions import ActionResult
from rehost.server.api.http import (
    MAX_RUN,
    BeforeNumber,
    FindingKind,
    FindingState,
    Legal,
    Limit,
    Listing,
    RequiredOrigin,
    Source,
    Sure,
    TakedownNumber,
    What,
    WhichFindings,
)
from rehost.server.api.problems import Problem, ProblemError
from rehost.server.api.routes import Api
from rehost.store.base import Cause, Store
from rehost.upkeep.forget import Survey, Takedowns, Targets

MOST_UNASKED = 20  # copies that are removed without `sure`, as on the command line
TRASH_SECONDS = 60.0  # between two walks through the trash


@dataclass(frozen=True, slots=True)
class TrashPart:
    """What lies in the trash for one cause."""

    cause: Cause
    files: int
    size: int  # bytes
    oldest_at: datetime | None  # since when the oldest file lies there


@dataclass(frozen=True, slots=True)
class TakedownDetail:
    """A takedown with its receipt."""

    takedown: TakedownReport
    receipt: Mapping[str, Any]  # what was removed where


class Trash:
    """Measures the trash, at most once in TRASH_SECONDS."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Store]], clock: Clock) -> None:
        """Take what opens the store, which is only read."""
        self._opening = opening
        self._clock = clock
        self._lock = asyncio.Lock()
        self._known: Sequence[TrashPart] = ()
        self._until = 0.0  # monotonic time

    async def measure(self) -> Sequence[TrashPart]:
        """Return what lies in the trash by cause, as it was within the last TRASH_SECONDS."""
        async with self._lock:
            if self._clock.monotonic() >= self._until:
                self._known = await self._walk()
                self._until = self._clock.monotonic() + TRASH_SECONDS
            return self._known

    async def _walk(self) -> Sequence[TrashPart]:
        files, sizes, oldest = Counter[Cause](), Counter[Cause](), dict[Cause, datetime]()
        async with self._opening() as store:
            async for group in store.trashed():
                for each in group:
                    files[each.cause] += 1
                    sizes[each.cause] += each.size
                    oldest[each.cause] = min(each.since, oldest.get(each.cause, each.since))
        return [TrashPart(cause, files[cause], sizes[cause], oldest.get(cause)) for cause in Cause]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The operations."""

    api: Api
    measured: Trash
    opening: Callable[[], AbstractAsyncContextManager[tuple[Takedowns, Targets]]]  # what takes pictures down
    clock: Clock

    async def summary(self) -> UpkeepReport:
        """What upkeep has done over all sources, and what waits for the operator."""
        return await (await self._queries()).summary()

    async def findings(
        self,
        source: Source = None,
        kind: FindingKind = None,
        state: WhichFindings = None,
        before: BeforeNumber = MAX_RUN,
        limit: Limit = 50,
    ) -> Listing[FindingReport]:
        """What verification found wrong, the latest first."""
        chosen = await self.api.source(source) if source else None
        queries, is_open = await self._queries(), None if state is None else state is FindingState.OPEN
        found = await queries.findings(chosen, kind, is_open=is_open, before=before, limit=limit)
        return Listing(found, await queries.count_findings(chosen, kind, is_open=is_open))

    async def freezes(self) -> Sequence[FreezeReport]:
        """The origins that a refresh froze, with what is held and what came; those without a decision first."""
        return await (await self._queries()).freezes()

    async def accept(self, origin: RequiredOrigin) -> ActionResult:
        """Take what a frozen origin sends: the next refresh replaces its copies."""
        return await self._decide(origin, Decision.ACCEPT)

    async def keep(self, origin: RequiredOrigin) -> ActionResult:
        """Keep the copies of a frozen origin for good: no refresh asks it any more."""
        return await self._decide(origin, Decision.KEEP)

    async def takedowns(self, before: BeforeNumber = MAX_RUN, limit: Limit = 50) -> Listing[TakedownReport]:
        """Takedowns, the latest first."""
        queries = await self._queries()
        return Listing(await queries.takedowns(before, limit), await queries.count_takedowns())

    async def takedown(self, takedown: TakedownNumber) -> TakedownDetail:
        """One takedown with its receipt."""
        found = await (await self._queries()).takedown(takedown)
        if found is None:
            raise ProblemError(Problem.UNKNOWN_TAKEDOWN, takedown=takedown)
        return TakedownDetail(*found)

    async def preview(self, what: What) -> Survey:
        """What taking this down would remove; nothing is changed."""
        async with self.opening() as (takedowns, targets):
            return await takedowns.survey(await _named(targets, what))

    async def forget(self, what: What, *, legal: Legal = False, sure: Sure = False) -> TakedownDetail:
        """Take pictures down for good, with all their copies; what was interrupted before is completed first."""
        async with self.opening() as (takedowns, targets):
            await takedowns.finish()
            named = await _named(targets, what)
            copies = 0 if sure else (await takedowns.survey(named)).copies
            if copies > MOST_UNASKED:
                raise ProblemError(Problem.MANY_COPIES, copies=copies)
            done = await takedowns.take_down(what, named, legal=legal)
        return await self.takedown(done.takedown)

    async def allow(self, takedown: TakedownNumber) -> ActionResult:
        """Take a takedown back: its links are due, and the next run fetches the pictures again."""
        await self.takedown(takedown)
        async with self.opening() as (takedowns, _):
            ledger = (await self.api.resources.get()).ledger
            return ActionResult(await takedowns.allow([await ledger.takedowns.of(takedown)]))

    async def storage(self) -> LedgerUsage:
        """What the copies take up: by source, host and format, month by month, and how many have the same bytes."""
        return await UsageQueries((await self._queries()).database).usage(self.clock.now())

    async def trash(self) -> Sequence[TrashPart]:
        """What lies in the store's trash, as it was within the last minute."""
        return await self.measured.measure()

    async def _decide(self, origin: str, decision: Decision) -> ActionResult:
        freezes = Freezes((await self._queries()).database)
        if origin not in {each.origin for each in await freezes.all()}:
            raise ProblemError(Problem.NOT_FROZEN, origin=origin)
        await freezes.decide([origin], decision)
        return ActionResult(1)

    async def _queries(self) -> UpkeepQueries:
        return UpkeepQueries((await self.api.resources.get()).queries.database)


async def _named(targets: Targets, what: str) -> set[Tombstone]:
    """Return what a text names.

    Raises:
        ProblemError: it names nothing, or several things.
    """
    try:
        return await targets.find(what.strip())
    except SettingsError as error:
        raise ProblemError(Problem.INVALID_PARAMETER, name="what", fault=str(error).rstrip(".")) from error
