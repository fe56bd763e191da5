"""This worker's heartbeat: it takes shares of the hosts, and reports what the worker found out about them."""

from __future__ import annotations

import asyncio

from cachetools import LRUCache

from rehost.events import Listener, OriginPaused, Visited
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import Allowance, News, Pause
from rehost.hosts.shares import HostShares
from rehost.model import Stored

MIN_SECONDS = 0.02  # between two heartbeats
MAX_HOSTS = 10_000  # of which this worker remembers that it reported a first picture


class Heartbeat:
    """Collects news between heartbeats, and sends it with the next one; safe to call from any task of the loop."""

    def __init__(self, shares: HostShares, limiter: HostLimiter, listen: Listener) -> None:
        self._shares = shares
        self._limiter = limiter
        self._listen = listen
        self._unsent: list[News] = []
        self._due = asyncio.Event()
        self._proven: LRUCache[str, bool] = LRUCache(MAX_HOSTS)

    def report(self, news: News) -> None:
        """Keep what the other workers should know for the next heartbeat, which comes soon."""
        if isinstance(news, Pause):
            self._listen(OriginPaused(news.host, news.seconds, news.evidence))
        self._unsent.append(news)
        self.wake()

    def report_picture(self, visited: Visited, slots: int) -> None:
        """Report a host's first picture in this process: from now on the host takes so many requests at once."""
        outcome = visited.outcome
        if isinstance(outcome, Stored) and outcome.final_url and outcome.task.host not in self._proven:
            self._proven[outcome.task.host] = True
            self.report(Allowance(outcome.task.host, slots, proven=True))

    async def send(self) -> None:
        """Send the news, and take this worker's shares.

        Raises:
            LedgerError: the database stayed away, or refuses.
        """
        self._due.clear()
        await self._send_news()
        self._limiter.apply(await self._shares.take(self._limiter.wanted(), self._limiter.in_flight()))

    async def _send_news(self) -> None:
        unsent, self._unsent = self._unsent, []
        for news in unsent:
            if isinstance(news, Pause):
                await self._shares.pause(news.host, news.seconds, news.evidence)
            else:
                await self._shares.allow(news.host, news.slots, proven=news.proven)

    def wake(self) -> None:
        """Have the next heartbeat sent soon: there is news, or a request waits for a share."""
        self._due.set()

    async def wait(self, seconds: float) -> None:
        """Wait until the next heartbeat is due: `seconds`, or less after `wake`; calls of one moment share it."""
        await asyncio.sleep(MIN_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return

    async def stop(self) -> None:
        """Send the news that is left, and give the shares back."""
        await self._send_news()
        await self._shares.leave()
