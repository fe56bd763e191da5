"""Which request may be sent now: bounded across all hosts, fair between them, and polite to each.

Only a request holds a slot. A visit that waits for its next attempt, or whose body is being verified, holds none: so a
slow decoder, a retry or a hanging host never takes the place of a request that could be sent.

The heartbeat takes this worker's shares of the hosts, and reports to the other workers what this one found out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cachetools import LRUCache

from rehost.clock import Clock
from rehost.errors import RehostError, VisitError
from rehost.events import Listener, OriginPaused, Visited
from rehost.hosts.limiter import HostLimiter, is_folder
from rehost.hosts.pacing import Allowance, HostSignal, News, Pause, signal_of
from rehost.hosts.shares import DailyQuota, HostShares
from rehost.http.url import folder_url, host_of, origin_of
from rehost.model import Stored

MAX_HOSTS = 10_000
"""Hosts for which this worker remembers that it asked for a share, or that it reported a first picture."""

MIN_SECONDS = 0.02
"""Between two heartbeats."""


class HostPaused(RehostError):  # noqa: N818 - not an error: the link is visited later
    """The host is paused for longer than a visit may wait, or the origin is; this says nothing about the link."""


class RequestScheduler:
    """Gives slots to requests, at most `concurrency` at a time (invariant 8)."""

    def __init__(
        self,
        limiter: HostLimiter,
        heartbeat: Heartbeat,
        quota: DailyQuota,
        clock: Clock,
        *,
        concurrency: int,
        patience_seconds: float,
    ) -> None:
        """Start with all slots free.

        Args:
            limiter: decides which host may be asked.
            heartbeat: reports the news, and is woken when a request waits for a share.
            quota: counts requests to hosts that have a daily budget.
            clock: for the alarm that ends a wait.
            concurrency: requests in flight at most.
            patience_seconds: a pause up to this long is waited out.
        """
        self._limiter = limiter
        self._heartbeat = heartbeat
        self._quota = quota
        self._clock = clock
        self._concurrency = concurrency
        self._free = concurrency
        self._patience = patience_seconds
        self._known: LRUCache[str, bool] = LRUCache(MAX_HOSTS)
        self._waiting: dict[str, deque[tuple[asyncio.Future[None], str]]] = {}  # by host; each with its URL
        self._alarm: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def slot(self, url: str) -> AsyncIterator[None]:
        """Wait for a slot at the host of a URL, hold it for one request, and learn from how the request ended.

        A VisitError with another origin in its `origin` is that one's fault: a redirect led there.

        Raises:
            HostPaused: the host is paused for longer than a visit may wait, or the URL's origin or folder for however
                long: its requests do not take the place of those to the host's other origins and folders.
        """
        await self._acquire(url)
        error: VisitError | None = None
        try:
            yield
        except VisitError as caught:
            error = caught
            raise
        finally:
            self._release(url, error)

    async def unscheduled(self, url: str) -> None:
        """Allow a request that needs no slot: a redirect's hop, a robots.txt.

        The host's daily budget counts it; concurrency and delays do not hold it up. Report a good end with
        `unscheduled_succeeded`; of a failure, `slot` learns by the error's `origin`.

        Raises:
            HostUnavailable: the URL's folder, origin or host is paused, or the host's daily budget is used up.
        """
        self._limiter.check_not_paused(url)
        while not await self._is_within_budget(host_of(url)):
            self._limiter.check_not_paused(url)

    def unscheduled_succeeded(self, url: str) -> None:
        """Record that a request without a slot ended well."""
        self._report(self._limiter.finished_unscheduled(url, None))

    def refresh(self) -> None:
        """Apply changed shares and pauses to the requests that wait: reject those of long pauses, give slots."""
        for host in [host for host in self._waiting if self._limiter.pause_seconds(host) > self._patience]:
            self.reject_waiters(host)
        self.open()

    def is_starved(self) -> bool:
        """Return whether nothing is in flight and a request waits for a host whose slots other workers hold."""
        return self._free == self._concurrency and any(map(self._limiter.lacks_share, self._waiting))

    def open(self) -> None:
        """Give slots to all requests that may be sent now."""
        while self._free > 0 and self._waiting:
            host = self._limiter.next_host(is_last_slot=self._free == 1 < self._concurrency)
            if host is None:
                break
            queue = self._waiting[host]
            future, url = queue.popleft()
            if not queue:
                del self._waiting[host]
                self._limiter.remove_waiting(host)
            if future.done():  # its visit was cancelled
                continue
            if any(map(self._limiter.pause_seconds, (origin_of(url), folder_url(url)))):
                future.set_exception(HostPaused(url))
                continue
            self._free -= 1
            self._limiter.started(origin_of(url))
            future.set_result(None)
        self._set_alarm()

    def pause(self, pause: Pause) -> None:
        """Pause a host, for a reason that the answers to single requests do not show."""
        self._limiter.pause(pause)
        self._report(pause)

    def reject_waiters(self, host: str) -> None:
        """Raise HostPaused in all requests that wait for this host."""
        self._limiter.remove_waiting(host)
        for future, _ in self._waiting.pop(host, ()):
            if not future.done():
                future.set_exception(HostPaused(host))

    async def _acquire(self, url: str) -> None:
        while True:
            await self._wait(url)
            try:
                if await self._is_within_budget(host_of(url)):
                    return
            except BaseException:
                self._abandon(url)
                raise
            self._abandon(url)

    async def _wait(self, url: str) -> None:
        host = host_of(url)
        if self._limiter.pause_seconds(host) > self._patience:
            raise HostPaused(host)
        if host not in self._known:
            self._known[host] = True
            self._heartbeat.wake()
        if self._free > 1 and not self._waiting and self._limiter.may_begin(url):  # as nearly always with a fast host
            self._free -= 1
            self._limiter.started(origin_of(url))
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(host, deque()).append((future, url))
        self._limiter.add_waiting(origin_of(url))
        self.open()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._abandon(url)  # the slot came in the moment in which the visit was cancelled
            raise

    async def _is_within_budget(self, host: str) -> bool:
        """Count one request against the host's daily budget, if it has one; if that is used up, pause the host.

        The pause is not reported: other workers find out themselves, and a budget that is raised later holds at once.
        """
        budget = self._limiter.daily_budget(host)
        seconds = None if budget is None else await self._quota.take(host, budget)
        if seconds is None:
            return True
        self._limiter.pause(Pause(host, seconds, f"the day's budget of {budget} requests is used up"))
        if seconds > self._patience:
            self.reject_waiters(host)
        return False

    def _abandon(self, url: str) -> None:
        self._free += 1
        self._limiter.abandoned(origin_of(url))
        self.open()

    def _release(self, url: str, error: VisitError | None) -> None:
        self._free += 1
        if error is not None and error.origin is not None:
            is_another = host_of(error.origin) != host_of(url) or signal_of(error) is HostSignal.UNREACHABLE
            if is_another:  # the URL itself was answered well: it led there
                self._report(self._limiter.finished_unscheduled(error.origin + error.folder, error))
                error = None
        self._report(self._limiter.finished(url, error))
        self.open()

    def _report(self, news: News | None) -> None:
        if news is None:
            return
        self._heartbeat.report(news)
        if isinstance(news, Pause) and news.seconds > self._patience:
            self.reject_waiters(news.host)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self._limiter.next_time() if self._waiting and self._free > 0 else None
        if due is not None:
            self._alarm = asyncio.create_task(self._open_in(due - self._clock.monotonic()))

    async def _open_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm = None
        self.open()


class Heartbeat:
    """Collects news between heartbeats, and sends it with the next one; safe to call from any task of the loop."""

    def __init__(self, shares: HostShares, limiter: HostLimiter, clock: Clock, listen: Listener) -> None:
        self._shares = shares
        self._limiter = limiter
        self._clock = clock
        self._listen = listen
        self._unsent: list[News] = []
        self._due = asyncio.Event()
        self._proven: LRUCache[str, bool] = LRUCache(MAX_HOSTS)

    def report(self, news: News) -> None:
        """Keep what the other workers should know for the next heartbeat, which comes soon."""
        if isinstance(news, Pause):
            self._listen(OriginPaused(news.host, news.seconds, news.evidence))
            if is_folder(news.host):  # other workers find out themselves, by a request each
                return
        self._unsent.append(news)
        self.wake()

    def report_picture(self, visited: Visited, slots: int) -> None:
        """Report a host's first picture in this process: from now on the host takes this many requests at once."""
        outcome = visited.outcome
        if isinstance(outcome, Stored) and outcome.final_url and outcome.task.host not in self._proven:
            self._proven[outcome.task.host] = True
            self.report(Allowance(outcome.task.host, slots, proven=True))

    async def send(self) -> None:
        """Send the news, and take this worker's shares.

        Raises:
            LedgerError: the database cannot be reached, or refuses.
        """
        self._due.clear()
        await self._send_news()
        until = self._clock.monotonic() + self._shares.valid_seconds
        shares = await self._shares.take(self._limiter.wanted(), self._limiter.in_flight())
        self._limiter.apply(shares, until)

    async def lift_resumed(self) -> bool:
        """End the pauses that the operator has ended in the ledger meanwhile; return whether there were any."""
        await self._send_news()
        return self._limiter.lift_resumed(await self._shares.paused())

    async def _send_news(self) -> None:
        unsent, self._unsent = self._unsent, []
        for news in unsent:
            if isinstance(news, Pause):
                await self._shares.pause(news.host, news.seconds, news.evidence)
                self._limiter.shared(news)
            else:
                await self._shares.allow(news.host, news.slots, proven=news.proven)

    def wake(self) -> None:
        """Make the next heartbeat due soon: there is news, or a request waits for a share."""
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
        """Send the remaining news, and give the shares back."""
        await self._send_news()
        await self._shares.leave()
