"""Metrics for Prometheus (text format 0.0.4). Labels never contain a URL, a host or a key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from rehost.clock import Clock
from rehost.ledger.reports import SourceReport
from rehost.model import State
from rehost.server.api.routes import Api
from rehost.server.resources import DiskSpace

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Metrics:
    """Answers Prometheus.

    The figures of a ledger of ten million links take the database many seconds. They are measured again once nine times
    as long has passed as the last measurement took, so that no number of scrapes takes more than a tenth of its time.
    """

    api: Api
    clock: Clock
    _text: str = ""
    _next_at: float = 0.0  # monotonic time of the next measurement
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def respond(self) -> Response:
        """All figures for Prometheus."""
        async with self._lock:
            started = self.clock.monotonic()
            if not self._text or started >= self._next_at:
                self._text = "".join(await self._gauges())
                ended = self.clock.monotonic()
                self._next_at = ended + 9 * (ended - started)
            text = self._text
        return Response(text, headers={"cache-control": "no-store"}, media_type=MEDIA_TYPE)

    async def _gauges(self) -> Sequence[str]:
        queries = (await self.api.resources.get()).queries
        reports = [await queries.source_report(source) for source in self.api.sources]
        working = sum({run.run: run.working for run in await queries.runs(limit=100)}.values())
        disk = await self.api.disk(sum(each.states[State.HELD] for each in reports))
        return [
            _gauge("rehost_links", "Links of the catalogue, by state.", _states(reports)),
            _gauge("rehost_failed_links", "Deferred and refused links, by reason.", _reasons(reports)),
            _gauge("rehost_due_links", "Links that are due.", ((_source(each), each.due) for each in reports)),
            _gauge("rehost_held_bytes", "Bytes of all held copies.", ((_source(each), each.size) for each in reports)),
            _gauge("rehost_running", "Worker processes of runs in progress.", [("", working)]),
            *(() if disk is None else _disk_gauges(disk)),
        ]


def _disk_gauges(disk: DiskSpace) -> Sequence[str]:
    return [
        _gauge("rehost_disk_free_bytes", "Free bytes of the store's file system.", [("", disk.free)]),
        _gauge("rehost_disk_bytes", "Size of the store's file system in bytes.", [("", disk.total)]),
    ]


def _gauge(name: str, about: str, samples: Iterable[tuple[str, float]]) -> str:
    """Return the lines of one metric.

    Args:
        name: of the metric.
        about: its help text.
        samples: labels in their written form, and values.
    """
    lines = [f"{name}{{{labels}}} {value:.17g}" if labels else f"{name} {value:.17g}" for labels, value in samples]
    return "".join(f"{line}\n" for line in (f"# HELP {name} {about}", f"# TYPE {name} gauge", *lines))


def _states(reports: Iterable[SourceReport]) -> Iterable[tuple[str, float]]:
    for each in reports:
        for state, number in each.states.items():
            yield f'{_source(each)},state="{state.value}"', number


def _reasons(reports: Iterable[SourceReport]) -> Iterable[tuple[str, float]]:
    for each in reports:
        for reason, number in each.reasons.items():
            yield f'{_source(each)},reason="{reason.value}"', number


def _source(report: SourceReport) -> str:
    name = report.source.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'source="{name}"'
