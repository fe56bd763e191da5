"""Many images: lease, visit within limits, record in groups, stop gracefully.

Until nothing is due, these run at the same time: the heartbeat and, for each source, its visits, its recorder, and the
search for decoys behind it. All sources share the limits of requests; each has visits of its own, so that none waits
for another one, slower or with more links. Links of which a worker may have died come last, one source at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from rehost.attempt import Postponed
from rehost.clock import Clock
from rehost.errors import OperatorError, StoreError
from rehost.events import Event, HostDeferred, Listener, Planned, RunBegan, RunEnded, Visited
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.scheduler import Heartbeat, HostPaused, RequestScheduler
from rehost.hotlink.suspected_copies import SuspectedCopies
from rehost.ledger import Ledger
from rehost.ledger.leases import MOST_ROOTS, LinkCounts
from rehost.model import Task
from rehost.run.limits import Limits, bug_to_none, bug_to_outcome, unless_stopped
from rehost.run.planner import Planner
from rehost.run.recorder import Recorder, RecordingPipeline
from rehost.run.stats import RunStats, total
from rehost.run.task_queue import TaskQueue
from rehost.run.visitor import Visitor
from rehost.store.base import Store

log = logging.getLogger(__name__)

LONG_PAUSE = 3600.0  # seconds; a shorter one passes before anybody could look at it
STOP_SECONDS = 5.0  # for recording what stopped a run: it may be the database


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of a run over one source; wiring builds them."""

    planner: Planner
    visitor: Visitor
    recorder: Recorder
    ledger: Ledger
    limiter: HostLimiter
    scheduler: RequestScheduler
    heartbeat: Heartbeat
    suspected_copies: SuspectedCopies
    store: Store


async def visit_link(
    visitor: Visitor, task: Task, *, may_postpone: bool = False, postponed: Postponed | None = None
) -> Visited:
    """Visit one link; a bug of ours is an outcome too.

    Raises:
        HostPaused: the host is paused; the link was not requested.
        OperatorError: the database or the store cannot be used.
        Postponed: only if `may_postpone`.
    """
    work = visitor.visit(task, may_postpone=may_postpone, postponed=postponed)
    visited = await bug_to_outcome("visit", [task], work)
    if isinstance(visited, list):
        return Visited(visited[0], task.host, size=0, seconds=0.0, attempts=0)
    return visited


class Run:
    """One run over one or several sources, by one process."""

    def __init__(self, parts: Sequence[Components], limits: Limits, clock: Clock, listen: Listener) -> None:
        """Take the parts of each source; nothing happens before `execute`."""
        self._shared = parts[0]  # ledger, limiter, scheduler, heartbeat and store are the same in all
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self._stop = asyncio.Event()
        self._is_planning = True
        self._sources = [_SourceRun(each, limits, clock, listen, self._stop, self.stop) for each in parts]

    @property
    def sources(self) -> Sequence[str]:
        """Return the names of the sources."""
        return [each.name for each in self._sources]

    def stop(self) -> None:
        """Begin nothing more; what is in flight is finished and recorded within seconds."""
        self._stop.set()
        for each in self._sources:
            each.wake()

    async def execute(self, *, retry: str | None = None, crew: int | None = None) -> RunEnded:
        """Visit every due link once and return the run's summary.

        Args:
            retry: as in `Planner.plan`.
            crew: number of the run, planned already, that this process is a part of; None for a run of its own.

        Raises:
            OperatorError: the database or the store stopped the run; the next run goes on where this one was.
        """
        started, runs = self._clock.monotonic(), self._shared.ledger.runs
        own = [await runs.begin(self._sources[0].name, crew)]
        run = own[0] if crew is None else crew
        own += [await runs.begin(each.name, run) for each in self._sources[1:]]
        for each in self._sources:
            self._listen(RunBegan(each.name, run))
        watching = asyncio.create_task(self._watch(run))
        try:
            working = [each for each in self._sources if crew is not None or await each.finds_work(run, retry)]
            self._is_planning = False
            if working:
                await self._work(run, working)
            else:
                await self._leave()
            seconds = self._clock.monotonic() - started
            ended = [await each.summary(seconds, is_idle=not working) for each in self._sources]
            for number, part in zip(own, ended, strict=True):
                await runs.end(number, part)
        except OperatorError as error:
            await self._record_stop(own, self._clock.monotonic() - started, str(error))
            raise
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        self._listen(total(ended))
        return total(ended)

    async def _record_stop(self, own: Sequence[int], seconds: float, sentence: str) -> None:
        """Record what stopped the run, if the database takes that soon."""
        with suppress(OperatorError, TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for number, each in zip(own, self._sources, strict=True):
                    await self._shared.ledger.runs.end(number, each.stats.ended(each.name, seconds), sentence)

    async def _watch(self, run: int) -> None:
        """Stop when somebody asks for it through the ledger; until the first visits begin, send the heartbeats."""
        while not self._stop.is_set():
            with suppress(OperatorError):  # of an outage, which is for the run itself to report
                if self._is_planning:
                    await self._shared.heartbeat.send()
                if await self._shared.ledger.runs.is_to_stop(run):
                    self.stop()
            await self._clock.sleep(self._limits.beat_seconds)

    async def _work(self, run: int, sources: Sequence[_SourceRun]) -> None:
        stopped: list[OperatorError] = []
        try:
            async with asyncio.TaskGroup() as group:
                recording = [group.create_task(each.pipeline.record(run)) for each in sources]
                others = [group.create_task(each.pipeline.search_decoys()) for each in sources]
                others.append(group.create_task(self._beat()))
                await _visit_all(group, sources)
                await asyncio.wait([group.create_task(each.drain()) for each in sources])
                for each in sources:
                    await each.pipeline.end()
                await asyncio.wait(recording)
                for task in others:
                    task.cancel()
            stopped += [each.failed for each in sources if each.failed is not None]
            if not stopped:
                await self._leave()
        except* OperatorError as caught:
            stopped += [each for each in caught.exceptions if isinstance(each, OperatorError)]
        if not stopped:
            return
        if isinstance(stopped[0], StoreError):  # the database still answers: no other worker need wait for our leases
            with suppress(OperatorError):
                await self._leave()
        raise stopped[0]  # Python before 3.11.4 wraps what is raised within `except*`

    async def _leave(self) -> None:
        """Give back what is leased and not recorded, and this worker's shares of hosts."""
        for each in self._sources:
            await each.tasks.give_back(list(each.tasks.open.values()))
        await self._shared.heartbeat.stop()

    async def _beat(self) -> None:
        """Send heartbeats until cancelled: at once when there is news, every few seconds otherwise."""
        heartbeat, scheduler = self._shared.heartbeat, self._shared.scheduler
        renewed = self._clock.monotonic()
        while True:
            await heartbeat.send()
            scheduler.refresh()
            for each in self._sources:
                each.wake()
            if self._clock.monotonic() - renewed >= self._limits.renew_seconds:
                leased = [task for each in self._sources for task in each.tasks.open.values()]
                lost = await self._shared.ledger.leases.renew(leased)
                for each in self._sources:
                    each.drop(lost)
                renewed = self._clock.monotonic()
            is_starved = scheduler.is_starved()
            await heartbeat.wait(self._limits.starved_seconds if is_starved else self._limits.beat_seconds)


async def _visit_all(group: asyncio.TaskGroup, sources: Sequence[_SourceRun]) -> None:
    """Visit the due links of all sources; suspects only while no other link of any source is visited."""
    if len(sources) > 1:
        await asyncio.wait([group.create_task(each.visit_all(group, with_suspects=False)) for each in sources])
    for each in sources:
        await each.visit_all(group)


class _SourceRun:
    """A process's part of a run over one source: what is leased, visited, recorded and counted of it."""

    def __init__(
        self,
        parts: Components,
        limits: Limits,
        clock: Clock,
        listen: Listener,
        stop: asyncio.Event,
        stop_all: Callable[[], None],
    ) -> None:
        """Take the parts; `stop` is set when the run is to stop, and `stop_all` stops it for all sources."""
        self.parts = parts
        self.name = parts.planner.catalogue.name
        self.failed: StoreError | None = None  # from a visit
        self.tasks = TaskQueue(parts.ledger, self.name, parts.limiter, limits)
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self.stats = RunStats()
        self._visits: dict[asyncio.Task[None], Task] = {}
        self._wake = asyncio.Event()
        self._stop = stop
        self._stop_all = stop_all
        self.pipeline = RecordingPipeline(
            parts.recorder,
            parts.suspected_copies,
            self.tasks.close,
            self.stats,
            limits=limits,
            stop=stop,
            listen=listen,
        )
        self._recheck_seconds = limits.recheck_seconds
        self._planned: LinkCounts | None = None  # where the source stood then
        self._back_at: dict[str, float] = {}  # origin -> monotonic time when its deferred links are due again

    def wake(self) -> None:
        """Let `visit_all` look again for what it can do."""
        self._wake.set()

    def _emit(self, event: Event) -> None:
        self.stats.add(event)
        self._listen(event)

    async def finds_work(self, run: int, retry: str | None) -> bool:
        """Plan, and return whether there is anything to do; False if the run is to stop."""
        planned = await unless_stopped(self._plan(run, retry), self._stop, grace_seconds=self._limits.drain_seconds)
        if planned is None:
            return False
        self._emit(planned)
        # Links that other workers have leased are not due, but become due if those workers die.
        return bool(planned.due or self._planned is None or self._planned.leased)

    async def _plan(self, run: int, retry: str | None) -> Planned:
        """Return what is due; if the planner has a bug, what was due before, so that the run goes on with that."""
        found = await bug_to_none("plan", self.parts.planner.plan(run, retry=retry), self.stats)
        if found is not None:
            planned, self._planned = found
            return planned
        self._planned = counts = await self.parts.ledger.due.counts(self.name)
        return Planned(self.name, counts.present, counts.held, counts.due, counts.later)

    # --- visits

    async def visit_all(self, group: asyncio.TaskGroup, *, with_suspects: bool = True) -> None:
        """Start visits until nothing is due, suspects aside unless they are wanted, or the run is to stop."""
        await self.tasks.refresh()
        while not self._stop.is_set():
            self._wake.clear()
            await self.tasks.lease_more()
            self._start_visits(group)
            if await self._defer_origins():
                continue
            if self._visits:
                await self._wake.wait()
            elif not await self._wait_for_more(with_suspects=with_suspects):
                break

    def _start_visits(self, group: asyncio.TaskGroup) -> None:
        per_host = max(4, self._limits.visits // 4)
        while len(self._visits) < self._limits.visits and (task := self.tasks.next(per_host)):
            self._recheck_seconds = self._limits.recheck_seconds
            visit = group.create_task(self._visit(*task))
            self._visits[visit] = task[0]
            visit.add_done_callback(self._end_visit)

    def _end_visit(self, visit: asyncio.Task[None]) -> None:
        del self._visits[visit]
        self._wake.set()

    def drop(self, lost: Sequence[Task]) -> None:
        """End what is being done under leases that are no longer ours: its outcome would be refused."""
        lost = [task for task in lost if self.tasks.open.get(task.entry) is task]
        for visit in [each for each, task in self._visits.items() if task in lost]:
            visit.cancel()
        self.tasks.drop(lost)
        if lost:
            log.warning("leases lost source=%s links=%d", self.name, len(lost))

    async def _visit(self, task: Task, postponed: Postponed | None) -> None:
        """Visit one link and pass its outcome on to be recorded."""
        may_postpone = postponed is None and self.tasks.may_postpone()
        try:
            visited = await visit_link(self.parts.visitor, task, may_postpone=may_postpone, postponed=postponed)
        except Postponed as again:
            self.tasks.postpone(task, again)
            return
        except HostPaused:
            if not self.tasks.hold_if_paused(task):
                await self.tasks.give_back([task])
            return
        except StoreError as error:  # raised at the end, after what others have verified is recorded
            self.failed = self.failed or error
            self._stop_all()
            return
        finally:
            self.tasks.visited(task)
        self._emit(visited)
        self.parts.heartbeat.report_picture(visited, self._limits.concurrency)
        await self.pipeline.put(visited.outcome)

    async def _wait_for_more(self, *, with_suspects: bool) -> bool:
        """Return whether there is more to do, after waiting for it if that is short; nothing is in flight here."""
        if self.tasks.has_suspects:
            await self.pipeline.flush()
        if await self.tasks.refresh():
            return True
        seconds = await self._defer_paused_hosts()
        if seconds is not None:
            await self._sleep(seconds)
            return True
        await self.pipeline.flush()  # the last outcomes may reveal decoys, whose links are due again
        has_due = await self.tasks.has_due(again=True)
        if has_due and not with_suspects:
            return await self.tasks.refresh()
        if has_due and await self.tasks.lease_suspects():
            return True
        if await self.parts.ledger.due.leased(self.name) > len(self.tasks.open):
            # Another worker is visiting links: it may finish soon, and if it dies they become due again.
            await self._sleep(self._recheck_seconds)
            self._recheck_seconds = min(self._limits.recheck_growth * self._recheck_seconds, self._limits.beat_seconds)
            return True
        return await self.tasks.has_due(again=False)

    async def _defer_paused_hosts(self) -> float | None:
        """Defer the links of hosts that are paused for long; return the seconds until the first short pause is over.

        None if there is no short pause, 0 if the operator has just ended one.
        """
        paused = await self.tasks.paused_hosts()
        long = {host: seconds for host, seconds in paused.items() if seconds > self._limits.patience_seconds}
        if long and await self.parts.heartbeat.lift_resumed():
            return 0.0
        for host, seconds in long.items():
            await self._defer_host(host, seconds)
        now = self._clock.monotonic()
        self._back_at = {origin: at for origin, at in self._back_at.items() if at > now}
        short = [seconds for host, seconds in paused.items() if host not in long]
        return min([*short, *(at - now for at in self._back_at.values())], default=None)

    async def _defer_host(self, host: str, seconds: float) -> None:
        """Defer all links of a host that is paused for long, until its pause ends."""
        await self.tasks.give_back_waiting(host)
        reason, evidence = self.tasks.cause(host)
        links = await self.parts.ledger.deferrals.defer_host(self.name, host, reason, evidence, seconds)
        self._emit(HostDeferred(host, links, reason, evidence, seconds))

    async def _defer_origins(self) -> bool:
        """Defer the links of paused origins, so that those of their hosts' other origins go on.

        The run waits for those that are due again soon.

        Returns:
            whether any were deferred: others may be leased in their place.
        """
        if self.tasks.longest_pause() > self._limits.patience_seconds:
            await self.parts.heartbeat.lift_resumed()
        deferred = await self.tasks.defer_paused()
        for origin, links, seconds in deferred:
            if seconds > self._limits.patience_seconds:
                self._emit(HostDeferred(origin, links, *self.parts.limiter.cause(origin), seconds))
            else:
                self._back_at[origin] = self._clock.monotonic() + seconds
        return bool(deferred)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless something wakes the run earlier."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def drain(self) -> None:
        """Give back what has not begun; let what is in flight end, for a while."""
        await self.tasks.give_back_waiting()
        if self._visits:
            _, late = await asyncio.wait(self._visits, timeout=self._limits.drain_seconds)
            for visit in late:
                visit.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def summary(self, seconds: float, *, is_idle: bool = False) -> RunEnded:
        """Return how the run ended for this source, after so many seconds; `is_idle` if it has only planned."""
        due = self.parts.ledger.due
        counts = (self._planned if is_idle else None) or await due.counts(self.name)
        waiting = await due.paused(self.name, None) if counts.paused else {}
        return replace(
            self.stats.ended(self.name, seconds, waiting if len(waiting) < MOST_ROOTS else None),
            later=counts.later,
            next_due_seconds=counts.next_due_seconds,
            free_bytes=await self.parts.store.free_bytes(),
            total_held=counts.held,
            total_present=counts.present,
            interrupted=self._stop.is_set(),
            paused=dict(await due.paused(self.name)) if waiting else {},
            long_paused=tuple(await due.paused(self.name, LONG_PAUSE)) if waiting else (),
        )
