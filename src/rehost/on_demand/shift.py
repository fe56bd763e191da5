"""A run for as long as somebody asks for single pictures: begun with the first, ended after some quiet.

It gives their visits what a run has: a number in the journal, shares of the hosts, leases that are renewed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.events import Recorded, Visited
from rehost.hosts.heartbeat import Heartbeat
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.scheduler import RequestScheduler
from rehost.model import Task
from rehost.ports import Ledger
from rehost.run.stats import RunStats

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often what happens; seconds."""

    beat_seconds: float = 2.0
    renew_seconds: float = 30.0
    quiet_seconds: float = 30.0  # after the last visit, until the run ends
    patience_seconds: float = 10.0  # a pause up to this long is waited out


@dataclass(slots=True)
class _Course:
    """The run over one source."""

    run: int
    started: float
    sum: RunStats = field(default_factory=RunStats)


class OnDemandRun:
    """Who is at work; one for all sources, since what a host bears is shared by all of them."""

    def __init__(
        self,
        ledger: Ledger,
        politeness: HostLimiter,
        gate: RequestScheduler,
        pulse: Heartbeat,
        clock: Clock,
        rhythm: Intervals,
    ) -> None:
        """Take the parts; nothing happens before the first visit."""
        self._ledger = ledger
        self._politeness = politeness
        self._gate = gate
        self._pulse = pulse
        self._clock = clock
        self._rhythm = rhythm
        self._courses: dict[str, _Course] = {}
        self._tasks: dict[int, Task] = {}
        self._used_at = 0.0
        self._lock = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def visit(self, task: Task) -> AsyncIterator[int]:
        """Keep a lease for as long as the block lasts; yields the number of the run that it belongs to."""
        self._tasks[task.entry] = task
        try:
            yield await self._run(task.link.source)
        finally:
            self._tasks.pop(task.entry, None)
            self._used_at = self._clock.monotonic()

    def add(self, source: str, visited: Visited, recorded: Recorded, unveiled: int) -> None:
        """Count what came of a visit."""
        if source in self._courses:
            sum_ = self._courses[source].sum
            sum_.add(visited)
            sum_.record(recorded)
            sum_.unveiled += unveiled

    async def close(self) -> None:
        """End the run; no visit is going on any more."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
        async with self._lock:
            with suppress(OperatorError):
                await self._end()

    async def _run(self, source: str) -> int:
        async with self._lock:
            if source not in self._courses:
                self._courses[source] = _Course(await self._ledger.begin_run(source), self._clock.monotonic())
            if self._beating is None or self._beating.done():
                self._beating = asyncio.create_task(self._beat())
            return self._courses[source].run

    async def _beat(self) -> None:
        """Show that we live until it is quiet; should the database be away for long, send everybody home."""
        renewed = self._clock.monotonic()
        try:
            while not await self._is_over():
                await self._pulse.send()
                self._gate.open()
                self._dismiss(self._politeness.wanted(), self._rhythm.patience_seconds)
                if self._clock.monotonic() - renewed >= self._rhythm.renew_seconds:
                    await self._ledger.renew(list(self._tasks.values()))
                    renewed = self._clock.monotonic()
                await self._pulse.wait(self._rhythm.beat_seconds)
        except OperatorError as error:
            log.warning("pictures on demand stopped reason=%r", str(error))
            self._courses.clear()
            self._dismiss(self._politeness.wanted(), -1.0)

    async def _is_over(self) -> bool:
        async with self._lock:
            quiet = self._clock.monotonic() - self._used_at
            if self._tasks or quiet < self._rhythm.quiet_seconds:
                return False
            self._beating = None  # whoever comes now begins anew
            await self._end()
            return True

    async def _end(self) -> None:
        """Give the shares back, and record what the runs came to."""
        courses, self._courses = self._courses, {}
        if courses:
            await self._pulse.stop()
        for source, course in courses.items():
            seconds = self._clock.monotonic() - course.started
            await self._ledger.end_run(course.run, course.sum.ended(source, seconds))

    def _dismiss(self, hosts: Mapping[str, int], patience: float) -> None:
        """Send away all who wait for hosts that are to be left alone for longer than that."""
        for host in hosts:
            if self._politeness.pause_seconds(host) > patience:
                self._gate.reject_waiters(host)
