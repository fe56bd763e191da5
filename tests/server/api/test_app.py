"""The OpenAPI document, checked against the application with generated requests."""

from __future__ import annotations

import re
from asyncio import to_thread

import pytest
from tests.hammer import MODES, follow, hammer
from tests.server.dashboards import HEADERS, client, database, database_url, peer, runs, site

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_openapi_lists_every_operation_and_no_others(client):
    contract = (await client.get("/openapi.json")).json()

    assert contract["openapi"] == "3.1.0"
    assert sorted(contract["paths"]) == sorted([
        "/health", "/ready", "/metrics", "/openapi.json", "/api/server", "/api/sources", "/api/standing", "/api/links",
        "/api/link", "/api/hosts", "/api/origins", "/api/runs", "/api/usage", "/api/live", "/api/retry", "/api/pause",
        "/api/resume", "/api/run", "/api/stop", "/api/upkeep", "/api/findings", "/api/freezes", "/api/takedowns",
        "/api/takedown", "/api/trash", "/api/storage", "/api/accept", "/api/keep",
        "/api/forget", "/api/forget/preview", "/api/allow",
    ])  # fmt: skip
    guarded = {path for path, methods in contract["paths"].items() if "post" in methods and methods["post"]["security"]}
    assert guarded == {
        "/api/retry",
        "/api/pause",
        "/api/resume",
        "/api/run",
        "/api/stop",
        "/api/accept",
        "/api/keep",
        "/api/forget",
        "/api/forget/preview",
        "/api/allow",
    }


@pytest.mark.parametrize("mode", MODES)
async def test_generated_requests_cause_no_server_error(client, mode, request, monkeypatch, sample):
    monkeypatch.setattr("rehost.server.api.live.MAX_STREAM_SECONDS", 0.0)
    document = (await client.get("/openapi.json")).json()
    root, examples = f"http://127.0.0.1:{client.port}", 200 if request.config.getoption("--full") else 12

    asked = await to_thread(
        hammer, document, root, mode, examples, headers=HEADERS, choose=lambda operations: sample(operations, 8)
    )

    assert len(asked) >= 8
    assert min(asked.values()) > 0


async def test_links_of_the_document_lead_from_lists_to_their_entries(client, monkeypatch, request):
    monkeypatch.setattr("rehost.server.api.live.MAX_STREAM_SECONDS", 0.0)
    document = (await client.get("/openapi.json")).json()
    examples = 60 if request.config.getoption("--full") else 15

    followed = await to_thread(follow, document, f"http://127.0.0.1:{client.port}", examples, headers=HEADERS)

    assert {"/api/link", "/api/standing"} <= followed


async def test_components_and_operations_have_names_of_their_own(client):
    document = (await client.get("/openapi.json")).json()
    operations = [each for methods in document["paths"].values() for each in methods.values()]

    assert not [name for name in document["components"]["schemas"] if not re.fullmatch(r"([A-Z][a-z]+)+", name)]
    assert all(re.fullmatch(r"[a-z_]+", each["operationId"]) for each in operations)
    for each in operations:
        for status, response in each["responses"].items():
            for media_type, content in response["content"].items():
                is_named = "$ref" in str(content["schema"]) or content["schema"] != {}
                assert is_named, (each["operationId"], status)
                assert (media_type == "application/problem+json") == (int(status) >= 400)


async def test_required_parameters_are_required(client):
    paths = (await client.get("/openapi.json")).json()["paths"]
    required = {
        (path, each["name"])
        for path, methods in paths.items()
        for operation in methods.values()
        for each in operation.get("parameters", [])
        if each["required"]
    }

    assert required == {
        ("/api/link", "row_key"),
        ("/api/pause", "host"),
        ("/api/resume", "host"),
        ("/api/stop", "run"),
        ("/api/takedown", "takedown"),
        ("/api/accept", "origin"),
        ("/api/keep", "origin"),
        ("/api/forget", "what"),
        ("/api/forget/preview", "what"),
        ("/api/allow", "takedown"),
    }
