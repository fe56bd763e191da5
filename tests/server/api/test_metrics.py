"""Metrics for Prometheus."""

from __future__ import annotations

from tests.server.dashboards import client, database, database_url, peer, runs, site

__all__ = ["client", "database", "database_url", "peer", "runs", "site"]


async def test_metrics_contain_counts_and_no_url(client):
    response = await client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'rehost_links{source="cases",state="held"} 2\n' in response.text
    assert 'rehost_failed_links{source="cases",reason="gone"} 1\n' in response.text
    assert "rehost_disk_free_bytes 600\n" in response.text
    assert "example" not in response.text
