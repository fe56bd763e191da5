"""Actions need the token and the same site; a run started from the page stops with the server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.server.dashboards import (
    HEADERS,
    Runs,
    client,
    client_of,
    database,
    database_url,
    get_json,
    make_dashboard,
    peer,
    runs,
    site,
)

from rehost.server.api.actions import RunControl

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


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


ACTIONS = ["retry", "pause?host=a.example", "resume?host=a.example", "run"]


REFUSALS = [
    ({}, 401),
    ({"Authorization": "Bearer wrong"}, 401),
    ({"Authorization": "Bearer ü"}, 401),
    ({"Authorization": "Basic " + HEADERS["Authorization"][7:]}, 401),
    ({**HEADERS, "Sec-Fetch-Site": "cross-site"}, 403),
    ({**HEADERS, "Sec-Fetch-Site": "same-site"}, 403),
    ({**HEADERS, "Origin": "https://evil.example"}, 403),
    ({**HEADERS, "Origin": "null"}, 403),
    ({**HEADERS, "Origin": "http://[x"}, 403),
    ({**HEADERS, "Origin": "http://localhost@evil.example"}, 403),
    ({**HEADERS, "Origin": "http://localhost/"}, 403),
]


async def test_actions_need_the_token_and_the_same_site(client, runs):
    for action in ACTIONS:
        for headers, status in REFUSALS:
            response = await client.post(f"/api/{action}", headers=headers)
            assert response.status_code == status, (action, headers)

    assert runs.started == []
    assert (await get_json(client, "/api/standing"))["due"] == 1
    assert all(host["pause_seconds"] == 0 for host in await get_json(client, "/api/hosts"))


async def test_actions_are_refused_if_no_token_is_set(peer, runs):
    page = make_dashboard(peer.database, runs, token="")
    async with client_of(page) as client:
        for headers in ({}, {"Authorization": "Bearer "}, HEADERS):
            assert (await client.post("/api/run", headers=headers)).status_code == 403
        assert (await get_json(client, "/api/server"))["acts"] is False


async def test_the_page_may_act(client):
    headers = {**HEADERS, "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}

    response = await client.post("/api/retry", headers=headers)

    assert (response.status_code, response.json()) == (200, {"changed": 2})


async def test_retry_makes_one_link_those_of_a_reason_or_all_due(client):
    async def retry(**query):
        return (await client.post("/api/retry", params=query, headers=HEADERS)).json()["changed"]

    assert await retry(key="1") == 0  # held
    assert await retry(key="4") == 1
    assert await retry(reason="gone") == 0  # due already
    assert await retry(reason="throttled") == 1
    assert await retry() == 0
    assert (await get_json(client, "/api/standing"))["due"] == 3


async def test_a_host_is_paused_and_resumed(client):
    async def pauses():
        return {host["host"]: host["pause_seconds"] for host in await get_json(client, "/api/hosts")}

    await client.post("/api/pause", params={"host": "A.example", "seconds": 600}, headers=HEADERS)
    assert (await pauses())["a.example"] == pytest.approx(600, abs=30)

    await client.post("/api/resume", params={"host": "a.example"}, headers=HEADERS)
    assert (await pauses())["a.example"] == 0


async def test_only_one_run_is_started_at_a_time(client, site, runs):
    first = await client.post("/api/run", headers=HEADERS)
    second = await client.post("/api/run", headers=HEADERS)
    unknown = await client.post("/api/run", params={"source": "others"}, headers=HEADERS)

    assert (first.status_code, second.status_code, unknown.status_code) == (202, 409, 400)
    assert runs.started == ["cases"]
    await site.close()  # stops the run; this would not return if the run were not stopped
