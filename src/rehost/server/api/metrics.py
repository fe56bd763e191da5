"""Metrics for Prometheus (text format 0.0.4). Labels never contain a URL, a host or a key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from rehost.ledger.reports import SourceReport
from rehost.model import State
from rehost.server.api.routes import Api

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric with its samples."""

    name: str
    about: str
    samples: Sequence[tuple[str, float]]  # labels in their written form, value

    def lines(self) -> Iterable[str]:
        """Yield the metric's lines."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} gauge"
        for labels, value in self.samples:
            yield f"{self.name}{{{labels}}} {value:.17g}" if labels else f"{self.name} {value:.17g}"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Answers Prometheus."""

    api: Api

    async def respond(self) -> Response:
        """Return all metrics."""
        text = "".join(f"{line}\n" for gauge in await self._gauges() for line in gauge.lines())
        return Response(text, headers={"cache-control": "no-store"}, media_type=MEDIA_TYPE)

    async def _gauges(self) -> Sequence[Gauge]:
        queries = (await self.api.resources.get()).queries
        reports = [await queries.source_report(source) for source in await self.api.all_sources()]
        working = sum(run.working for run in await queries.runs(limit=100))
        disk = self.api.disk(sum(each.states[State.HELD] for each in reports))
        return [
            Gauge("rehost_links", "Links of the catalogue, by state.", list(_states(reports))),
            Gauge("rehost_failed_links", "Deferred and refused links, by reason.", list(_reasons(reports))),
            _by_source("rehost_due_links", "Links that are due.", [(each.source, each.due) for each in reports]),
            _by_source(
                "rehost_held_bytes", "Bytes of all held copies.", [(each.source, each.size) for each in reports]
            ),
            Gauge("rehost_running", "Worker processes of runs in progress.", [("", working)]),
            Gauge("rehost_disk_free_bytes", "Free bytes of the store's file system.", [("", disk.free)]),
            Gauge("rehost_disk_bytes", "Size of the store's file system in bytes.", [("", disk.total)]),
        ]


def _by_source(name: str, about: str, values: Iterable[tuple[str, float]]) -> Gauge:
    return Gauge(name, about, [(f'source="{_escape(source)}"', value) for source, value in values])


def _states(reports: Iterable[SourceReport]) -> Iterable[tuple[str, float]]:
    for each in reports:
        for state, number in each.states.items():
            yield f'source="{_escape(each.source)}",state="{state.value}"', number


def _reasons(reports: Iterable[SourceReport]) -> Iterable[tuple[str, float]]:
    for each in reports:
        for reason, number in each.reasons.items():
            yield f'source="{_escape(each.source)}",reason="{reason.value}"', number


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
