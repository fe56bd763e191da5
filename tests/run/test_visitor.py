"""One visit: real origin, real client, real store. What is left on disk, whatever comes between its attempts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random

import pytest
from tests.http.conftest import client
from tests.origin import Origin

from rehost.clock import Clock
from rehost.errors import Transient
from rehost.hosts.scheduler import HostPaused
from rehost.images.verifier import ImageVerifier
from rehost.run.visitor import Visitor
from rehost.store.layout import Layout
from rehost.store.local import LocalStore

HOST = "pics.example"


class Turns:
    """Gives turns, until something else happens in place of one."""

    def __init__(self, number, instead=None):
        self.left = number
        self._instead = instead

    @asynccontextmanager
    async def slot(self, host):
        if not self.left:
            await self._instead(host)
        self.left -= 1
        yield


class Restless(Clock):
    """Time in which nobody waits, or in which waiting has no end."""

    def __init__(self, *, is_endless=False):
        self.is_waited_for = asyncio.Event()
        self._is_endless = is_endless

    async def sleep(self, seconds):  # noqa: ARG002 - however long
        self.is_waited_for.set()
        if self._is_endless:
            await asyncio.Event().wait()


@asynccontextmanager
async def visiting(folder, turns, clock, attempts=3):
    """Yield what proves the picture of a link that is cut in the first attempt, and the files that are left."""
    inspector = ImageVerifier(
        verify="structure",
        max_pixels=1 << 24,
        max_frames=10,
        decode_memory_bytes=1 << 28,
        decode_seconds=5.0,
        processes=1,
        clock=clock,
    )
    with Origin() as origin:
        async with client(origin) as fetcher, inspector, LocalStore(folder, clock=clock, min_free_bytes=0) as store:
            nobody = object()
            visitor = Visitor(fetcher, inspector, store, Layout(), nobody, turns, clock, Random(1), attempts)
            spools = store.spool().parent
            yield visitor.prover(HOST)(origin.url("cut-once", host=HOST), None), lambda: list(spools.iterdir())


async def test_what_has_arrived_goes_when_the_host_is_paused_before_the_next_attempt(tmp_path):
    async def pause(host):
        raise HostPaused(host)

    async with visiting(tmp_path, Turns(1, pause), Restless()) as (proving, left):
        with pytest.raises(HostPaused):
            await proving
        assert left() == []


async def test_what_has_arrived_goes_when_the_visit_is_called_off_between_two_attempts(tmp_path):
    clock = Restless(is_endless=True)
    async with visiting(tmp_path, Turns(2), clock) as (proving, left):
        visit = asyncio.create_task(proving)
        await asyncio.wait_for(clock.is_waited_for.wait(), 10)
        assert len(left()) == 1
        visit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visit
        assert left() == []


async def test_what_has_arrived_goes_with_the_last_attempt(tmp_path):
    async with visiting(tmp_path, Turns(1), Restless(), attempts=1) as (proving, left):
        with pytest.raises(Transient):
            await proving
        assert left() == []


async def test_what_has_arrived_becomes_the_picture(tmp_path):
    async with visiting(tmp_path, Turns(2), Restless()) as (proving, left):
        download, _ = await proving
        assert left() == [download.spool]
