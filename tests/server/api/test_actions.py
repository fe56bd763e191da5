"""Actions need the token and the same site; a run started from the page stops with the server."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.databases import put_ahead
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

from rehost.hosts.shares import HostShares
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


ACTIONS = ["retry?all=true", "pause?host=a.example", "resume?host=a.example", "run"]


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


async def test_actions_need_the_token_and_the_same_site(client, runs, monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FREE_TRIES", 100)
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

    response = await client.post("/api/retry?all=true", headers=headers)

    assert (response.status_code, response.json()) == (200, {"changed": 2})


async def test_retry_makes_one_link_those_of_a_reason_or_all_due(client):
    async def retry(**query):
        return (await client.post("/api/retry", params=query, headers=HEADERS)).json()["changed"]

    assert await retry(row_key="1") == 0  # held
    assert await retry(key="4") == 1
    assert await retry(reason="gone") == 0  # due already
    assert await retry(reason="throttled") == 1
    assert await retry(all="true") == 0
    assert (await get_json(client, "/api/standing"))["due"] == 3


IGNORED = [
    ("retry", {}, {}, "nothing-chosen"),
    ("retry", {"all": "false"}, {}, "nothing-chosen"),
    ("retry", {"kye": "4"}, {}, "unknown-parameter"),
    ("retry", {"all": "true", "kye": "4"}, {}, "unknown-parameter"),
    ("retry", {"key": ""}, {}, "invalid-parameter"),
    ("retry", {"all": "true", "row_key": "4"}, {}, "nothing-chosen"),
    ("retry", {"reason": "gone", "row_key": "4"}, {}, "nothing-chosen"),
    ("retry", {"all": "true", "position": "1"}, {}, "nothing-chosen"),
    ("retry", {"all": "true"}, {"Content-Length": "7"}, "body-not-allowed"),
    ("run", {"sources": "cases"}, {}, "unknown-parameter"),
    ("pause", {"host": "a.example", "second": "60"}, {}, "unknown-parameter"),
]


async def test_an_action_that_would_ignore_a_part_of_the_request_does_nothing(client, runs):
    for action, query, headers, problem in IGNORED:
        response = await client.post(f"/api/{action}", params=query, headers={**HEADERS, **headers})

        assert response.status_code == 400, (action, query)
        assert response.json()["type"] == f"urn:rehost:problem:{problem}", (action, query)

    assert runs.started == []
    assert (await get_json(client, "/api/standing"))["due"] == 1


NO_HOSTS = ["", "a b", "https://a.example", "a.example/x", "a.example:443", "a@b", "a%2eb", "..", "x" * 300]
HOSTS = ["例子.中国", "xn--fsqu00a.xn--fiqs8s", "[2001:DB8::1]", "2001:db8::1", "192.0.2.1", "single"]


async def test_only_a_host_can_be_paused(client):
    for host in NO_HOSTS:
        for action in ("pause", "resume"):
            response = await client.post(f"/api/{action}", params={"host": host}, headers=HEADERS)

            assert response.status_code == 400, host


async def test_any_spelling_of_a_host_can_be_paused(client):
    for host in HOSTS:
        paused = await client.post("/api/pause", params={"host": host}, headers=HEADERS)
        resumed = await client.post("/api/resume", params={"host": host.upper()}, headers=HEADERS)

        assert (paused.json(), resumed.json()) == ({"changed": 1}, {"changed": 1}), host


async def test_wrong_tokens_of_an_address_are_slowed_down(client, monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FREE_TRIES", 3)
    wrong = {"Authorization": "Bearer guess"}

    tries = [await client.post("/api/retry?all=true", headers=wrong) for _ in range(4)]
    right = await client.post("/api/retry?all=true", headers=HEADERS)
    monkeypatch.setattr("rehost.server.api.actions.FREE_TRIES", 100)  # as if time had passed
    later = await client.post("/api/retry?all=true", headers=HEADERS)

    assert [each.status_code for each in (*tries, right, later)] == [401, 401, 401, 429, 429, 200]
    assert 0 < int(right.headers["retry-after"]) <= 5
    assert right.json()["type"] == "urn:rehost:problem:too-many-wrong-tokens"


async def test_requests_without_a_token_are_not_counted_as_guesses(client, monkeypatch):
    monkeypatch.setattr("rehost.server.api.actions.FREE_TRIES", 1)

    for _ in range(3):
        assert (await client.post("/api/retry?all=true")).status_code == 401
    assert (await client.post("/api/retry?all=true", headers=HEADERS)).status_code == 200


async def test_refusal_names_the_proxy_that_changes_host(client):
    headers = {**HEADERS, "Origin": "http://shop.example", "Sec-Fetch-Site": "same-origin"}

    response = await client.post("/api/retry?all=true", headers=headers)

    assert response.status_code == 403
    assert response.json()["type"] == "urn:rehost:problem:foreign-origin"
    assert "http://shop.example" in response.json()["detail"]
    assert "proxy_set_header Host" in response.json()["detail"]


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

    assert (first.status_code, second.status_code, unknown.status_code) == (202, 409, 404)
    assert runs.started == ["cases"]
    await site.close()  # stops the run; this would not return if the run were not stopped


async def test_a_run_of_any_process_is_asked_to_stop(client, peer):
    run = await peer.ledger.runs.begin("cases")
    await HostShares(peer.database, worker="worker", concurrency=4, lease_seconds=60).take({}, {})

    before = (await get_json(client, "/api/runs"))[0]["stop_at"]
    asked = await client.post("/api/stop", params={"run": run}, headers=HEADERS)
    after = (await get_json(client, "/api/runs"))[0]["stop_at"]

    assert (before, asked.status_code, asked.json()) == (None, 200, {"changed": 1})
    assert after
    assert await peer.ledger.runs.is_to_stop(run)


async def test_only_a_run_in_progress_can_be_stopped(client, peer):
    run = await peer.ledger.runs.begin("cases")
    await put_ahead(peer.database, "rehost_workers", "alive_until")  # it was killed

    killed = await client.post("/api/stop", params={"run": run}, headers=HEADERS)
    unknown = await client.post("/api/stop", params={"run": run + 1}, headers=HEADERS)

    assert (killed.status_code, killed.json()["type"]) == (409, "urn:rehost:problem:run-not-in-progress")
    assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:rehost:problem:unknown-run")
    assert not await peer.ledger.runs.is_to_stop(run)
