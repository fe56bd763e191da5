"""This worker's sign of life: leases renewed, shares of the hosts taken, what it found out told to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from rehost.events import Listener, OriginPaused, Visited
from rehost.model import Stored, Task
from rehost.ports import Allowance, Change, Ledger, Origins, Pause, Politeness

LEAST_SECONDS = 0.02  # between two beats


@dataclass(slots=True)
class Pulse:
    """Beats whenever it is told to; between beats it only collects."""

    ledger: Ledger
    origins: Origins
    politeness: Politeness
    listen: Listener
    _changes: list[Change] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _proven: set[str] = field(default_factory=set)  # hosts, as told by this worker

    def report(self, change: Change) -> None:
        """Keep what the others should know for the next beat."""
        if isinstance(change, Pause):
            self.listen(OriginPaused(change.host, change.seconds, change.evidence))
        self._changes.append(change)
        self._news.set()

    def report_picture(self, visited: Visited, slots: int) -> None:
        """Keep that a host has given its first picture here, if it has: it may bear so many requests at once."""
        outcome = visited.outcome
        if isinstance(outcome, Stored) and outcome.final_url and outcome.task.host not in self._proven:
            self._proven.add(outcome.task.host)
            self.report(Allowance(outcome.task.host, slots, proven=True))

    async def beat(self) -> None:
        """Tell the others what was found out, and take this worker's shares."""
        self._news.clear()
        await self._tell()
        self.politeness.apply(await self.origins.shares(self.politeness.wanted(), self.politeness.in_flight()))
        if draws := self.politeness.draws():  # where the operator has set a daily budget, and now and then only
            self.politeness.fill(await self.origins.draw(draws))

    async def _tell(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            if isinstance(change, Pause):
                await self.origins.pause(change.host, change.seconds, change.evidence)
            else:
                await self.origins.allow(change.host, change.slots, proven=change.proven)

    def hurry(self) -> None:
        """Have the next beat come soon: somebody waits for a share."""
        self._news.set()

    async def rest(self, seconds: float) -> None:
        """Wait for the next beat: `seconds`, or less where there is news; news of one moment share a beat."""
        await asyncio.sleep(LEAST_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """Tell what is left to tell, and give back the shares, and what is left of parts of daily budgets."""
        await self._tell()
        if draws := self.politeness.draws(leaving=True):
            await self.origins.draw(draws)
        await self.origins.leave()

    async def renew(self, tasks: Collection[Task]) -> None:
        """Move the ends of these leases on."""
        if tasks:
            await self.ledger.renew(list(tasks))
