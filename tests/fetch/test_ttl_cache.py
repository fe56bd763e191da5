import asyncio

import pytest
from tests.fakes import FakeClock

from rehost.errors import Transient
from rehost.fetch.ttl_cache import Remembered
from rehost.model import Reason


class Source:
    """Answers with how often it was asked; or fails, as often as it is told to."""

    def __init__(self, failures=0):
        self.asked = []
        self.failures = failures

    async def __call__(self, key):
        self.asked.append(key)
        await asyncio.sleep(0)
        if len(self.asked) <= self.failures:
            raise Transient(Reason.UNRESOLVED, key)
        return len(self.asked)


async def test_what_is_known_is_not_asked_for_again_until_its_time_is_over():
    source, clock = Source(), FakeClock()
    remembered = Remembered(source, 60.0, clock)

    assert [await remembered("a"), await remembered("a"), await remembered("b")] == [1, 1, 2]
    clock.advance(60.0)
    assert await remembered("a") == 3


async def test_many_at_once_ask_once():
    source = Source()
    remembered = Remembered(source, 60.0, FakeClock())

    assert await asyncio.gather(*(remembered("a") for _ in range(9))) == [1] * 9


async def test_who_waited_for_a_failure_shares_it_and_who_comes_later_asks_again():
    source, clock = Source(failures=1), FakeClock()
    remembered = Remembered(source, 60.0, clock)

    failed = await asyncio.gather(*(remembered("a") for _ in range(9)), return_exceptions=True)
    clock.advance(1.0)

    assert {(type(error), str(error)) for error in failed} == {(Transient, "unresolved: a")}
    assert len(set(map(id, failed))) == 9  # what is noted on one is not said of the others
    assert await remembered("a") == 2


async def test_one_that_is_called_off_leaves_the_asking_to_the_next():
    hangs = asyncio.Event()

    async def source(_key):
        await hangs.wait()
        return "answer"

    remembered = Remembered(source, 60.0, FakeClock())
    first, second = (asyncio.create_task(remembered("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    hangs.set()

    assert await second == "answer"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_no_more_is_kept_than_a_thousand_keys():
    source = Source()
    remembered = Remembered(source, 60.0, FakeClock())

    for number in range(1001):
        await remembered(str(number))

    assert await remembered("1000") == 1001
    assert await remembered("0") == 1002
