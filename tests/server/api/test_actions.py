"""A run started from the page stops with the server, whatever it is doing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.server.dashboards import Runs

from rehost.server.api.actions import RunControl


class Opening:
    """Opening this run takes for ever."""

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


async def test_close_cancels_a_run_that_is_still_being_opened():
    opening = Opening()
    control = RunControl(opening.open)
    assert await control.start("cases")

    async with asyncio.timeout(10):
        await control.close()

    assert opening.is_left


async def test_start_returns_if_the_server_stops_meanwhile(monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FIRST_SECONDS", 60.0)
    control = RunControl(Opening().open)
    asking = asyncio.create_task(control.start("cases"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await control.close()
        assert await asking


async def test_close_stops_a_run_in_progress_and_waits_for_it():
    runs = Runs()
    control = RunControl(runs.open)
    await control.start("cases")

    async with asyncio.timeout(10):
        await control.close()

    assert runs.stopped.is_set()
