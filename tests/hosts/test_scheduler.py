"""Turns at hosts: who may wait, and who is sent away."""

import asyncio
import contextlib
from random import Random

import pytest
from tests.fakes import FakeClock

from rehost.errors import HostUnavailable, Transient, VisitError
from rehost.hosts.daily_quota import Drawn
from rehost.hosts.limiter import HostLimiter
from rehost.hosts.pacing import HostPolicy, Pause
from rehost.hosts.scheduler import HostPaused, RequestScheduler
from rehost.hosts.shares import Share
from rehost.model import Reason

HOST = "a.test"


@pytest.fixture
def polite():
    return HostLimiter(FakeClock(), Random(1), concurrency=4, first_slots=0)


@pytest.fixture
def gate(polite):
    return RequestScheduler(
        polite,
        FakeClock(),
        concurrency=4,
        patience_seconds=20.0,
        changed=lambda _change: None,
        greet=lambda: None,
    )


async def wait_at(gate, host=HOST):
    async with gate.turn(host):
        return "had a turn"


async def begin_to_wait(gate):
    waiting = asyncio.create_task(wait_at(gate))
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_who_waits_when_another_worker_finds_a_long_pause_is_sent_away(gate, polite):
    waiting = await begin_to_wait(gate)

    polite.apply({HOST: Share(0, 4, pause_seconds=3600.0, proven=True)})
    gate.refresh()

    with pytest.raises(HostPaused):
        await asyncio.wait_for(waiting, 5)


async def test_who_waits_with_nothing_in_flight_is_starved_until_a_share_comes(gate, polite):
    assert not gate.is_starved()
    waiting = [await begin_to_wait(gate) for _ in range(2)]
    assert gate.is_starved()

    polite.apply({HOST: Share(1, 4, proven=True)})
    gate.refresh()

    assert not gate.is_starved()
    await asyncio.gather(*waiting)
    assert not gate.is_starved()


async def test_who_waits_for_a_pause_to_end_is_not_starved(gate, polite):
    waiting = await begin_to_wait(gate)

    polite.apply({HOST: Share(0, 4, pause_seconds=5.0, proven=True)})
    gate.refresh()

    assert not gate.is_starved()
    waiting.cancel()


async def test_who_waits_when_a_host_is_given_a_share_has_its_turn(gate, polite):
    waiting = await begin_to_wait(gate)

    polite.apply({HOST: Share(1, 4, proven=True)})
    gate.refresh()

    assert await asyncio.wait_for(waiting, 5) == "had a turn"


async def test_a_short_pause_is_waited_out(gate, polite):
    waiting = await begin_to_wait(gate)

    polite.apply({HOST: Share(0, 4, pause_seconds=10.0, proven=True)})
    gate.refresh()
    await asyncio.sleep(0)

    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_hop_waits_for_a_part_of_the_daily_budget_and_is_withheld_when_there_is_none():
    clock = FakeClock(hurry=True)
    polite = HostLimiter(clock, Random(1), concurrency=4, manners=lambda _host: HostPolicy(daily_budget=3))
    drawn = [Drawn(1, 7, 3600.0), Drawn(0, 7, 3600.0)]
    greeted = []

    def greet():
        greeted.append(polite.draws()[HOST].number)
        polite.fill({HOST: drawn.pop(0)})

    gate = RequestScheduler(
        polite, clock, concurrency=4, patience_seconds=20.0, changed=lambda _change: None, greet=greet
    )
    await gate.hop(HOST)
    with pytest.raises(HostUnavailable, match="the day's budget of 3 requests is used up") as caught:
        await gate.hop(HOST)

    assert len(greeted) == 2
    assert caught.value.retry_after == pytest.approx(3600.0, abs=1)
    assert polite.finished("other.test", caught.value) is None
    assert polite.pause_seconds("other.test") == 0


async def test_a_hop_to_a_host_without_a_budget_is_not_held_up(gate, polite):
    await gate.hop(HOST)

    assert polite.draws() == {}


async def led_on(gate, reason, **more):
    """Ask HOST, which leads to another host, which does not give what is asked for."""
    error = Transient(reason, **more)
    error.host = "led.test"
    with contextlib.suppress(VisitError):
        async with gate.turn(HOST):
            await gate.hop("led.test")
            raise error


async def test_what_another_host_did_behind_a_redirect_is_held_against_that_one():
    told = []
    polite = HostLimiter(FakeClock(), Random(1), concurrency=4, first_slots=1)
    gate = RequestScheduler(
        polite, FakeClock(), concurrency=4, patience_seconds=20.0, changed=told.append, greet=lambda: None
    )
    async with gate.turn("led.test"):
        waiting = asyncio.create_task(wait_at(gate, "led.test"))
        await asyncio.sleep(0)

        await led_on(gate, Reason.THROTTLED, retry_after=3600.0)

    with pytest.raises(HostPaused):
        await waiting
    assert [pause.host for pause in told if isinstance(pause, Pause)] == ["led.test"]
    assert polite.pause_seconds(HOST) == 0
    assert polite.pause_seconds("led.test") >= 3600
    with pytest.raises(HostUnavailable) as caught:
        await gate.hop("led.test")
    assert caught.value.retry_after >= 3600


async def test_a_host_that_is_down_behind_redirects_is_left_alone_after_failures_in_a_row(gate, polite):
    polite.apply({HOST: Share(1, 4, proven=True)})
    for _ in range(2):
        await led_on(gate, Reason.TIMED_OUT)
    gate.hopped("led.test")
    for _ in range(2):
        await led_on(gate, Reason.TIMED_OUT)
    assert polite.pause_seconds("led.test") == 0

    await led_on(gate, Reason.TIMED_OUT)

    assert polite.pause_seconds("led.test") > 0
    assert polite.pause_seconds(HOST) == 0
    assert polite.in_flight() == {}
