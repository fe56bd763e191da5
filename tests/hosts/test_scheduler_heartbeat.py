"""What one heartbeat sends, and when the next one is due."""

import asyncio
from dataclasses import replace
from random import Random

import pytest
from tests.fakes import FakeClock, FakeHostShares
from tests.telemetry.visits import STORED

from rehost.events import OriginPaused, Visited
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import Allowance, Pause
from rehost.hosts.scheduler import Heartbeat


class World:
    def __init__(self):
        self.shares, self.events = FakeHostShares(), []
        self.clock = FakeClock()
        self.limiter = HostLimiter(self.clock, Random(1), concurrency=4, first_slots=0)
        self.heartbeat = Heartbeat(self.shares, self.limiter, self.clock, self.events.append)


def visit_of(outcome):
    return Visited(outcome, "https://oss.adquan.com", 100, 0.1, 1)


@pytest.fixture
def world():
    return World()


async def test_news_is_sent_once_with_the_next_heartbeat(world):
    world.heartbeat.report(Pause("a.test", 60.0, "status 429"))
    world.heartbeat.report(Allowance("b.test", 3))
    assert (world.shares.pauses, world.shares.allowances) == ([], {})

    await world.heartbeat.send()
    await world.heartbeat.send()

    assert world.shares.pauses == [("a.test", 60.0, "status 429")]
    assert world.shares.allowances == {"b.test": 3}
    assert world.events == [OriginPaused("a.test", 60.0, "status 429")]


async def test_heartbeat_takes_the_shares_of_the_hosts_that_wait(world):
    world.limiter.add_waiting("a.test")
    assert world.limiter.next_host() is None

    await world.heartbeat.send()

    assert world.limiter.next_host() == "a.test"


async def test_shares_end_so_long_after_the_worker_asked_for_them(world):
    class Slow(FakeHostShares):
        async def take(self, wanted, in_flight):
            world.clock.advance(10.0)
            return await super().take(wanted, in_flight)

    world.limiter.add_waiting("a.test")
    await Heartbeat(Slow(), world.limiter, world.clock, world.events.append).send()

    world.clock.advance(49.9)
    assert world.limiter.next_host() == "a.test"

    world.clock.advance(0.1)
    assert world.limiter.next_host() is None


async def test_only_the_first_picture_of_a_host_is_reported(world):
    fetched = replace(STORED, final_url="https://oss.adquan.com/upload/1.png")
    for _ in range(2):
        world.heartbeat.report_picture(visit_of(fetched), 4)
        await world.heartbeat.send()
        await world.shares.allow(STORED.task.host, 2)

    assert world.shares.proven == {STORED.task.host}
    assert world.shares.allowances == {STORED.task.host: 2}


async def test_adopted_copy_proves_nothing_about_its_host(world):
    world.heartbeat.report_picture(visit_of(replace(STORED, final_url=None)), 4)
    await world.heartbeat.send()

    assert world.shares.proven == set()


async def test_news_makes_the_next_heartbeat_due(world):
    waiting = asyncio.create_task(world.heartbeat.wait(3600.0))
    await asyncio.sleep(0)
    assert not waiting.done()

    world.heartbeat.report(Allowance("a.test", 2))

    await asyncio.wait_for(waiting, 5)


async def test_last_news_is_sent_before_the_shares_are_given_back(world):
    world.heartbeat.report(Allowance("a.test", 2))

    await world.heartbeat.stop()

    assert world.shares.allowances == {"a.test": 2}
    assert world.shares.left


async def test_a_pause_that_the_operator_ends_is_over_here_too(world):
    """However it became known, and whether the host waits or not."""
    for host in ("own.test", "http://own.test:8080"):
        world.limiter.pause(Pause(host, 3600.0, "status 429"))
        world.heartbeat.report(Pause(host, 3600.0, "status 429"))
    world.shares.paused_now["theirs.test"] = 3600.0
    world.limiter.add_waiting("theirs.test")
    await world.heartbeat.send()
    assert not await world.heartbeat.lift_resumed()
    assert all(world.limiter.pause_seconds(host) for host in ("own.test", "http://own.test:8080", "theirs.test"))

    world.shares.paused_now.clear()
    await world.heartbeat.send()
    assert not world.limiter.pause_seconds("theirs.test")
    assert await world.heartbeat.lift_resumed()

    assert not any(world.limiter.pause_seconds(host) for host in ("own.test", "http://own.test:8080"))


async def test_a_pause_that_the_ledger_never_had_stays(world):
    """That of a daily budget."""
    world.limiter.pause(Pause("a.test", 3600.0, "the budget is used up"))

    assert not await world.heartbeat.lift_resumed()
    assert world.limiter.pause_seconds("a.test") == 3600
