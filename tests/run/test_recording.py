"""What waits for what between visits, recorder and the search for decoys; recorder and search are played."""

from __future__ import annotations

import asyncio

from rehost.events import Recorded
from rehost.model import Link, Reason, Refused, Task
from rehost.run.limits import Limits
from rehost.run.recorder import RecordingPipeline
from rehost.run.stats import RunStats

LIMITS = Limits(concurrency=1, requests=1, visits=1, group=2, group_seconds=0.01, drain_seconds=0.05)


def outcome(entry: int) -> Refused:
    link = Link("cases", str(entry), 0, f"https://a.example/{entry}", None, None)
    return Refused(Task(entry, 1, link, "a.example", 1), Reason.GONE, "404", 60.0)


class Parts:
    """Records at once; the search for decoys lasts until `answers` is set."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.events: list[Recorded] = []
        self.answers = asyncio.Event()
        self.stop = asyncio.Event()
        self.stats = RunStats()
        self.pipeline = RecordingPipeline(
            self, self, self, self.stats, limits=LIMITS, stop=self.stop, listen=self.events.append
        )

    async def record(self, _run, group):
        return Recorded(held=0, failed=len(group), overtaken=0)

    def close(self, tasks):
        self.recorded += [task.entry for task in tasks]

    async def clean(self, _run, group):
        await self.answers.wait()
        return len(group)

    def start(self) -> asyncio.Task[None]:
        async def both() -> None:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                searching = group.create_task(self.pipeline.search_decoys(1))
                await self.pipeline.record(1)
                searching.cancel()

        return asyncio.create_task(both())

    async def until_recorded(self, number: int) -> None:
        async with asyncio.timeout(5):
            while len(self.recorded) < number:
                await asyncio.sleep(0)


async def test_recording_does_not_wait_for_the_search_for_decoys_in_an_earlier_group():
    parts = Parts()
    running = parts.start()

    for entry in range(10):
        await parts.pipeline.put(outcome(entry))
    await parts.until_recorded(10)

    assert parts.stats.unveiled == 0
    assert sum(event.failed for event in parts.events) == 10
    parts.answers.set()
    await parts.pipeline.flush()
    assert parts.stats.unveiled == 10
    await parts.pipeline.end()
    await running


async def test_stop_cuts_the_search_for_decoys_short_whatever_its_backlog():
    parts = Parts()
    running = parts.start()

    async def visits() -> None:
        for entry in range(60):
            await parts.pipeline.put(outcome(entry))

    visiting = asyncio.create_task(visits())
    await parts.until_recorded(20)
    assert not visiting.done()  # the backlog of the search is bounded
    flushing = asyncio.create_task(parts.pipeline.flush())
    parts.stop.set()
    await visiting
    await parts.pipeline.end()
    await flushing
    await running

    assert parts.recorded == list(range(60))
    assert parts.stats.unveiled == 0


async def test_flush_returns_after_the_search_of_everything_put():
    parts = Parts()
    parts.answers.set()
    running = parts.start()
    await parts.pipeline.put(outcome(1))

    await parts.pipeline.flush()

    assert (parts.recorded, parts.stats.unveiled) == ([1], 1)
    await parts.pipeline.end()
    await running
