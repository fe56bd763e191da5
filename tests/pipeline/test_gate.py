"""Turns at hosts: who may wait, and who is sent away."""

import asyncio
from random import Random

import pytest
from tests.fakes import FakeClock

from rehost.fetcher.politeness import HostPoliteness
from rehost.pipeline.gate import Gate, HostPaused
from rehost.ports import Share

HOST = "a.test"


@pytest.fixture
def polite():
    return HostPoliteness(FakeClock(), Random(1), concurrency=4, first_slots=0)


@pytest.fixture
def gate(polite):
    return Gate(
        polite,
        FakeClock(),
        concurrency=4,
        patience_seconds=20.0,
        changed=lambda _change: None,
        greet=lambda: None,
    )


async def wait_at(gate):
    async with gate.turn(HOST):
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
