"""Metrics for Prometheus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

from tests.databases import execute
from tests.server.dashboards import client, database, database_url, get_json, peer, runs, site

from rehost.model import State
from rehost.server.api.metrics import Metrics

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


@dataclass
class SlowLedger:
    """A ledger whose every measurement takes five seconds, the clock that says so, and the API over them."""

    sources = ("cases",)
    seconds: float = 1000.0
    measured: list[str] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.seconds

    @property
    def resources(self):
        return self

    async def get(self):
        return SimpleNamespace(queries=self)

    async def source_report(self, source: str):
        self.measured.append(source)
        self.seconds += 5.0
        await asyncio.sleep(0)
        return SimpleNamespace(source=source, states={State.HELD: len(self.measured)}, reasons={}, due=0, size=0)

    async def runs(self, **_):
        return []

    async def disk(self, _held: int):
        return SimpleNamespace(free=1, total=2)


async def test_scrapes_take_a_tenth_of_the_database_s_time_at_most():
    ledger = SlowLedger()
    metrics = Metrics(ledger, ledger)
    await asyncio.gather(*(metrics.respond() for _ in range(3)))  # measured once
    ledger.seconds += 44.0
    await metrics.respond()
    assert len(ledger.measured) == 1
    ledger.seconds += 1.5

    response = await metrics.respond()

    assert len(ledger.measured) == 2
    assert b'rehost_due_links{source="cases"} 0' in response.body
