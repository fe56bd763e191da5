"""Attempts at one URL, with a real origin, client and store: which spools are left, and how long they wait."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import asynccontextmanager
from random import Random

import pytest

from rehost.attempt import CopyIsCurrent, ImageFetcher, Postponed, VisitLog
from rehost.clock import Clock
from rehost.errors import Transient
from rehost.hosts.scheduler import HostPaused
from rehost.images.verifier import ImageVerifier
from rehost.model import Validator
from rehost.retry import FIRST_ATTEMPT_WAIT
from rehost.store.local import LocalStore
from tests.fetch.conftest import fetcher_to
from tests.origin import Origin

HOST = "pics.example"


class Slots:
    """Gives a number of slots, then does something else."""

    def __init__(self, number, instead=None):
        self.left = number
        self._instead = instead

    @asynccontextmanager
    async def slot(self, host):
        if not self.left:
            await self._instead(host)
        self.left -= 1
        yield


class RestlessClock(Clock):
    """A clock whose sleeps end at once, or never."""

    def __init__(self, *, is_endless=False):
        self.slept = []
        self.is_waited_for = asyncio.Event()
        self._is_endless = is_endless

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.is_waited_for.set()
        if self._is_endless:
            await asyncio.Event().wait()


@asynccontextmanager
async def fetching(folder, scheduler, clock, attempts=3, *, behaviour="cut-once", log=None):
    """Yield the fetch of an image, by default one whose first body is cut, and a function that lists the spools."""
    verifier = ImageVerifier(
        verify="structure",
        max_pixels=1 << 24,
        max_frames=10,
        max_total_pixels=10**8,
        decode_memory_bytes=1 << 28,
        decode_seconds=5.0,
        processes=1,
        clock=clock,
    )
    with Origin() as origin:
        async with fetcher_to(origin) as fetcher, verifier, LocalStore(folder, clock=clock, min_free_bytes=0) as store:
            images = ImageFetcher(fetcher, verifier, store, scheduler, clock, Random(1), attempts)
            spools = store.spool().parent
            fetch = images.fetch(origin.url(behaviour, host=HOST), None, log or VisitLog(HOST))
            yield fetch, lambda: list(spools.iterdir())


async def test_partial_body_is_removed_when_the_host_is_paused_before_the_next_attempt(tmp_path):
    async def pause(host):
        raise HostPaused(host)

    async with fetching(tmp_path, Slots(1, pause), RestlessClock()) as (fetch, left):
        with pytest.raises(HostPaused):
            await fetch
        assert left() == []


async def test_partial_body_is_removed_when_the_visit_is_cancelled_between_two_attempts(tmp_path):
    clock = RestlessClock(is_endless=True)
    async with fetching(tmp_path, Slots(2), clock) as (fetch, left):
        visit = asyncio.create_task(fetch)
        await asyncio.wait_for(clock.is_waited_for.wait(), 10)
        assert len(left()) == 1
        visit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visit
        assert left() == []


async def test_partial_body_is_removed_after_the_last_attempt(tmp_path):
    async with fetching(tmp_path, Slots(1), RestlessClock(), attempts=1) as (fetch, left):
        with pytest.raises(Transient):
            await fetch
        assert left() == []


async def test_partial_body_becomes_the_image(tmp_path):
    async with fetching(tmp_path, Slots(2), RestlessClock()) as (fetch, left):
        download, _ = await fetch
        assert left() == [download.spool]


async def test_first_attempt_that_fails_is_postponed_if_other_links_may_come_first(tmp_path):
    clock, log = RestlessClock(), VisitLog(HOST, may_postpone=True)
    async with fetching(tmp_path, Slots(3), clock, behaviour="fails", log=log) as (fetch, left):
        with pytest.raises(Postponed) as caught:
            await fetch

        assert caught.value.until <= clock.monotonic() + FIRST_ATTEMPT_WAIT
        assert (log.attempts, clock.slept, left()) == (1, [], [])


async def test_partial_body_is_resumed_at_once_though_other_links_may_come_first(tmp_path):
    log = VisitLog(HOST, may_postpone=True)
    async with fetching(tmp_path, Slots(2), RestlessClock(), log=log) as (fetch, _):
        await fetch

        assert log.attempts == 2


async def test_only_attempt_is_never_postponed(tmp_path):
    log = VisitLog(HOST, may_postpone=True)
    async with fetching(tmp_path, Slots(1), RestlessClock(), attempts=1, behaviour="fails", log=log) as (fetch, _):
        with pytest.raises(Transient):
            await fetch


async def test_postponed_visit_resumes_with_its_second_attempt_when_its_wait_is_over(tmp_path):
    clock = RestlessClock()
    log = VisitLog(HOST, may_postpone=True, postponed=Postponed(clock.monotonic() + 7.0))
    async with fetching(tmp_path, Slots(2), clock, behaviour="fails", log=log) as (fetch, _):
        with pytest.raises(Transient):
            await fetch

        assert log.attempts == 3
        assert clock.slept[0] == pytest.approx(7.0, abs=5.0)


def validator_of(behaviour):
    """Return the validator that the origin has for the picture of a behaviour."""
    body = Origin.picture(f"http://{HOST}/{behaviour}/1.jpg")
    return Validator(f'"{zlib.crc32(body):08x}"', "Sun, 28 Jun 2020 08:00:00 GMT")


async def test_a_304_to_the_first_request_says_that_the_copy_is_current(tmp_path):
    log = VisitLog(HOST, validator=validator_of("permissive"))
    async with fetching(tmp_path, Slots(1), RestlessClock(), behaviour="permissive", log=log) as (fetch, left):
        with pytest.raises(CopyIsCurrent) as caught:
            await fetch

        assert caught.value.validator == log.validator
        assert (log.attempts, log.size, left()) == (1, 0, [])


async def test_a_changed_picture_comes_with_the_first_request(tmp_path):
    log = VisitLog(HOST, validator=Validator('"another"'))
    async with fetching(tmp_path, Slots(1), RestlessClock(), behaviour="permissive", log=log) as (fetch, left):
        download, _ = await fetch

        assert download.validator == validator_of("permissive")
        assert left() == [download.spool]


async def test_the_second_attempt_asks_for_the_whole_picture(tmp_path):
    log = VisitLog(HOST, validator=validator_of("fails-once"))
    async with fetching(tmp_path, Slots(2), RestlessClock(), behaviour="fails-once", log=log) as (fetch, left):
        download, _ = await fetch

        assert (log.attempts, left()) == (2, [download.spool])
