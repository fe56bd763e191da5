"""Slots at hosts: which requests wait for one, and which are rejected."""

import asyncio
import contextlib
from random import Random

import pytest
from tests.fakes import FakeClock, FakeDailyQuota, FakeHostShares

from rehost.errors import HostUnavailable, Transient, VisitError
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import HostPolicy
from rehost.hosts.scheduler import Heartbeat, HostPaused, RequestScheduler
from rehost.hosts.shares import Share
from rehost.model import Reason

HOST = "a.test"


class World:
    """A scheduler with its limiter, heartbeat and quota."""

    def __init__(self, *, clock=None, concurrency=4, first_slots=0, budget=None, day_seconds=3600.0):
        clock = clock or FakeClock()
        self.shares = FakeHostShares()
        self.quota = FakeDailyQuota(day_seconds)
        policy = HostPolicy(daily_budget=budget)
        self.limiter = HostLimiter(
            clock, Random(1), concurrency=concurrency, first_slots=first_slots, policy_for=lambda _host: policy
        )
        self.heartbeat = Heartbeat(self.shares, self.limiter, clock, lambda _event: None)
        self.scheduler = RequestScheduler(
            self.limiter, self.heartbeat, self.quota, clock, concurrency=concurrency, patience_seconds=20.0
        )

    def share(self, slots, host=HOST, **more):
        self.limiter.apply({host: Share(slots, 4, **({"proven": True} | more))})
        self.scheduler.refresh()

    async def ask(self, host=HOST):
        async with self.scheduler.slot(f"http://{host}"):
            return "had a slot"

    async def begin_to_wait(self, host=HOST):
        waiting = asyncio.create_task(self.ask(host))
        await asyncio.sleep(0)
        assert not waiting.done()
        return waiting

    async def redirect(self, reason, **more):
        """Ask HOST, which redirects to a host that does not give what is asked for."""
        error = Transient(reason, **more)
        error.origin = "http://led.test"
        with contextlib.suppress(VisitError):
            async with self.scheduler.slot(f"http://{HOST}"):
                await self.scheduler.unscheduled("http://led.test")
                raise error


@pytest.fixture
def world():
    return World()


async def test_request_that_waits_is_rejected_when_another_worker_finds_a_long_pause(world):
    waiting = await world.begin_to_wait()

    world.share(0, pause_seconds=3600.0)

    with pytest.raises(HostPaused):
        await asyncio.wait_for(waiting, 5)


async def test_scheduler_is_starved_while_requests_wait_and_other_workers_hold_the_slots(world):
    assert not world.scheduler.is_starved()
    waiting = [await world.begin_to_wait() for _ in range(2)]
    assert world.scheduler.is_starved()

    world.share(1)

    assert not world.scheduler.is_starved()
    await asyncio.gather(*waiting)
    assert not world.scheduler.is_starved()


async def test_scheduler_is_not_starved_while_requests_wait_for_a_pause_to_end(world):
    waiting = await world.begin_to_wait()

    world.share(0, pause_seconds=5.0)

    assert not world.scheduler.is_starved()
    waiting.cancel()


async def test_request_that_waits_gets_a_slot_when_the_worker_gets_a_share(world):
    waiting = await world.begin_to_wait()

    world.share(1)

    assert await asyncio.wait_for(waiting, 5) == "had a slot"


async def test_short_pause_is_waited_out(world):
    waiting = await world.begin_to_wait()

    world.share(0, pause_seconds=10.0)
    await asyncio.sleep(0)

    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_first_request_to_a_host_wakes_the_heartbeat(world):
    waiting = await world.begin_to_wait()
    async with asyncio.timeout(5):
        await world.heartbeat.wait(3600.0)
    await world.heartbeat.send()
    world.scheduler.refresh()

    assert await asyncio.wait_for(waiting, 5) == "had a slot"


async def test_request_that_is_cancelled_as_it_gets_its_slot_gives_the_slot_back(world):
    waiting = await world.begin_to_wait()
    world.share(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert world.limiter.in_flight() == {}
    assert await asyncio.wait_for(world.ask(), 5) == "had a slot"


# daily budgets


async def test_requests_beyond_the_daily_budget_are_rejected_and_pause_the_host():
    world = World(first_slots=4, budget=2)

    ended = await asyncio.gather(*(world.ask() for _ in range(5)), return_exceptions=True)

    assert ended.count("had a slot") == 2
    assert [type(each) for each in ended].count(HostPaused) == 3
    assert world.limiter.pause_seconds(HOST) == 3600.0
    assert world.limiter.cause(HOST) == (Reason.THROTTLED, "the day's budget of 2 requests is used up")
    assert world.limiter.in_flight() == {}
    await world.heartbeat.stop()
    assert world.shares.pauses == []  # a budget that the operator raises holds at once


async def test_end_of_the_day_is_waited_for_when_it_is_near():
    world = World(clock=FakeClock(hurry=True), first_slots=4, budget=1, day_seconds=15.0)
    await world.ask()
    waiting = await world.begin_to_wait()
    world.quota.taken.clear()

    assert await asyncio.wait_for(waiting, 5) == "had a slot"


async def test_slot_is_given_back_when_the_budget_cannot_be_read():
    world = World(first_slots=1, budget=1)

    async def fail(_host, _budget):
        raise KeyError

    world.quota.take, take = fail, world.quota.take
    with pytest.raises(KeyError):
        await world.ask()
    world.quota.take = take

    assert await asyncio.wait_for(world.ask(), 5) == "had a slot"


async def test_request_without_a_slot_counts_against_the_daily_budget_and_is_refused_beyond_it():
    world = World(budget=2)
    await world.scheduler.unscheduled(f"http://{HOST}")
    await world.scheduler.unscheduled(f"http://{HOST}")
    with pytest.raises(HostUnavailable, match="the day's budget of 2 requests is used up") as caught:
        await world.scheduler.unscheduled(f"http://{HOST}")

    assert caught.value.retry_after == pytest.approx(3600.0, abs=1)
    assert world.limiter.finished_unscheduled("other.test", caught.value) is None
    assert world.limiter.pause_seconds("other.test") == 0


async def test_request_without_a_slot_to_a_host_without_a_budget_is_not_held_up(world):
    await world.scheduler.unscheduled(f"http://{HOST}")

    assert not world.quota.taken


# redirects


async def test_answer_of_a_host_behind_a_redirect_counts_for_that_host():
    world = World(first_slots=1)
    async with world.scheduler.slot("http://led.test"):
        waiting = await world.begin_to_wait("led.test")

        await world.redirect(Reason.THROTTLED, retry_after=3600.0)

    with pytest.raises(HostPaused):
        await waiting
    assert world.limiter.pause_seconds(HOST) == 0
    assert world.limiter.pause_seconds("led.test") >= 3600
    with pytest.raises(HostUnavailable) as caught:
        await world.scheduler.unscheduled("http://led.test")
    assert caught.value.retry_after >= 3600
    await world.heartbeat.send()
    assert [host for host, _, _ in world.shares.pauses] == ["led.test"]


async def test_host_that_is_down_behind_redirects_is_paused_after_failures_in_a_row(world):
    world.share(1)
    for _ in range(2):
        await world.redirect(Reason.TIMED_OUT)
    world.scheduler.unscheduled_succeeded("http://led.test")
    for _ in range(2):
        await world.redirect(Reason.TIMED_OUT)
    assert world.limiter.pause_seconds("led.test") == 0

    await world.redirect(Reason.TIMED_OUT)

    assert world.limiter.pause_seconds("led.test") > 0
    assert world.limiter.pause_seconds(HOST) == 0
    assert world.limiter.in_flight() == {}


# origins


DEAD = f"http://{HOST}:4444"
UNREACHABLE = Transient(Reason.UNREACHABLE, "unable to connect")


async def fail(world, origin=DEAD):
    with pytest.raises(Transient):
        async with world.scheduler.slot(origin):
            raise UNREACHABLE


async def test_failed_connections_pause_their_origin_and_no_other_of_the_host(world):
    world.share(1)
    for _ in range(3):
        await fail(world)

    with pytest.raises(HostPaused):
        await world.scheduler.slot(DEAD).__aenter__()
    with pytest.raises(HostUnavailable, match="3 failures in a row"):
        await world.scheduler.unscheduled(DEAD)
    assert await world.ask() == "had a slot"
    await world.heartbeat.send()
    assert [name for name, _, _ in world.shares.pauses] == [DEAD]


async def test_requests_that_wait_are_rejected_when_their_origin_is_paused_and_others_of_the_host_go_on(world):
    world.share(1)
    held = world.scheduler.slot(DEAD)
    await held.__aenter__()
    waiting = [asyncio.create_task(fail(world)) for _ in range(3)]
    good = await world.begin_to_wait()

    await held.__aexit__(None, None, None)

    assert await asyncio.wait_for(good, 5) == "had a slot"
    await asyncio.wait(waiting)
    with pytest.raises(HostPaused):
        await asyncio.wait_for(fail(world), 5)


async def test_one_request_at_a_time_decides_whether_an_origin_is_up_again():
    world = World(clock=FakeClock(), first_slots=4)
    for _ in range(3):
        await fail(world)
    world.limiter._clock.advance(world.limiter.pause_seconds(DEAD) + 0.1)

    async with world.scheduler.slot(DEAD):
        with pytest.raises(HostPaused):
            await world.scheduler.slot(DEAD).__aenter__()

    async with world.scheduler.slot(DEAD), world.scheduler.slot(DEAD):
        assert world.limiter.in_flight() == {HOST: 2}


async def test_closed_port_behind_a_redirect_pauses_that_origin_and_not_its_host():
    world = World(first_slots=4)
    for _ in range(3):
        error = Transient(Reason.UNREACHABLE)
        error.origin = DEAD
        with pytest.raises(Transient):
            async with world.scheduler.slot(f"http://{HOST}"):
                raise error

    assert world.limiter.pause_seconds(DEAD) > 0
    assert await world.ask() == "had a slot"


async def test_errors_behind_a_redirect_to_another_origin_of_the_same_host_count_for_the_host():
    world = World(first_slots=4)
    for _ in range(3):
        error = Transient(Reason.TIMED_OUT)
        error.origin = f"https://{HOST}"
        with pytest.raises(Transient):
            async with world.scheduler.slot(f"http://{HOST}"):
                raise error

    assert world.limiter.pause_seconds(HOST) > 0


async def test_pause_of_an_origin_that_another_worker_found_holds_here():
    world = World()
    waiting = asyncio.create_task(fail(world))
    good = await world.begin_to_wait()
    assert world.limiter.wanted() == {HOST: 4, DEAD: 0, f"http://{HOST}": 0}

    world.limiter.apply({HOST: Share(1, 4, proven=True), DEAD: Share(0, pause_seconds=600.0)})
    world.scheduler.refresh()

    with pytest.raises(HostPaused):
        await asyncio.wait_for(waiting, 5)
    assert await asyncio.wait_for(good, 5) == "had a slot"
