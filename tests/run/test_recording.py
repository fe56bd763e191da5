"""What waits for what, between visits, recorder and the search for decoys; who does the work is played."""

from __future__ import annotations

import asyncio

from rehost.events import Recorded
from rehost.model import Link, Reason, Refused, Task
from rehost.run.limits import Limits
from rehost.run.recording import Recording

LIMITS = Limits(concurrency=1, requests=1, visits=1, group=2, group_seconds=0.01, drain_seconds=0.05)


def outcome(entry: int) -> Refused:
    link = Link("cases", str(entry), 0, f"https://a.example/{entry}", None, None)
    return Refused(Task(entry, 1, link, "a.example", 1), Reason.GONE, "404", 60.0)


class Resources:
    """Records at once; looks for decoys for as long as an origin hangs."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.looked: list[int] = []
        self.answers = asyncio.Event()
        self.stop = asyncio.Event()
        self.recording = Recording(self, self, LIMITS, self.stop, self.bear, self.tell, self.looked.append)

    async def record(self, _run, group):
        return Recorded(held=0, failed=len(group), overtaken=0)

    def tell(self, group, _recorded):
        self.recorded += [each.task.entry for each in group]

    async def clean(self, _run, group):
        await self.answers.wait()
        return len(group)

    async def bear(self, _what, work):
        return await work

    def go(self) -> asyncio.Task[None]:
        async def both() -> None:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                looking = group.create_task(self.recording.look(1))
                await self.recording.record(1)
                looking.cancel()

        return asyncio.create_task(both())

    async def until_recorded(self, number: int) -> None:
        async with asyncio.timeout(5):
            while len(self.recorded) < number:
                await asyncio.sleep(0)


async def test_no_group_waits_for_the_search_for_decoys_in_the_one_before_it():
    desk = Resources()
    going = desk.go()

    for entry in range(10):
        await desk.recording.put(outcome(entry))
    await desk.until_recorded(10)

    assert desk.looked == []
    desk.answers.set()
    await desk.recording.settle()
    assert sum(desk.looked) == 10
    await desk.recording.end()
    await going


async def test_a_stop_cuts_the_search_for_decoys_short_however_much_waits_for_it():
    desk = Resources()
    going = desk.go()

    async def visits() -> None:
        for entry in range(60):
            await desk.recording.put(outcome(entry))

    visiting = asyncio.create_task(visits())
    await desk.until_recorded(20)
    assert not visiting.done()  # what waits for the search is bounded
    settling = asyncio.create_task(desk.recording.settle())
    desk.stop.set()
    await visiting
    await desk.recording.end()
    await settling
    await going

    assert desk.recorded == list(range(60))
    assert desk.looked == []


async def test_who_waits_for_the_search_learns_what_it_made_of_everything():
    desk = Resources()
    desk.answers.set()
    going = desk.go()
    await desk.recording.put(outcome(1))

    await desk.recording.settle()

    assert (desk.recorded, desk.looked) == ([1], [1])
    await desk.recording.end()
    await going
