"""Visits held links again, whose rows and copies stay as they are until the recorder has something better.

A run visits what is due, and chooses it fairly by host; here the caller chooses the links. Everything else is that of
a run: leases and heartbeats, the scheduler, the visitor, the recorder and the search for decoys.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.events import Listener, Visited
from rehost.hosts.scheduler import HostPaused
from rehost.model import Deferred, Outcome, Refused, Task, Unchanged
from rehost.run.limits import Limits
from rehost.run.recorder import RecordingPipeline
from rehost.run.run import Components, visit_link
from rehost.run.stats import RunStats

Judge = Callable[[Visited], Awaitable[Outcome | None]]
"""Returns the outcome to record for a visit; None if it comes later, by `HeldVisits.put`, and its lease goes on."""


async def nothing() -> None:
    """Do nothing."""


Visit = Callable[[Task], Awaitable[Visited]]
"""Visits a link, and handles bugs and paused hosts itself."""


async def keep_copy(visited: Visited) -> Outcome:
    """Return the outcome of a visit, or that the copy stays where that brought no picture."""
    outcome = visited.outcome
    if isinstance(outcome, Deferred | Refused) and outcome.decoy is None:
        return Unchanged(outcome.task, reason=outcome.reason, evidence=outcome.evidence)
    return outcome


class HeldVisits:
    """Visits held links of one source and records what came, all of them or until it is stopped."""

    def __init__(
        self, parts: Components, limits: Limits, clock: Clock, listen: Listener, stop: asyncio.Event, run: int
    ) -> None:
        """Take the parts of a run over the source, and the number of the run under which changes are recorded."""
        self.stats = RunStats()
        self._parts = parts
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self._stop = stop
        self._run = run
        self._open: dict[int, Task] = {}  # by entry: leased, and neither recorded nor given back
        self._waiting: list[Task] = []
        self._visiting: Counter[str] = Counter()  # by host
        self._wake = asyncio.Event()
        self._skips: Callable[[Task], bool] = lambda _task: False
        self._only_changes = False
        self._instead: Visit | None = None
        self._pipeline = RecordingPipeline(
            parts.recorder, parts.suspected_copies, self._close, self.stats, limits=limits, stop=stop, listen=listen
        )

    async def visit(
        self,
        entries: AsyncIterator[Sequence[int]],
        judge: Judge = keep_copy,
        prepare: Callable[[Task], Task] = lambda task: task,
        *,
        skips: Callable[[Task], bool] = lambda _task: False,
        finish: Callable[[], Awaitable[None]] = nothing,
        only_changes: bool = False,
        visit: Visit | None = None,
    ) -> None:
        """Lease these links, visit them and record what `judge` makes of each visit.

        Links that are not held any more, or that another worker has leased, are left out. So are those of hosts that
        are paused for long: they stay as they are.

        Args:
            entries: groups of links; the next group is read when there is room for it.
            judge: what to record.
            prepare: changes a task before its visit.
            skips: returns whether a leased link is to be given back unvisited.
            finish: is called once after the last visit, and puts the outcomes that `judge` has kept.
            only_changes: ask for pictures only if they have changed, where the copy has a validator.
            visit: is called in place of the visitor, for the links of paused hosts too.

        Raises:
            OperatorError: the database or the store cannot be used. What is recorded stays.
        """
        failed: list[OperatorError] = []
        self._skips, self._only_changes = skips, only_changes
        self._instead = visit
        try:
            async with asyncio.TaskGroup() as group:
                recording = group.create_task(self._pipeline.record(self._run))
                others = [group.create_task(self._pipeline.search_decoys()), group.create_task(self._beat())]
                await self._visit_all(group, entries, judge, prepare)
                await finish()
                await self._pipeline.end()
                await asyncio.wait({recording})
                for each in others:
                    each.cancel()
            await self._give_back(list(self._open.values()))
            await self._parts.heartbeat.stop()
        except* OperatorError as caught:
            failed += [each for each in caught.exceptions if isinstance(each, OperatorError)]
        if failed:
            raise failed[0]  # Python before 3.11.4 wraps what is raised within `except*`

    async def put(self, outcome: Outcome) -> None:
        """Record an outcome that `judge` has kept."""
        await self._pipeline.put(outcome)

    async def _visit_all(
        self,
        group: asyncio.TaskGroup,
        entries: AsyncIterator[Sequence[int]],
        judge: Judge,
        prepare: Callable[[Task], Task],
    ) -> None:
        visits: set[asyncio.Task[None]] = set()
        per_host, is_last = max(4, self._limits.visits // 4), False
        while not self._stop.is_set():
            self._wake.clear()
            while not is_last and len(self._waiting) < self._limits.visits:
                chosen = await anext(entries, None)
                is_last = chosen is None
                self._add(await self._parts.ledger.leases.lease_held(chosen or (), only_changes=self._only_changes))
            await self._give_back_skipped()
            while len(visits) < self._limits.visits and (task := self._next(per_host)) is not None:
                visit = group.create_task(self._visit(prepare(task), judge))
                visits.add(visit)
                visit.add_done_callback(visits.discard)
                visit.add_done_callback(lambda _visit: self._wake.set())
            if visits:
                await self._wake.wait()
            elif self._waiting:  # all of paused hosts
                await self._give_back(self._waiting)
                self._waiting = []
            elif is_last:
                break
        if visits:
            _, late = await asyncio.wait(visits, timeout=self._limits.drain_seconds if self._stop.is_set() else None)
            for visit in late:
                visit.cancel()

    def _add(self, tasks: Sequence[Task]) -> None:
        self._waiting += tasks
        self._open |= {task.entry: task for task in tasks}

    async def _give_back_skipped(self) -> None:
        if skipped := [task for task in self._waiting if self._skips(task)]:
            self._waiting = [task for task in self._waiting if not self._skips(task)]
            await self._give_back(skipped)

    def _next(self, per_host: int) -> Task | None:
        """Take the first waiting task of a host that may be visited now."""
        for number, task in enumerate(self._waiting):
            is_paused = self._parts.limiter.pause_seconds(task.host) > self._limits.patience_seconds
            if self._visiting[task.host] < per_host and (self._instead is not None or not is_paused):
                return self._waiting.pop(number)
        return None

    async def _visit(self, task: Task, judge: Judge) -> None:
        self._visiting[task.host] += 1
        try:
            instead = self._instead
            visited = await (visit_link(self._parts.visitor, task) if instead is None else instead(task))
        except HostPaused:
            await self._give_back([task])
            return
        finally:
            self._visiting[task.host] -= 1
            self._wake.set()
        self.stats.add(visited)
        self._listen(visited)
        self._parts.heartbeat.report_picture(visited, self._limits.concurrency)
        outcome = await judge(visited)
        if outcome is not None:
            await self._pipeline.put(outcome)

    async def _beat(self) -> None:
        """Send heartbeats and renew the leases until cancelled."""
        heartbeat, scheduler, renewed = self._parts.heartbeat, self._parts.scheduler, self._clock.monotonic()
        while True:
            await heartbeat.send()
            scheduler.refresh()
            self._wake.set()
            if self._clock.monotonic() - renewed >= self._limits.renew_seconds:
                lost = await self._parts.ledger.leases.renew(list(self._open.values()))
                self._waiting = [task for task in self._waiting if task not in lost]
                renewed = self._clock.monotonic()
            is_starved = scheduler.is_starved()
            await heartbeat.wait(self._limits.starved_seconds if is_starved else self._limits.beat_seconds)

    async def _give_back(self, tasks: Sequence[Task]) -> None:
        await self._parts.ledger.leases.release(tasks)
        self._close(tasks)

    def _close(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self._open.pop(task.entry, None)
