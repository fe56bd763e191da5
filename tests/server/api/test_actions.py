"""A run that is started from the page ends with the server, whatever it is at."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.server.dashboards import Runs

from rehost.server.api.actions import RunControl


class Opening:
    """Takes for ever to open a run."""

    def __init__(self):
        self.is_left = False

    @asynccontextmanager
    async def open(self, _source):
        try:
            await asyncio.Event().wait()
            yield Runs()
        finally:
            self.is_left = True


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FIRST_SECONDS", 0.01)


async def test_a_run_that_is_still_opening_is_not_waited_for():
    opening = Opening()
    starter = RunControl(opening.open)
    assert await starter.start("cases")

    async with asyncio.timeout(10):
        await starter.close()

    assert opening.is_left


async def test_whoever_has_just_asked_for_a_run_is_answered_though_the_server_ends(monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FIRST_SECONDS", 60.0)
    starter = RunControl(Opening().open)
    asking = asyncio.create_task(starter.start("cases"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await starter.close()
        assert await asking


async def test_a_run_that_goes_on_is_stopped_and_waited_for():
    runs = Runs()
    starter = RunControl(runs.open)
    await starter.start("cases")

    async with asyncio.timeout(10):
        await starter.close()

    assert runs.stopped.is_set()
