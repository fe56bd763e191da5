"""The contract, held against the application by made-up requests: whatever is asked, nothing breaks."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from asyncio import to_thread

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.server.dashboards import HEADERS, client, database, database_url, desk, runs, site

__all__ = ["client", "database", "database_url", "desk", "runs", "site"]

SEED = 20260101


async def test_every_operation_is_in_the_contract_and_only_those(client):
    contract = (await client.get("/openapi.json")).json()

    assert contract["openapi"] == "3.1.0"
    assert sorted(contract["paths"]) == sorted([
        "/health", "/ready", "/api/sources", "/api/standing", "/api/links", "/api/link", "/api/hosts", "/api/origins",
        "/api/runs", "/api/usage", "/api/retry", "/api/pause", "/api/resume", "/api/run",
    ])  # fmt: skip
    guarded = {path for path, methods in contract["paths"].items() if "post" in methods and methods["post"]["security"]}
    assert guarded == {"/api/retry", "/api/pause", "/api/resume", "/api/run"}


def send(port, case):
    """Send a made-up case; return its status, type and body."""
    sent = case.as_transport_kwargs(base_url=f"http://127.0.0.1:{port}")
    query = urllib.parse.urlencode(sent.get("params") or {}, doseq=True, errors="replace")
    url = f"http://127.0.0.1:{port}{case.path}" + (f"?{query}" if query else "")
    data = b"" if case.method == "POST" else None
    request = urllib.request.Request(url, data, HEADERS, method=case.method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
async def test_no_made_up_request_finds_a_server_error(client, mode, request):
    document = (await client.get("/openapi.json")).json()
    document["servers"] = [{"url": f"http://127.0.0.1:{client.port}"}]
    examples = 200 if request.config.getoption("--full") else 15
    schema = schemathesis.openapi.from_dict(document)

    def hammer():
        operations = [result.ok() for result in schema.get_all_operations()]
        wanted = [each for each in operations if each.query or mode is schemathesis.GenerationMode.POSITIVE]
        return sum(requests_of(each, mode, examples, client.port) for each in wanted)

    assert await to_thread(hammer) > 50


def requests_of(operation, mode, examples, port):
    """Make up requests for an operation, and hold every answer against the contract; return how many."""
    asked = 0

    @seed(SEED)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        nonlocal asked
        asked += 1
        status, media_type, body = send(port, case)
        assert status < 500, (case, status, body)
        assert media_type == "application/json"
        assert str(status) in operation.definition.raw["responses"]

    check()
    return asked


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_what_a_page_loads_is_there(client, path):
    page = (await client.get(path)).text
    wanted = [url for url in re.findall(r'(?:src|href)="([^"#]+)"', page) if url not in {"./", "docs"}]

    assert wanted
    for url in wanted:
        assert (await client.get(f"/{url}")).status_code == 200
