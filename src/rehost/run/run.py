"""MANY images: lease, visit within bounds, record in groups, stop gracefully.

Until nothing is due these go on at once: visits, the recorder and the search for decoys behind it, and the pulse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from rehost.attempt import Postponed
from rehost.clock import Clock
from rehost.errors import OperatorError, StoreError
from rehost.events import HostDeferred, Listener, Planned, Recorded, RunBegan, RunEnded, Visited
from rehost.hosts.heartbeat import Heartbeat
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.scheduler import HostPaused, RequestScheduler
from rehost.hotlink.cleanup import DecoyCleaner
from rehost.model import Deferred, Outcome, Reason, Task
from rehost.ports import Ledger
from rehost.run.limits import Limits
from rehost.run.planner import Planner
from rehost.run.recorder import Recorder
from rehost.run.recording import Recording
from rehost.run.stats import RunStats
from rehost.run.stopping import unless_stopped
from rehost.run.task_queue import TaskQueue
from rehost.run.visitor import BUG_WAIT, Visitor
from rehost.store.base import Store

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Components:
    """Who does what in a run; chosen by assembly."""

    planner: Planner
    visitor: Visitor
    recorder: Recorder
    ledger: Ledger
    politeness: HostLimiter
    gate: RequestScheduler
    pulse: Heartbeat
    unveiler: DecoyCleaner
    store: Store


async def safely(what: str, tasks: Sequence[Task], work: Awaitable[T]) -> T | list[Deferred]:
    """Return what came of it, or, for a bug of ours, what comes of each task instead: it costs no more than that."""
    try:
        return await work
    except (HostPaused, Postponed, OperatorError):
        raise
    except Exception as error:
        log.exception("%s failed row=%r", what, ",".join(task.link.row_key for task in tasks) or "-")
        return [Deferred(task, Reason.BUG, type(error).__name__, BUG_WAIT) for task in tasks]


async def visit_safely(
    visitor: Visitor, task: Task, *, may_set_aside: bool = False, aside: Postponed | None = None
) -> Visited:
    """Visit one link, safely."""
    came = await safely("visit", [task], visitor.visit(task, may_postpone=may_set_aside, postponed=aside))
    return Visited(came[0], task.host, size=0, seconds=0.0, attempts=0) if isinstance(came, list) else came


class Run:
    """One run over one source, by one process."""

    def __init__(self, parts: Components, limits: Limits, clock: Clock, listen: Listener) -> None:
        """Take the parts; nothing happens before `go`."""
        self._parts = parts
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self._source = parts.planner.catalogue.name
        self._leases = TaskQueue(parts.ledger, self._source, parts.politeness, limits)
        self._sum = RunStats()
        self._visits: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._failed: StoreError | None = None  # a visit met it
        self._recording = Recording(
            parts.recorder, parts.unveiler, limits, self._stop, self._borne, self._recorded, self._sum.unveil
        )
        self._glance_seconds = limits.glance_seconds

    def stop(self) -> None:
        """Begin nothing more; what is in flight is finished and recorded within seconds."""
        self._stop.set()
        self._wake.set()

    async def plan(self) -> Planned:
        """Return what `go` would find due; what needs no request is mended.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        return await self._parts.planner.plan()

    async def go(self, *, retry: str | None = None, crew: int | None = None) -> RunEnded:
        """Visit every due link once and return what came of it.

        With the number of a `crew`, this is a part of that run, which has planned: they are shown and undone as one.

        Raises:
            OperatorError: the database or the store stopped the run; the next run goes on where this one was.
        """
        started = self._clock.monotonic()
        own = await self._parts.ledger.begin_run(self._source, crew)
        run = own if crew is None else crew
        self._listen(RunBegan(self._source, run))
        if crew is not None or await self._finds_work(run, retry):
            await self._work(run)
        ended = await self._summary(self._clock.monotonic() - started)
        await self._parts.ledger.end_run(own, ended)
        self._listen(ended)
        return ended

    async def _finds_work(self, run: int, retry: str | None) -> bool:
        """Plan, and return whether there is anything to do; not, where we are to stop."""
        planned = await unless_stopped(self._plan(run, retry), self._stop, grace_seconds=self._limits.drain_seconds)
        if planned is None:
            return False
        self._sum.mended = planned.mended
        self._listen(planned)
        # What others have leased is not due; should they die, it comes to us.
        return bool(planned.due or (await self._parts.ledger.tally(self._source)).leased)

    async def _plan(self, run: int, retry: str | None) -> Planned:
        """Return what is due; for a bug of ours in the plan, what was due before it: that is worked on all the same."""
        planned = await self._borne("plan", self._parts.planner.plan(run, retry=retry))
        if planned is not None:
            return planned
        tally = await self._parts.ledger.tally(self._source)
        return Planned(self._source, tally.present, tally.held, tally.due, tally.later)

    async def _borne(self, what: str, work: Awaitable[T]) -> T | None:
        """Return what came of it; nothing for a bug of ours, which is counted and costs nothing else."""
        came = await safely(what, [], work)
        if not isinstance(came, list):
            return came
        self._sum.failed[Reason.BUG] += 1
        return None

    async def _work(self, run: int) -> None:
        stopped: OperatorError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                recording = group.create_task(self._recording.record(run))
                behind = [group.create_task(self._recording.look(run)), group.create_task(self._beat())]
                await self._visit_all(group)
                await self._drain()
                await self._recording.end()
                await recording
                for each in behind:
                    each.cancel()
                if self._failed is not None:
                    raise self._failed
            await self._leave()
        except* OperatorError as caught:
            stopped = next(each for each in caught.exceptions if isinstance(each, OperatorError))
        if stopped is None:
            return
        if isinstance(stopped, StoreError):  # the database still listens: nobody need wait for our leases to end
            with suppress(OperatorError):
                await self._leave()
        raise stopped  # Python before 3.11.4 wraps what is raised within `except*`

    async def _leave(self) -> None:
        """Give back what is leased and not recorded, and this worker's shares."""
        await self._leases.give_back(list(self._leases.open.values()))
        await self._parts.pulse.stop()

    # --- visits

    async def _visit_all(self, group: asyncio.TaskGroup) -> None:
        """Start visits until nothing is due or we are to stop."""
        await self._leases.look()
        while not self._stop.is_set():
            self._wake.clear()
            await self._leases.fill()
            self._start_visits(group)
            if self._visits:
                await self._wake.wait()
            elif not await self._more():
                break

    def _start_visits(self, group: asyncio.TaskGroup) -> None:
        per_host = max(4, self._limits.visits // 4)
        while len(self._visits) < self._limits.visits and (drawn := self._leases.draw(per_host)):
            self._glance_seconds = self._limits.glance_seconds
            visit = group.create_task(self._visit(*drawn))
            self._visits.add(visit)
            visit.add_done_callback(self._end_visit)

    def _end_visit(self, visit: asyncio.Task[None]) -> None:
        self._visits.discard(visit)
        self._wake.set()

    async def _visit(self, task: Task, aside: Postponed | None) -> None:
        """Visit one link, and hand its outcome to whoever records."""
        is_first = aside is None and self._leases.may_set_aside()
        try:
            visited = await visit_safely(self._parts.visitor, task, may_set_aside=is_first, aside=aside)
        except Postponed as mark:
            self._leases.set_aside(task, mark)
            return
        except HostPaused:
            await self._leases.give_back([task])
            return
        except StoreError as error:  # what others have proven is recorded first
            self._failed = self._failed or error
            self.stop()
            return
        finally:
            self._leases.visited(task)
        self._sum.add(visited)
        self._listen(visited)
        self._parts.pulse.report_picture(visited, self._limits.concurrency)
        await self._recording.put(visited.outcome)

    async def _more(self) -> bool:
        """Return whether there is more to do, having waited for it where that is short; nothing is in flight here."""
        if await self._leases.look():
            return True
        resting = await self._leases.resting()
        for host, seconds in resting.items():
            if seconds > self._limits.patience_seconds:
                await self._give_up(host, seconds)
        short = [seconds for seconds in resting.values() if seconds <= self._limits.patience_seconds]
        if short:
            await self._nap(min(short))
            return True
        await self._recording.settle()  # what is recorded last may unveil decoys, whose links are due again
        tally = await self._parts.ledger.tally(self._source)
        if tally.leased > len(self._leases.open):
            # Another worker is at them, and may be done in a moment; should it die, they come to us.
            await self._nap(self._glance_seconds)
            self._glance_seconds = min(self._limits.glance_growth * self._glance_seconds, self._limits.beat_seconds)
            return True
        return tally.due > 0

    async def _give_up(self, host: str, seconds: float) -> None:
        """Leave a host that is paused for long alone until its pause ends."""
        await self._leases.give_back_waiting(host)
        reason, evidence = self._parts.politeness.cause(host)
        links = await self._parts.ledger.defer_host(self._source, host, reason, evidence, seconds)
        self._sum.failed[reason] += links
        self._listen(HostDeferred(host, links, reason, evidence, seconds))

    async def _nap(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _drain(self) -> None:
        """Give back what is not begun; let what is in flight end, for a while."""
        await self._leases.give_back_waiting()
        if self._visits:
            _, late = await asyncio.wait(self._visits, timeout=self._limits.drain_seconds)
            for visit in late:
                visit.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # --- what goes on beside the visits

    def _recorded(self, group: Sequence[Outcome], recorded: Recorded) -> None:
        self._leases.close([outcome.task for outcome in group])
        self._sum.record(recorded)
        self._listen(recorded)

    async def _beat(self) -> None:
        """Show that we live, for ever: at once when there is news, every few seconds otherwise."""
        renewed = self._clock.monotonic()
        while True:
            await self._parts.pulse.send()
            self._parts.gate.refresh()
            self._wake.set()
            if self._clock.monotonic() - renewed >= self._limits.renew_seconds:
                await self._parts.ledger.renew(list(self._leases.open.values()))
                renewed = self._clock.monotonic()
            is_starved = self._parts.gate.is_starved()
            await self._parts.pulse.wait(self._limits.starved_seconds if is_starved else self._limits.beat_seconds)

    async def _summary(self, seconds: float) -> RunEnded:
        tally = await self._parts.ledger.tally(self._source)
        return replace(
            self._sum.ended(self._source, seconds),
            later=tally.later,
            next_due_seconds=tally.next_due_seconds,
            free_bytes=await self._parts.store.free_bytes(),
            total_held=tally.held,
            total_present=tally.present,
            interrupted=self._stop.is_set(),
        )
