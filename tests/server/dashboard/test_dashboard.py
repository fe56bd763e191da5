"""The dashboard's files and headers."""

from __future__ import annotations

import re

import pytest
from tests.server.dashboards import client, database, database_url, peer, runs, site

from rehost.server.dashboard.dashboard import POLICY

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_every_response_has_the_pages_policy(client):
    for path in ("/", "/app.js", "/docs", "/api/sources", "/nothing", "/metrics"):
        response = await client.get(path)
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"


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
