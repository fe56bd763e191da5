"""ONE image, now: somebody asks for the picture of a link that may not be held yet.

The very same visit as in a run, recorded the same way. Only what leads to it differs: one row is noted, one link is
leased, if it is due: a link that failed is not asked for again because somebody opens a page. However many ask, there
is one visit: in this process they share it, other processes are kept off by the lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.events import Listener
from rehost.hosts.scheduler import HostPaused
from rehost.model import State, Task
from rehost.on_demand.shift import OnDemandRun
from rehost.ports import Entry
from rehost.run.limits import Limits
from rehost.run.run import Components, visit_safely

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # between two looks at a link that another worker has
OTHERS_SECONDS = 20.0  # for which that is done


class OnDemandService:
    """Brings single pictures; `close` ends it."""

    def __init__(
        self, sources: Mapping[str, Components], shift: OnDemandRun, limits: Limits, clock: Clock, listen: Listener
    ) -> None:
        """Take the parts of each source; they share ledger, gate, politeness and pulse."""
        self._sources = sources
        self._shift = shift
        self._limits = limits
        self._clock = clock
        self._listen = listen
        self._going: dict[tuple[str, str, int], asyncio.Task[Entry | None]] = {}
        self._recording = asyncio.Lock()

    async def fetch(self, source: str, row_key: str, position: int) -> Entry | None:
        """Return how a link stands, once what can be done for it now is done; None if the catalogue has no such link.

        Whoever stops waiting does not stop the visit. Where as many go on as may, nothing more is begun.

        Raises:
            OperatorError: database or store cannot be used; the link is not blamed for it.
        """
        if source not in self._sources:
            return None
        place = source, row_key, position
        going = self._going.get(place)
        if going is None:
            if len(self._going) >= self._limits.visits:
                return await self._sources[source].ledger.entry(*place)
            going = asyncio.create_task(self._meet(*place))
            self._going[place] = going
            going.add_done_callback(lambda done: self._forget(place, done))
        return await asyncio.shield(going)

    async def close(self) -> None:
        """Let what is in flight end, for a while; then give back what is leased."""
        if self._going:
            _, late = await asyncio.wait(set(self._going.values()), timeout=self._limits.drain_seconds)
            for going in late:
                going.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._shift.close()

    def _forget(self, place: tuple[str, str, int], done: asyncio.Task[Entry | None]) -> None:
        del self._going[place]
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("picture not brought source=%r row=%r error=%r", place[0], place[1], str(error))

    async def _meet(self, source: str, row_key: str, position: int) -> Entry | None:
        parts, place = self._sources[source], (source, row_key, position)
        await parts.ledger.note_row(source, row_key, parts.planner.catalogue.row(row_key))
        entry = await parts.ledger.entry(*place)
        if entry is not None and entry.copy is not None:
            path = parts.store.path(entry.copy.key)
            if not await asyncio.to_thread(path.is_file):
                await parts.ledger.lose(*place, entry.copy.key)
        until = self._clock.monotonic() + OTHERS_SECONDS
        while (entry := await parts.ledger.entry(*place)) is not None and entry.copy is None:
            if entry.is_due:
                if (resting := self._resting(parts, entry)) is not None:
                    return resting
                task = await parts.ledger.lease_one(*place)
                if task is not None:
                    await self._turn(parts, task)
                    break
            elif entry.state is not State.LEASED or self._clock.monotonic() > until:
                return entry
            await self._clock.sleep(LOOK_SECONDS)
        entry = await parts.ledger.entry(*place)
        return entry and (self._resting(parts, entry) or entry)

    def _resting(self, parts: Components, entry: Entry) -> Entry | None:
        """Return the entry as it stands while its host is left alone; None while it is not, or a copy is held."""
        seconds = parts.politeness.pause_seconds(entry.host)
        if entry.copy is not None or seconds <= self._limits.patience_seconds:
            return None
        reason, _ = parts.politeness.cause(entry.host)
        return replace(entry, reason=reason, wait_seconds=max(seconds, entry.wait_seconds))

    async def _turn(self, parts: Components, task: Task) -> None:
        """Visit a link and record what came of it; whatever keeps us from that, the lease is given back."""
        try:
            async with self._shift.visit(task) as run:
                await self._visit(parts, run, task)
        except HostPaused:
            await parts.ledger.release([task])
        except BaseException:
            with suppress(OperatorError):
                await parts.ledger.release([task])
            raise

    async def _visit(self, parts: Components, run: int, task: Task) -> None:
        visited = await visit_safely(parts.visitor, task)
        self._listen(visited)
        parts.pulse.report_picture(visited, self._limits.concurrency)
        async with self._recording:
            recorded = await parts.recorder.record(run, [visited.outcome])
        self._listen(recorded)
        unveiled = await parts.unveiler.clean(run, [visited.outcome])
        self._shift.add(task.link.source, visited, recorded, unveiled)
