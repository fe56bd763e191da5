"""What comes of visits is recorded in groups; behind that, decoys are looked for among what was recorded.

That search asks origins, and may wait for them: nobody waits for it but who wants to know whether it made links due
again. What it has not come to when a run is stopped is found again: by the next outcomes of the same origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from rehost.events import Recorded
from rehost.hotlink.cleanup import DecoyCleaner
from rehost.model import Outcome
from rehost.run.limits import Limits
from rehost.run.outcomes import Marker, Outcomes
from rehost.run.recorder import Recorder
from rehost.run.stopping import unless_stopped

T = TypeVar("T")

_BEHIND = 10  # groups that the search may be behind, before it is waited for


class Bearing(Protocol):
    """Who bears bugs of ours (run.py)."""

    async def __call__(self, what: str, work: Awaitable[T]) -> T | None:
        """Return what came of it; nothing for a bug."""
        ...


class Recording:
    """Records what comes of the visits of one run."""

    def __init__(
        self,
        recorder: Recorder,
        unveiler: DecoyCleaner,
        limits: Limits,
        stop: asyncio.Event,
        bear: Bearing,
        recorded: Callable[[Sequence[Outcome], Recorded], None],
        unveiled: Callable[[int], None],
    ) -> None:
        """Take who does it, what cuts it short, and who is told of what came of it."""
        self._recorder = recorder
        self._unveiler = unveiler
        self._limits = limits
        self._stop = stop
        self._bear = bear
        self._tell_recorded = recorded
        self._tell_unveiled = unveiled
        self._outcomes = Outcomes(limits.group, limits.group_seconds)
        self._recorded: asyncio.Queue[Sequence[Outcome]] = asyncio.Queue(_BEHIND)

    async def put(self, outcome: Outcome) -> None:
        """Hand over an outcome; waits while twice a group waits to be recorded."""
        await self._outcomes.put(outcome)

    async def end(self) -> None:
        """Say that no outcome will follow."""
        await self._outcomes.put(Marker.END)

    async def settle(self) -> None:
        """Return when all that was put is recorded and looked after, or, that being long, we are to stop."""
        await self._outcomes.put(Marker.NOW)
        await self._unless_stopped(self._join())

    async def record(self, run: int) -> None:
        """Record what is put, until the end, and until it is looked after; after a stop not for more than seconds.

        Raises:
            OperatorError: the store or the database cannot be used.
        """
        is_last = False
        while not is_last:
            group, is_last = await self._outcomes.group()
            if not group:
                continue
            recorded = await self._recorder.record(run, group)
            self._tell_recorded(group, recorded)
            await self._unless_stopped(self._recorded.put(group), grace_seconds=0.0)
            self._outcomes.done(group)
        await self._unless_stopped(self._recorded.join())

    async def look(self, run: int) -> None:
        """Look after whatever is recorded, for ever.

        Raises:
            OperatorError: the store or the database cannot be used.
        """
        while True:
            group = await self._recorded.get()
            self._tell_unveiled(await self._bear("unveil", self._unveiler.clean(run, group)) or 0)
            self._recorded.task_done()

    async def _join(self) -> None:
        await self._outcomes.join()
        await self._recorded.join()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None], grace_seconds: float | None = None) -> None:
        grace = self._limits.drain_seconds if grace_seconds is None else grace_seconds
        await unless_stopped(work, self._stop, grace_seconds=grace)
