"""Who may send a request now: a bound over all hosts, fairness between them, and each host's own politeness.

Only a request holds a turn. A visit that waits for its next attempt, or whose body is being proven, holds none: so a
slow decoder, a retry or a hanging host never takes the place of a request that could be sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rehost.clock import Clock
from rehost.errors import RehostError, VisitError
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import News, Pause

HOP_SECONDS = 0.1
"""Between two looks whether more of a daily budget has come."""


class HostPaused(RehostError):  # noqa: N818 - no error: the host rests
    """The host is to be left alone for longer than a visit may wait; nothing is said about the link."""


class RequestScheduler:
    """Hands out turns, at most `concurrency` at a time (invariant 8)."""

    def __init__(
        self,
        politeness: HostLimiter,
        clock: Clock,
        *,
        concurrency: int,
        patience_seconds: float,
        changed: Callable[[News], None],
        greet: Callable[[], None],
    ) -> None:
        """Take the parts.

        Args:
            politeness: this worker's manners towards every host.
            clock: for the alarm that ends a wait.
            concurrency: requests in flight at most.
            patience_seconds: a pause up to this long is waited out.
            changed: is told what the other workers should know.
            greet: is called when the ledger is to be asked soon: a host is waited for that has no share yet, or too
                small a part of its daily budget.
        """
        self._politeness = politeness
        self._clock = clock
        self._concurrency = concurrency
        self._free = concurrency
        self._patience = patience_seconds
        self._changed = changed
        self._greet = greet
        self._met: set[str] = set()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._alarm: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Wait for a turn at `host`, hold it for one request, and learn from how that went.

        What is the doing of another host, to which that one led, is learned of that.

        Raises:
            HostPaused: the host's pause is longer than a visit may wait.
        """
        await self._enter(host)
        error: VisitError | None = None
        try:
            yield
        except VisitError as caught:
            error = caught
            raise
        finally:
            self._leave(host, error)

    async def hop(self, host: str) -> None:
        """Wait until a request may be sent for which no turn is taken: a hop of a redirect, a robots.txt.

        Its host's daily budget counts it, as all that the host gets to see; concurrency and delays do not hold it up.

        Raises:
            Withheld: the host is to be left alone.
        """
        while not self._politeness.passes(host):
            self._greet()
            await self._clock.sleep(HOP_SECONDS)

    def hopped(self, host: str) -> None:
        """Learn that such a request has ended well."""
        self._tell(self._politeness.passed(host, None))

    def refresh(self) -> None:
        """Take in that shares and pauses may have changed: send away who would wait too long, let in who may enter."""
        for host in [host for host in self._waiting if self._politeness.pause_seconds(host) > self._patience]:
            self.dismiss(host)
        self.open()

    def is_starved(self) -> bool:
        """Return whether nothing is in flight, and somebody waits for a host of which others have all there is."""
        return self._free == self._concurrency and any(map(self._politeness.lacks_share, self._waiting))

    def open(self) -> None:
        """Let in whoever may enter now."""
        while self._free > 0 and self._waiting:
            host = self._politeness.next_host(self._waiting)
            if host is None:
                break
            future = self._take(host)
            if future.done():  # its visit was cancelled
                continue
            self._free -= 1
            if self._politeness.started(host):
                self._greet()
            future.set_result(None)
        self._set_alarm()

    def pause(self, pause: Pause) -> None:
        """Leave a host alone from now on, for a reason that its answers to single requests do not show."""
        self._politeness.heed(pause)
        self._tell(pause)

    def dismiss(self, host: str) -> None:
        """Send away all who wait for this host."""
        for future in self._waiting.pop(host, ()):
            if not future.done():
                future.set_exception(HostPaused(host))

    async def _enter(self, host: str) -> None:
        if self._politeness.pause_seconds(host) > self._patience:
            raise HostPaused(host)
        if host not in self._met:
            self._met.add(host)
            self._greet()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(host, deque()).append(future)
        self.open()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._free += 1  # the turn came in the very moment in which the visit was cancelled
                self._politeness.abandoned(host)
            raise

    def _leave(self, host: str, error: VisitError | None) -> None:
        self._free += 1
        if error is not None and error.host is not None:
            self._tell(self._politeness.passed(error.host, error))
            error = None  # the host itself did answer: it led there
        self._tell(self._politeness.finished(host, error))
        self.open()

    def _tell(self, news: News | None) -> None:
        if news is None:
            return
        self._changed(news)
        if isinstance(news, Pause) and news.seconds > self._patience:
            self.dismiss(news.host)

    def _take(self, host: str) -> asyncio.Future[None]:
        queue = self._waiting[host]
        future = queue.popleft()
        if not queue:
            del self._waiting[host]
        return future

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self._politeness.next_time() if self._waiting and self._free > 0 else None
        if due is not None:
            self._alarm = asyncio.create_task(self._ring(due - self._clock.monotonic()))

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm = None
        self.open()
