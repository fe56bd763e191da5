import asyncio

import pytest

from rehost.cli.workers.channel import make_line
from rehost.events import RunBegan


async def heard(line):
    return [said async for said in line.said()]


async def test_what_a_pipe_does_not_hold_at_once_arrives_whole_and_in_order():
    ours, theirs = make_line()
    large = [RunBegan("cases", number) for number in range(100_000)]
    hearing = asyncio.create_task(heard(ours))

    with theirs.told(lambda: None):  # what an event loop watches it makes non-blocking
        for said in ([], large, large[:1]):
            await asyncio.to_thread(theirs.say, said)
    theirs.close()

    assert await asyncio.wait_for(hearing, 60) == [*large, *large[:1]]
    ours.close()


def test_the_other_end_is_told_to_begin():
    ours, theirs = make_line()

    ours.begin(1 << 40)

    assert theirs.begun() == 1 << 40
    theirs.close()
    ours.begin(7)  # nobody hears it
    ours.close()


@pytest.mark.parametrize("way", ["stop", "close"])
def test_who_is_told_to_stop_does_not_begin(way):
    ours, theirs = make_line()

    getattr(ours, way)()
    ours.begin(7)

    assert theirs.begun() is None
    theirs.close()
    ours.close()


@pytest.mark.parametrize("way", ["stop", "close"])
async def test_the_other_end_is_told_to_stop_or_finds_that_nobody_leads_any_more(way):
    ours, theirs = make_line()
    stopped = asyncio.Event()

    with theirs.told(stopped.set):
        await asyncio.sleep(0)
        assert not stopped.is_set()
        getattr(ours, way)()
        await asyncio.wait_for(stopped.wait(), 60)

    theirs.close()
    ours.close()


def test_what_is_said_where_nobody_leads_any_more_is_lost_without_a_word():
    ours, theirs = make_line()
    ours.close()

    theirs.say([RunBegan("cases", 1)])
    theirs.say([RunBegan("cases", number) for number in range(10_000)])

    theirs.close()


def test_who_has_ended_can_be_told_and_told_again():
    ours, theirs = make_line()
    theirs.close()

    ours.stop()
    ours.stop()

    ours.close()
