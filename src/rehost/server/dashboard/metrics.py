"""What Prometheus is told (text format 0.0.4). No URL, no host and no key is ever a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rehost.errors import OperatorError
from rehost.ledger.standings import SourceReport
from rehost.model import State
from rehost.server.api.api import Api
from rehost.server.api.operation import AWAY, trouble

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One figure, by labels."""

    name: str
    about: str
    samples: Sequence[tuple[str, float]]  # labels as they are written, value

    def lines(self) -> Iterable[str]:
        """Yield the lines of the figure."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} gauge"
        for labels, value in self.samples:
            yield f"{self.name}{{{labels}}} {value:.17g}" if labels else f"{self.name} {value:.17g}"


@dataclass(frozen=True, slots=True)
class Metrics:
    """Tells Prometheus."""

    api: Api

    async def respond(self, _request: Request) -> Response:
        """Return all figures."""
        try:
            gauges = await self._gauges()
        except OperatorError:
            return trouble(503, AWAY)
        text = "".join(f"{line}\n" for gauge in gauges for line in gauge.lines())
        return Response(text, headers={"cache-control": "no-store"}, media_type=MEDIA_TYPE)

    async def _gauges(self) -> Sequence[Gauge]:
        queries = (await self.api.office.get()).queries
        standings = [await queries.standing(source) for source in await self.api.all_sources({})]
        running = sum(run.working for run in await queries.runs(limit=100))
        disk = self.api.disk(sum(each.states[State.HELD] for each in standings))
        return [
            Gauge("rehost_links", "Links of the catalogue, by state.", list(_states(standings))),
            Gauge("rehost_failed_links", "Deferred and refused links, by reason.", list(_reasons(standings))),
            _by_source("rehost_due_links", "Links whose turn has come.", [(s.source, s.due) for s in standings]),
            _by_source("rehost_held_bytes", "Bytes of all held copies.", [(s.source, s.size) for s in standings]),
            Gauge("rehost_running", "Workers that are at a run now.", [("", running)]),
            Gauge("rehost_disk_free_bytes", "Bytes that the store's file system has free.", [("", disk.free)]),
            Gauge("rehost_disk_bytes", "Bytes of the store's file system.", [("", disk.total)]),
        ]


def _by_source(name: str, about: str, values: Iterable[tuple[str, float]]) -> Gauge:
    return Gauge(name, about, [(f'source="{_escaped(source)}"', value) for source, value in values])


def _states(standings: Iterable[SourceReport]) -> Iterable[tuple[str, float]]:
    for each in standings:
        for state, number in each.states.items():
            yield f'source="{_escaped(each.source)}",state="{state.value}"', number


def _reasons(standings: Iterable[SourceReport]) -> Iterable[tuple[str, float]]:
    for each in standings:
        for reason, number in each.reasons.items():
            yield f'source="{_escaped(each.source)}",reason="{reason.value}"', number


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
