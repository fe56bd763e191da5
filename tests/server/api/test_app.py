"""The OpenAPI document, checked against the application with generated requests."""

from __future__ import annotations

from asyncio import to_thread

import pytest
from tests.hammer import MODES, hammer
from tests.server.dashboards import HEADERS, client, database, database_url, peer, runs, site

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_openapi_lists_every_operation_and_no_others(client):
    contract = (await client.get("/openapi.json")).json()

    assert contract["openapi"] == "3.1.0"
    assert sorted(contract["paths"]) == sorted([
        "/health", "/ready", "/api/sources", "/api/standing", "/api/links", "/api/link", "/api/hosts", "/api/origins",
        "/api/runs", "/api/usage", "/api/retry", "/api/pause", "/api/resume", "/api/run",
    ])  # fmt: skip
    guarded = {path for path, methods in contract["paths"].items() if "post" in methods and methods["post"]["security"]}
    assert guarded == {"/api/retry", "/api/pause", "/api/resume", "/api/run"}


@pytest.mark.parametrize("mode", MODES)
async def test_generated_requests_cause_no_server_error(client, mode, request):
    document = (await client.get("/openapi.json")).json()
    examples = 200 if request.config.getoption("--full") else 15

    asked = await to_thread(hammer, document, f"http://127.0.0.1:{client.port}", mode, examples, headers=HEADERS)

    assert asked > 50
