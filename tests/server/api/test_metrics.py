"""Metrics for Prometheus."""

from __future__ import annotations

from tests.databases import execute
from tests.server.dashboards import client, database, database_url, get_json, peer, runs, site

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_metrics_contain_counts_and_no_url(client):
    response = await client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'rehost_links{source="cases",state="held"} 2\n' in response.text
    assert 'rehost_failed_links{source="cases",reason="gone"} 1\n' in response.text
    assert "rehost_disk_free_bytes 600\n" in response.text
    assert "example" not in response.text


async def test_a_source_that_the_settings_lack_is_in_no_figure_and_in_no_list(client, peer):
    await execute(peer.database, "UPDATE rehost_links SET source = 'of another folder' WHERE row_key = '1'")

    response = await client.get("/metrics")

    assert 'rehost_links{source="cases",state="held"} 1\n' in response.text
    assert "of another folder" not in response.text
    assert await get_json(client, "/api/sources") == ["cases"]
    assert (await get_json(client, "/api/standing", source="of another folder"))["states"]["held"] == 1
