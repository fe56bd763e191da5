"""One image, now: a client requests the picture of a link that may not be held yet.

The visit and its recording are those of a run. Only what leads to them differs: one row is taken in, and one link is
leased if it is due, so a link that failed is not visited again just because a page is opened. However many clients
request the same link, there is one visit: clients of this process share it, and the lease keeps off other processes.

Anyone can request anything, so one registrable domain gets at most half of the requests in flight, and an eighth of the
places to wait for one: links that are slow to fetch do not take what those of other domains need.

Visits need what a run has: a number in the ledger, shares of the hosts, leases that are renewed. So there is a run for
each source from its first visit until no visit has been going on for QUIET_SECONDS.

A link of which an earlier process may have died (`Entry.is_suspect`) is visited while no other one is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.events import Listener
from rehost.hosts.scheduler import HostPaused
from rehost.http.url import domain_of
from rehost.ledger.leases import Entry
from rehost.model import State, Task
from rehost.run.limits import Limits
from rehost.run.run import Components, visit_link
from rehost.run.stats import RunStats

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25  # between two reads of a link that another worker has leased
OTHERS_SECONDS = 20.0  # how long to wait for that worker
MOST_FETCHING = 4  # pictures that are fetched, or wait for it, for each visit that a run would have in progress
QUIET_SECONDS = 30.0  # without a visit, until the runs end

Place = tuple[str, str, int]  # source, row key, position


@dataclass(slots=True)
class _SourceRun:
    """The run over one source."""

    run: int
    started: float  # monotonic
    stats: RunStats = field(default_factory=RunStats)


class OnDemandService:
    """Fetches single pictures; `close` ends it."""

    def __init__(self, sources: Mapping[str, Components], limits: Limits, clock: Clock, listen: Listener) -> None:
        """Take the parts of each source, at least one; they share all but those that know a source."""
        self._sources = sources
        self._shared = next(iter(sources.values()))
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self._fetching: dict[Place, asyncio.Task[Entry | None]] = {}
        self._waiting: Counter[str] = Counter()  # by registrable domain; those that are being visited included
        self._turns: dict[str, asyncio.Semaphore] = {}  # of the same domains
        self._recording = asyncio.Lock()
        self._runs: dict[str, _SourceRun] = {}
        self._runs_lock = asyncio.Lock()
        self._leases: dict[int, Task] = {}
        self._visiting = 0
        self._is_visiting_suspect = False
        self._used_at = 0.0
        self._heartbeat: asyncio.Task[None] | None = None

    async def fetch(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return a link's entry, after visiting it if it is due; None if the catalogue has no such link.

        A caller that stops waiting does not stop the visit. No more visits are begun than the limits allow.

        Raises:
            OperatorError: database or store cannot be used, or too much is being fetched; that does not count as a
                failure of the link.
        """
        if source not in self._sources:
            return None
        place = source, row_key, position
        fetching = self._fetching.get(place)
        if fetching is None:
            if len(self._fetching) >= MOST_FETCHING * self._limits.visits:
                raise OperatorError("too many pictures are being fetched already")
            fetching = asyncio.create_task(self._fetch(*place))
            self._fetching[place] = fetching
            fetching.add_done_callback(lambda done: self._forget(place, done))
        return await asyncio.shield(fetching)

    async def close(self) -> None:
        """Let what is in flight end, for a while; then give back what is leased and end the runs."""
        if self._fetching:
            _, late = await asyncio.wait(set(self._fetching.values()), timeout=self._limits.drain_seconds)
            for fetching in late:
                fetching.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            await asyncio.wait({self._heartbeat})
        async with self._runs_lock:
            with suppress(OperatorError):
                await self._end_runs()

    def _forget(self, place: Place, done: asyncio.Task[Entry | None]) -> None:
        del self._fetching[place]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("picture not brought source=%r row=%r error=%r", place[0], place[1], str(error))

    # --- one link

    async def _fetch(self, source: str, row_key: str, position: int) -> Entry | None:
        parts, place = self._sources[source], (source, row_key, position)
        ledger = parts.ledger
        await ledger.sync.take_in_row(source, row_key, parts.planner.catalogue.row(row_key))
        entry = await ledger.due.entry(*place)
        if entry is not None and entry.copy is not None and not await parts.store.states([entry.copy.key]):
            await parts.store.identity()  # a store that is not mounted has lost nothing
            await ledger.reconcile.mark_missing(*place, entry.copy.key)
            await parts.planner.clear_lost((await self._run_of(source)).run)
        until = self._clock.monotonic() + OTHERS_SECONDS
        while (entry := await ledger.due.entry(*place)) is not None and entry.copy is None:
            if entry.is_due and (paused := self._paused(entry)) is not None:
                return paused
            if entry.is_due:
                async with self._turn(domain_of(entry.host)):
                    is_visited = await self._visit_if_allowed(parts, place, entry)
                if is_visited:
                    break
            if not (entry.is_due or entry.state is State.LEASED) or self._clock.monotonic() > until:
                return entry
            await self._clock.sleep(POLL_SECONDS)
        entry = await ledger.due.entry(*place)
        return entry and (self._paused(entry) or entry)

    def _paused(self, entry: Entry) -> Entry | None:
        """Return the entry, waiting for a pause; None if a copy is held, or no pause keeps a visit from its request.

        A visit waits out a short pause of its host, not one of its origin.
        """
        limiter = self._shared.limiter
        name = max(entry.host, entry.origin, key=limiter.pause_seconds)
        seconds = limiter.pause_seconds(name)
        patience = 0.0 if limiter.pause_seconds(entry.origin) else self._limits.patience_seconds
        if entry.copy is not None or seconds <= patience:
            return None
        reason, _ = limiter.cause(name)
        return replace(entry, reason=reason, wait_seconds=max(seconds, entry.wait_seconds))

    async def _visit_if_allowed(self, parts: Components, place: Place, entry: Entry) -> bool:
        """Visit a link that is due, unless another worker has it or a suspect is involved; return whether it was."""
        if self._is_visiting_suspect or (entry.is_suspect and self._visiting):
            return False
        self._visiting += 1
        self._is_visiting_suspect = entry.is_suspect
        try:
            task = await parts.ledger.leases.lease_one(*place)
            if task is not None:
                await self._visit(parts, task)
        finally:
            self._visiting -= 1
            self._is_visiting_suspect = False
        return task is not None

    @asynccontextmanager
    async def _turn(self, domain: str) -> AsyncIterator[None]:
        """Wait for the turn of a link of this domain; raise OperatorError if too many of them wait."""
        if self._waiting[domain] >= self._limits.visits // 2:
            raise OperatorError("too many pictures of {domain} are being fetched already", domain=domain)
        self._waiting[domain] += 1
        try:
            async with self._turns.setdefault(domain, asyncio.Semaphore(max(1, self._limits.requests // 2))):
                yield
        finally:
            self._waiting[domain] -= 1
            if not self._waiting[domain]:
                del self._waiting[domain], self._turns[domain]

    async def _visit(self, parts: Components, task: Task) -> None:
        """Visit a link and record the outcome; give the lease back if anything prevents that."""
        try:
            async with self._renewing(task):
                source_run = await self._run_of(task.link.source)
                visited = await visit_link(parts.visitor, task)
                self._listen(visited)
                parts.heartbeat.report_picture(visited, self._limits.concurrency)
                async with self._recording:
                    recorded = await parts.recorder.record(source_run.run, [visited.outcome])
                self._listen(recorded)
                suspected = await parts.suspected_copies.find([visited.outcome])
                source_run.stats.add(visited)
                source_run.stats.add(recorded)
                for event in suspected:
                    source_run.stats.add(event)
                    self._listen(event)
        except HostPaused:
            await parts.ledger.leases.release([task])
        except BaseException:
            with suppress(OperatorError):
                await parts.ledger.leases.release([task])
            raise

    @asynccontextmanager
    async def _renewing(self, task: Task) -> AsyncIterator[None]:
        """Keep a lease for as long as the block lasts."""
        self._leases[task.entry] = task
        try:
            yield
        finally:
            self._leases.pop(task.entry, None)
            self._used_at = self._clock.monotonic()

    # --- the runs

    async def _run_of(self, source: str) -> _SourceRun:
        """Return the run over a source, begun if need be; heartbeats are sent from then on."""
        async with self._runs_lock:
            if source not in self._runs:
                run = await self._shared.ledger.runs.begin(source)
                self._runs[source] = _SourceRun(run, self._clock.monotonic())
            if self._heartbeat is None or self._heartbeat.done():
                self._heartbeat = asyncio.create_task(self._beat())
            return self._runs[source]

    async def _beat(self) -> None:
        """Send heartbeats until it is quiet; if the database stays away, reject all visits that wait for a host."""
        heartbeat = self._shared.heartbeat
        renewed = self._clock.monotonic()
        try:
            while not await self._end_if_quiet():
                await heartbeat.send()
                self._shared.scheduler.open()
                self._reject_waiters(self._limits.patience_seconds)
                if self._clock.monotonic() - renewed >= self._limits.renew_seconds:
                    await self._shared.ledger.leases.renew(list(self._leases.values()))
                    renewed = self._clock.monotonic()
                await heartbeat.wait(self._limits.beat_seconds)
        except OperatorError as error:
            log.warning("pictures on demand stopped reason=%r", str(error))
            self._runs.clear()
            self._reject_waiters(-1.0)

    async def _end_if_quiet(self) -> bool:
        async with self._runs_lock:
            quiet = self._clock.monotonic() - self._used_at
            if self._leases or quiet < QUIET_SECONDS:
                return False
            self._heartbeat = None  # the next visit begins anew
            await self._end_runs()
            return True

    async def _end_runs(self) -> None:
        """Give the shares of hosts back and record the runs' summaries."""
        runs, self._runs = self._runs, {}
        if runs:
            await self._shared.heartbeat.stop()
        for source, source_run in runs.items():
            seconds = self._clock.monotonic() - source_run.started
            ended = source_run.stats.ended(source, seconds)
            await self._shared.ledger.runs.end(source_run.run, ended)

    def _reject_waiters(self, patience_seconds: float) -> None:
        """Reject the visits that wait for hosts paused for longer than that."""
        limiter = self._shared.limiter
        for host in limiter.wanted():
            if limiter.pause_seconds(host) > patience_seconds:
                self._shared.scheduler.reject_waiters(host)
