"""This worker's sign of life: leases renewed, shares of the hosts taken, what it found out told to the others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from rehost.events import Listener, OriginPaused, Visited
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import Allowance, News, Pause
from rehost.hosts.shares import HostShares
from rehost.model import Stored, Task
from rehost.ports import Ledger

LEAST_SECONDS = 0.02  # between two beats


@dataclass(slots=True)
class Heartbeat:
    """Beats whenever it is told to; between beats it only collects."""

    ledger: Ledger
    shares: HostShares
    politeness: HostLimiter
    listen: Listener
    _untold: list[News] = field(default_factory=list)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _proven: set[str] = field(default_factory=set)  # hosts, as told by this worker

    def report(self, news: News) -> None:
        """Keep what the others should know for the next beat."""
        if isinstance(news, Pause):
            self.listen(OriginPaused(news.host, news.seconds, news.evidence))
        self._untold.append(news)
        self._due.set()

    def report_picture(self, visited: Visited, slots: int) -> None:
        """Keep that a host has given its first picture here, if it has: it may bear so many requests at once."""
        outcome = visited.outcome
        if isinstance(outcome, Stored) and outcome.final_url and outcome.task.host not in self._proven:
            self._proven.add(outcome.task.host)
            self.report(Allowance(outcome.task.host, slots, proven=True))

    async def beat(self) -> None:
        """Tell the others what was found out, and take this worker's shares."""
        self._due.clear()
        await self._tell()
        self.politeness.apply(await self.shares.shares(self.politeness.wanted(), self.politeness.in_flight()))
        if draws := self.politeness.draws():  # where the operator has set a daily budget, and now and then only
            self.politeness.fill(await self.shares.draw(draws))

    async def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for news in untold:
            if isinstance(news, Pause):
                await self.shares.pause(news.host, news.seconds, news.evidence)
            else:
                await self.shares.allow(news.host, news.slots, proven=news.proven)

    def hurry(self) -> None:
        """Have the next beat come soon: somebody waits for a share."""
        self._due.set()

    async def rest(self, seconds: float) -> None:
        """Wait for the next beat: `seconds`, or less where there is news; news of one moment share a beat."""
        await asyncio.sleep(LEAST_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """Tell what is left to tell, and give back the shares, and what is left of parts of daily budgets."""
        await self._tell()
        if draws := self.politeness.draws(leaving=True):
            await self.shares.draw(draws)
        await self.shares.leave()

    async def renew(self, tasks: Collection[Task]) -> None:
        """Move the ends of these leases on."""
        if tasks:
            await self.ledger.renew(list(tasks))
