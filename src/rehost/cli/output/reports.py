"""How things stand, read from the ledger and put into words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rehost.cli.output.tables import Style, reason_lines, table
from rehost.model import State
from rehost.telemetry.format import count, duration, share, size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from rehost.ledger.reports import Queries
    from rehost.ledger.standings import HostReport, LinkReport, RunReport, SourceReport
    from rehost.model import Rule

RUNS = 5
HOSTS = 12
FAILED_LINKS = 1000
STATE_WORDS = {
    State.HELD: "a whole copy is at rest, and the row points at it",
    State.WANTED: "due now",
    State.LEASED: "a worker is at it",
    State.DEFERRED: "a cause that passes; due again within minutes to hours",
    State.REFUSED: "a cause that stays; due again after weeks",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What `rehost status` shows."""

    standing: SourceReport
    hosts: Sequence[HostReport]
    runs: Sequence[RunReport]
    failed: Sequence[LinkReport]

    def text(self, style: Style) -> str:
        """Return it as a person reads it."""
        parts = [self._states(style), "\n".join(reason_lines(self.standing.reasons, style))]
        parts += [self._hosts(style), self._runs(style), self._failed(style)]
        return "\n\n".join(part for part in parts if part)

    def _states(self, style: Style) -> str:
        standing = self.standing
        present = sum(standing.states.values())
        held = standing.states.get(State.HELD, 0)
        if not present:
            return f"{standing.source}: no link has been met yet: rehost run"
        lines = [
            style(
                "strong",
                f"{standing.source}: {count(held)} of {count(present)} links are held, {share(held, present)}, ",
            )
            + style("strong", size(standing.size))
        ]
        lines += [
            f"  {state:<19} {count(number):>7}  {STATE_WORDS[state]}"
            for state, number in standing.states.items()
            if number
        ]
        if standing.later:
            first = "" if standing.next_due_seconds is None else f", the first in {duration(standing.next_due_seconds)}"
            lines.append(f"  {count(standing.later)} wait for their next turn{first}; now: rehost run --retry all")
        return "\n".join(lines)

    def _hosts(self, style: Style) -> str:
        return table(
            ["host", "links", "held", "failed", "due", "paused"],
            [(h.host, h.present, h.held, h.failed, h.due, _pause(h)) for h in self.hosts],
            style,
        )

    def _runs(self, style: Style) -> str:
        return table(
            ["run", "started", "took", "held", "failed", "received", "where", ""],
            [
                (
                    run.run,
                    moment(run.started_at),
                    "?" if run.seconds is None else duration(run.seconds),
                    "?" if run.held is None else run.held,
                    "?" if run.failed is None else run.failed,
                    "?" if run.size is None else size(run.size),
                    f"{run.os_user}@{run.host}",
                    run_note(run),
                )
                for run in self.runs
            ],
            style,
        )

    def _failed(self, style: Style) -> str:
        return table(
            ["row", "reason", "tries", "next", "seen", "link"],
            [
                (place(each), str(each.reason or ""), each.attempts, moment(each.due_at), each.evidence or "", each.url)
                for each in self.failed
            ],
            style,
        )


async def read(queries: Queries, source: str, *, failed: bool) -> Report:
    """Return how one source stands."""
    return Report(
        await queries.standing(source),
        await queries.hosts(source, HOSTS),
        await queries.runs(source, RUNS),
        await _failed_links(queries, source) if failed else (),
    )


async def _failed_links(queries: Queries, source: str) -> Sequence[LinkReport]:
    """Return the links whose last visit brought no picture, FAILED_LINKS at most."""
    from rehost.ledger.standings import LinkFilter  # noqa: PLC0415 - brings SQLAlchemy; --help needs none of it

    found: list[LinkReport] = []
    for state in (State.REFUSED, State.DEFERRED):
        after: int | None = 0
        while after is not None and len(found) < FAILED_LINKS:
            page = await queries.links(LinkFilter(source=source, state=state), after, FAILED_LINKS - len(found))
            found += page.links
            after = page.next
    return found


@dataclass(frozen=True, slots=True)
class OriginsReport:
    """What `rehost origins` shows."""

    rules: Sequence[Rule]
    decoys: Mapping[str, int]
    hosts: Sequence[HostReport]

    def text(self, style: Style) -> str:
        """Return it as a person reads it."""
        rules = table(
            ["origin", "Referer", "decoys", "learned", "evidence"],
            [
                (rule.origin, rule.referer, self.decoys.get(rule.origin, 0), moment(rule.learned_at), rule.evidence)
                for rule in self.rules
            ],
            style,
        )
        hosts = table(
            ["host", "at once", "links", "held", "failed", "due", "paused"],
            [(h.host, h.allowance, h.present, h.held, h.failed, h.due, _pause(h)) for h in self.hosts],
            style,
        )
        return "\n\n".join(part for part in (rules, hosts) if part) or "No origin was met yet: rehost run"


def to_json(report: DataclassInstance) -> str:
    """Return a report as one JSON object; instants as ISO 8601."""
    return json.dumps(asdict(report), ensure_ascii=False, default=_plain_value)


def moment(instant: datetime) -> str:
    """Return an instant in the operator's own time zone."""
    return f"{instant.astimezone():%Y-%m-%d %H:%M}"


def place(link: LinkReport) -> str:
    """Return which row, and which element of its cell where it has many."""
    return f"{link.row_key}#{link.position}" if link.position else link.row_key


def run_note(run: RunReport) -> str:
    """Return what is special about a run."""
    if run.undone_at is not None:
        return "undone"
    if run.ended_at is None:
        return "going on" if run.is_alive else "killed"
    return "interrupted" if run.interrupted else ""


def _pause(host: HostReport) -> str:
    if not host.pause_seconds:
        return ""
    return f"{duration(host.pause_seconds)}: {host.evidence or ''}"


def _plain_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value))
