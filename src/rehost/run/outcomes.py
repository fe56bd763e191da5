"""Outcomes on their way from the visits to the recorder, which takes them in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum, auto

from rehost.model import Outcome


class Marker(Enum):
    """What stands between outcomes."""

    NOW = auto()  # nothing follows for the moment: record what is there
    END = auto()  # nothing follows


class Outcomes:
    """A queue; whoever puts waits while twice a group is in it."""

    def __init__(self, most: int, seconds: float) -> None:
        """Take how many make a group, and how long it may wait for its last one."""
        self._most = most
        self._seconds = seconds
        self._queue: asyncio.Queue[Outcome | Marker] = asyncio.Queue(2 * most)

    async def put(self, outcome: Outcome | Marker) -> None:
        """Hand over an outcome, or a cue."""
        await self._queue.put(outcome)

    async def group(self) -> tuple[list[Outcome], bool]:
        """Return the next outcomes, as many as a group takes or as come within its time; and whether they are last."""
        group: list[Outcome] = []
        try:
            async with asyncio.timeout(None) as patience:
                while len(group) < self._most:
                    outcome = await self._queue.get()
                    if isinstance(outcome, Marker):
                        self._queue.task_done()
                        return group, outcome is Marker.END
                    if not group:
                        patience.reschedule(asyncio.get_running_loop().time() + self._seconds)
                    group.append(outcome)
        except TimeoutError:
            pass
        return group, False

    def done(self, group: Sequence[Outcome]) -> None:
        """Say that a group is recorded."""
        for _ in group:
            self._queue.task_done()

    async def join(self) -> None:
        """Return when all that was put is recorded."""
        await self._queue.join()
