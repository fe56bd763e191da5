"""The dashboard's files and headers."""

from __future__ import annotations

import json
import re

import pytest
from tests.server.dashboards import HEADERS, client, database, database_url, peer, runs, site
from tests.server.wire import ask

from rehost.server.dashboard.dashboard import POLICY

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_every_response_has_the_pages_policy(client):
    for path in ("/", "/app.js", "/docs", "/api/sources", "/nothing", "/metrics"):
        response = await client.get(path)
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/app.js", "/api/sources", "/api/live", "/metrics", "/copies/1", "/thumbs/1"]
)
async def test_a_page_whose_name_was_rebound_reads_nothing(client, path):
    response = await ask(client.port, path, host="evil.example")

    assert response.status == 421
    assert "API_ALLOWED_HOSTS" in json.loads(response.body)["detail"]
    assert response["content-security-policy"] == POLICY


async def test_a_page_of_another_name_cannot_act(client, runs):
    headers = {"content_length": "0", **HEADERS}
    response = await ask(client.port, "/api/run", "POST", host="evil.example", **headers)

    assert response.status == 421
    assert not runs.started


@pytest.mark.parametrize(
    "path",
    [
        *(
            "//x/%2e%2e",
            "//evil.example/%2e%2e",
            "//app.js",
            "/./app.js",
            "/vendor",
            "/vendor/",
            "/vendor/uplot",
            "/%2e",
        ),
        *(
            "/vendor/../app.js",
            "/vendor/%2e%2e/app.js",
            "/app.js/",
            "/app.js/.",
            "/\\app.js",
            "/app.js%00",
            "/__init__.py",
        ),
        *("/%2e%2e/dashboard.py", "//evil.example", "/docs/", "/docs.html/", "/index.html/"),
    ],
)
async def test_odd_paths_are_not_found_and_redirect_nowhere(client, path):
    response = await ask(client.port, path, host="localhost")

    assert response.status == 404
    assert response["location"] is None


async def test_the_pages_files_are_revalidated_each_time(client):
    for path in ("/", "/app.js", "/docs", "/vendor/uplot/uPlot.iife.min.js"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, first.headers["cache-control"], again.status_code) == (200, "no-cache", 304)


async def test_pages_use_no_other_host_and_no_inline_script(client):
    for path in ("/", "/docs"):
        page = (await client.get(path)).text
        assert "http" not in page
        assert "<script>" not in page
        assert "style=" not in page


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_files_that_a_page_loads_exist(client, path):
    page = (await client.get(path)).text
    wanted = [url for url in re.findall(r'(?:src|href)="([^"#]+)"', page) if url not in {"./", "docs"}]

    assert wanted
    for url in wanted:
        assert (await client.get(f"/{url}")).status_code == 200
