"""What the verbs print: the summary of a run, the plan, the status, the origins.

Of several sources, each verb prints a report for each and the total.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rehost.cli.output.programs import total_plan
from rehost.cli.output.tables import Style, fold, pad, table
from rehost.images.sandbox import LAYERS, probe
from rehost.language import Message, ngettext, translated
from rehost.language import gettext as _
from rehost.model import Reason, State
from rehost.telemetry.format import count, duration, share, size

if TYPE_CHECKING:
    from rehost.events import Planned, RunEnded
    from rehost.ledger.freezes import Freeze
    from rehost.ledger.reports import HostReport, LinkReport, Queries, RunReport, SourceReport

T = TypeVar("T")

RUNS = 5
HOSTS = 12
FAILED_LINKS = 1000
NO_HOST = Message("(no valid URL)")
PASSING = frozenset({
    *(Reason.UNRESOLVED, Reason.UNREACHABLE, Reason.TIMED_OUT, Reason.THROTTLED, Reason.ORIGIN_ERROR),
    *(Reason.MALFORMED, Reason.TRUNCATED, Reason.ROBOTS_REFUSED),
})  # fmt: skip
"""What passes by itself, or is as the operator wants it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What an operator can do after a run, in commands that work where the run was started."""

    again: str = "rehost run"
    why: str = "rehost status --failed"  # lists the links without a copy, and the evidence


USUAL_ADVICE = Advice()


# --- a run


def planned_words(planned: Planned, *, named: bool = False) -> str:
    """Return in one line what a run is going to do, beginning with the source if it is to be `named`."""
    always = (
        (planned.present, ngettext("{number} link", "{number} links", planned.present)),
        (planned.held, _("{number} held")),
        (planned.due, _("{number} to visit")),
    )
    others = (
        (planned.new, _("{number} new")),
        (planned.changed, _("{number} changed")),
        (planned.vanished, _("{number} gone from the table")),
        (planned.lost, ngettext("{number} file missing", "{number} files missing", planned.lost)),
        (planned.found, ngettext("{number} file found", "{number} files found", planned.found)),
        (planned.mended, ngettext("{number} row repaired", "{number} rows repaired", planned.mended)),
        (planned.later, _("{number} left for later")),
    )
    parts = [*always, *(each for each in others if each[0])]
    text = _(", ").join(words.format(number=count(number)) for number, words in parts)
    return _("{source}: {text}").format(source=planned.source, text=text) if named else text


def summary(ended: RunEnded, style: Style, advice: Advice | None = USUAL_ADVICE) -> str:
    """Return the summary of a run, of each source first if there are several; with advice unless there is none."""
    failed = sum(ended.failed.values())
    lines = [style("strong", _headline(ended, failed)), *_figures(ended, style)]
    if ended.free_bytes is not None:
        lines.append(_line(_("disk"), size(ended.free_bytes), _("free")))
    parts = ["\n".join([style("strong", each.source), *filter(None, _figures(each, style))]) for each in ended.sources]
    return fold("\n\n".join([*parts, "\n".join([*lines, *_what_next(ended, failed, advice)])]), style.columns)


def _figures(ended: RunEnded, style: Style) -> list[str]:
    """Return what a run did, and where it leaves the links."""
    lines, failed = [], sum(ended.failed.values())
    if ended.held or failed or ended.unchanged:
        adopted = _("already in the store: {number}").format(number=count(ended.adopted))
        lines += ["", _line(_("copied"), count(ended.held), adopted if ended.adopted else "", style, "good")]
        if ended.unchanged:
            lines.append(_line(_("unchanged"), count(ended.unchanged), _("still correct")))
        lines.append(_line(_("failed"), count(failed), "", style, "bad" if failed else ""))
        lines += reason_lines(ended.failed, style)
    if ended.overtaken:
        note = _("link changed during the run; the next run visits the new one")
        lines.append(_line(_("changed"), count(ended.overtaken), note))
    if ended.suspected:
        note = _("held, but perhaps a decoy: stays until an image replaces it, or a second check agrees")
        lines.append(_line(_("suspected"), count(ended.suspected), note))
    if ended.decoys:
        note = _("was a decoy: replaced by the image, or moved to quarantine and the row cleared")
        lines.append(_line(_("decoys"), count(ended.decoys), note))
    held = ngettext(
        "of {present} link held ({share})", "of {present} links held ({share})", ended.total_present
    ).format(present=count(ended.total_present), share=share(ended.total_held, ended.total_present))
    return [*lines, "", _line(_("total"), count(ended.total_held), held)]


def _headline(ended: RunEnded, failed: int) -> str:
    word = _("Interrupted") if ended.interrupted else _("Done")
    if not (ended.held or failed or ended.unchanged):
        return _("{word}: nothing was due, {duration}").format(word=word, duration=duration(ended.seconds))
    rate = size(round(ended.size / ended.seconds if ended.seconds > 0 else 0.0))
    text = _("{word} in {duration}: {size} received, {rate}/s")
    return text.format(word=word, duration=duration(ended.seconds), size=size(ended.size), rate=rate)


def _what_next(ended: RunEnded, failed: int, advice: Advice | None) -> list[str]:
    lines = []
    if ended.later:
        lines.append(_line(_("later"), count(ended.later), _waiting(ended.next_due_seconds)))
    if waiting := sum(ended.paused.values()):
        host = next(iter(ended.paused))
        text = ngettext(
            "of these, waiting for a paused host: {host}",
            "of these, waiting for {number} paused hosts, the first: {host}",
            len(ended.paused),
        )
        lines.append(_line(_("paused"), count(waiting), text.format(host=host, number=count(len(ended.paused)))))
        resume = _("to ask it now: {command} --resume {host}").format(command="rehost origins", host=host)
        lines += [_line("", "", resume)] if advice else []
    if advice is None:
        return lines
    if ended.later > waiting:
        now = _("to visit them now: {command} --retry all (or a reason from above)")
        lines.append(_line("", "", now.format(command=advice.again)))
    if ended.interrupted:
        lines.append(_line("", "", _("to continue: {command}").format(command=advice.again)))
    elif failed:
        lines.append(_line("", "", _("to list them with reasons: {command}").format(command=advice.why)))
    return lines


def _waiting(seconds: float | None) -> str:
    """Return what links do that are due later, the first of them after so many seconds."""
    if seconds is None:
        return _("waiting for the next visit")
    return _("waiting for the next visit, the earliest in {duration}").format(duration=duration(seconds))


def attention(ended: RunEnded, advice: Advice) -> str:
    """Return one line about what needs the operator's attention after a run; an empty text if nothing does."""
    failed = {reason: number for reason, number in ended.failed.items() if reason not in PASSING}
    number, parts = sum(failed.values()), []
    if failed:
        reasons = ", ".join(f"{reason} {count(failed[reason])}" for reason in _ordered(failed))
        text = ngettext("{number} picture failed ({reasons})", "{number} pictures failed ({reasons})", number)
        parts.append(text.format(number=count(number), reasons=reasons))
    if ended.lost:
        text = ngettext("{number} file was missing", "{number} files were missing", ended.lost)
        parts.append(text.format(number=count(ended.lost)))
    if hosts := ended.long_paused:
        text = ngettext("a paused host: {host}", "{number} paused hosts, the first: {host}", len(hosts))
        parts.append(text.format(number=count(len(hosts)), host=hosts[0]))
    what = _(", ").join(parts)
    if not parts or not any(ended.failed.values()):
        return _("{source}: {text}").format(source=ended.source, text=what) if parts else ""
    return _("{source}: {what}. To list what failed: {command}").format(
        source=ended.source, what=what, command=advice.why
    )


def reason_lines(reasons: Mapping[Reason, int], style: Style) -> list[str]:
    """Return a line for each reason with its meaning, the most frequent first."""
    return [
        f"  {style('weak', f'{reason:<19}')} {count(reasons[reason]):>7}  {_(reason.meaning)}"
        for reason in _ordered(reasons)
    ]


def _ordered(reasons: Mapping[Reason, int]) -> list[Reason]:
    return sorted(reasons, key=lambda reason: (-reasons[reason], reason))


def plan_tables(plans: Sequence[Planned], style: Style) -> str:
    """Return what a run would do; of several sources, a line for each and one for all."""
    if len(plans) == 1:
        return plan_table(plans[0], style)
    names = [each.name for each in fields(plans[0]) if each.name != "refused"]  # by a plan, which writes no row
    every = (*plans, replace(total_plan(plans), source=_("total")))
    others = {"source": Message("source"), "present": "links", "mended": "repaired"}
    rows = [[getattr(plan, name) for name in names] for plan in every]
    return table([_(others.get(name, name)) for name in names], rows, style)


def plan_table(planned: Planned, style: Style) -> str:
    """Return what a run would do, a line for each kind of work."""
    head = ngettext(
        "{source}: {number} link would be visited", "{source}: {number} links would be visited", planned.due
    ).format(source=planned.source, number=count(planned.due))
    rows = (
        (_("links"), planned.present, _("in the table")),
        (_("held"), planned.held, _("a complete copy is stored; nothing to do")),
        (_("due"), planned.due, _("to be visited")),
        (_("new"), planned.new, _("of these: seen for the first time")),
        (_("changed"), planned.changed, _("of these: the link has changed since the last run")),
        (_("lost"), planned.lost, _("of these: the file is missing from the store")),
        (_("found"), planned.found, _("of these: a file is there already, and will be verified without a request")),
        (_("repaired"), planned.mended, _("row does not point at its copy; to be corrected without a request")),
        (_("vanished"), planned.vanished, _("gone from the table")),
        (
            _("later"),
            planned.later,
            _("failed before, waiting for the next visit (to visit now: rehost run --retry all)"),
        ),
    )
    lines = [style("strong", head), "", *(_line(name, count(n), note) for name, n, note in rows)]
    return fold("\n".join(lines), style.columns)


def _line(name: str, figure: str, note: str, style: Style | None = None, look: str = "") -> str:
    figure = pad(figure, 16, is_right=True)
    return f"{pad(name, 13)}{style(look, figure) if style and look else figure}  {note}".rstrip()


# --- the ledger


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What `rehost status` shows."""

    standing: SourceReport
    hosts: Sequence[HostReport]
    runs: Sequence[RunReport]
    failed: Sequence[LinkReport]
    unconfined: Sequence[str]  # what this system lacks to confine decoders, and why
    store: str | None = None  # what is wrong with the store, if it is not there
    frozen: Sequence[Freeze] = ()  # origins of any source that wait for the operator's decision

    def text(self, style: Style) -> str:
        """Return the report for a person."""
        return status_text([self], style)

    def parts(self, style: Style) -> list[str]:
        """Return the report for a person, part by part, without that on decoders."""
        states, reasons = self._states(style), "\n".join(reason_lines(self.standing.reasons, style))
        parts = [fold(states, style.columns), fold(reasons, style.columns)]
        parts += [self._hosts(style), self._runs(style), self._failed(style)]
        return [part for part in parts if part]

    def _states(self, style: Style) -> str:
        standing = self.standing
        if not any(standing.states.values()):
            return _(
                "{source}: no run has recorded a link of this source yet. `rehost plan` checks its table, and "
                "`rehost run` copies its pictures."
            ).format(source=standing.source)
        lines = [style("strong", _standing_line(standing))]
        lines += [
            f"  {state:<19} {count(number):>7}  {_(state.meaning)}"
            for state, number in standing.states.items()
            if number
        ]
        for number, note in (
            (standing.damaged, _("held: the picture is whole, but its file is damaged elsewhere")),
            (standing.rescued, _("held, found elsewhere: the origin has the picture no more")),
            (standing.undisplayed, _("held, in a format that browsers do not display")),
            (standing.suspected, _("perhaps a decoy: the copy stays until a second check agrees")),
        ):
            lines += [f"  {'':<19} {count(number):>7}  {note}"] if number else []
        if standing.later:
            lines.append(f"  {'':<19} {count(standing.later):>7}  {_waiting(standing.next_due_seconds)}")
            lines.append(f"  {'':<19} {'':>7}  {_('to visit them now: rehost run --retry all')}")
        if host := next((each.host for each in self.hosts if each.pause_seconds and each.failed), None):
            resume = _("to ask the paused {host} now: rehost origins --resume {host}").format(host=host)
            lines.append(f"  {'':<19} {'':>7}  {resume}")
        return "\n".join(lines)

    def _hosts(self, style: Style) -> str:
        return table(
            [_("host"), _("links"), _("held"), _("failed"), _("due"), _("paused")],
            [(h.host or translated(NO_HOST), h.present, h.held, h.failed, h.due, pause_of(h)) for h in self.hosts],
            style,
        )

    def _runs(self, style: Style) -> str:
        return table(
            [_("run"), _("started"), _("took"), _("held"), _("failed"), _("received"), _("where"), ""],
            [
                (
                    run.run,
                    moment_of(run.started_at),
                    "?" if run.seconds is None else duration(run.seconds),
                    "?" if run.held is None else run.held,
                    "?" if run.failed is None else run.failed,
                    "?" if run.size is None else size(run.size),
                    f"{run.os_user}@{run.host}",
                    " ".join(part for part in (run.verb, _run_note(run)) if part),
                )
                for run in self.runs
            ],
            style,
        )

    def _failed(self, style: Style) -> str:
        listed = table(
            [_("key"), _("reason"), _("visits"), _("next"), _("evidence"), _("link")],
            [
                (
                    f"{link.row_key}#{link.position}" if link.position else link.row_key,
                    str(link.reason or ""),
                    link.attempts,
                    moment_of(link.due_at),
                    link.evidence or "",
                    link.url,
                )
                for link in self.failed
            ],
            style,
        )
        if style.columns is None or "…" not in listed:
            return listed
        whole = _("Cells are cut to fit the terminal; a pipe gets them whole: rehost status --failed | cat")
        return f"{listed}\n{fold(whole, style.columns)}"

    def decoders(self, style: Style) -> str:
        """Return what confines decoders on this machine."""
        lacking = [each.split(":")[0] for each in self.unconfined]
        layers = ", ".join(each for each in LAYERS if each not in lacking) or _("nothing")
        line = _("decoders are confined by {layers}").format(layers=layers)
        without = _("{line}; not by {layers}").format(line=line, layers=", ".join(self.unconfined))
        return style("bad", without) if lacking else line


def status_text(reports: Sequence[StatusReport], style: Style, others: Sequence[str] = ()) -> str:
    """Return the status of each source and, of several, of all together, for a person; name other sources."""
    parts = [part for report in reports for part in report.parts(style)]
    if len(reports) > 1:
        parts.append(style("strong", _standing_line(replace(status_total(reports), source=_("total")))))
    if (store := reports[0].store) is not None:
        parts.append(style("bad", fold(translated(store), style.columns)))
    if others:
        text = _(
            "Not in these settings, but in the ledger: {sources}. To remove the records of a source: "
            "docs/howto/other-tables.md"
        )
        parts.append(fold(text.format(sources=", ".join(others)), style.columns))
    return "\n\n".join([*parts, fold(reports[0].decoders(style), style.columns)])


def status_total(reports: Sequence[StatusReport]) -> SourceReport:
    """Return where all these sources stand together."""
    each = [report.standing for report in reports]
    waits = [one.next_due_seconds for one in each if one.next_due_seconds is not None]
    names = ("due", "later", "leased", "size", "damaged", "undisplayed", "rescued", "suspected")
    sums: dict[str, Any] = {name: sum(getattr(one, name) for one in each) for name in names}
    for name in ("states", "reasons"):
        counter = Counter(getattr(each[0], name))
        for one in each[1:]:
            counter.update(getattr(one, name))
        sums[name] = dict(counter)
    return replace(each[0], source="total", next_due_seconds=min(waits, default=None), **sums)


def _standing_line(standing: SourceReport) -> str:
    present, held = sum(standing.states.values()), standing.states.get(State.HELD, 0)
    return ngettext(
        "{source}: {held} of {present} link held ({share}), {size}",
        "{source}: {held} of {present} links held ({share}), {size}",
        present,
    ).format(
        source=standing.source,
        held=count(held),
        present=count(present),
        share=share(held, present),
        size=size(standing.size),
    )


async def read_status(queries: Queries, sources: Sequence[str], *, failed: bool) -> Sequence[StatusReport]:
    """Return the status of each source, with its failed links if they are wanted."""
    probing = asyncio.create_task(asyncio.to_thread(probe))
    read = [
        (
            await queries.source_report(source),
            await queries.hosts(source, HOSTS),
            await queries.runs(source, RUNS),
            await _failed_links(queries, source) if failed else (),
        )
        for source in sources
    ]
    unconfined = await probing
    return [StatusReport(*each, unconfined) for each in read]


async def _failed_links(queries: Queries, source: str) -> Sequence[LinkReport]:
    """Return the links whose last visit failed, FAILED_LINKS at most."""
    from rehost.ledger.filters import LinkFilter

    found: list[LinkReport] = []
    for state in (State.REFUSED, State.DEFERRED):
        after: int | None = 0
        while after is not None and len(found) < FAILED_LINKS:
            page = await queries.links(LinkFilter(source=source, state=state), after, FAILED_LINKS - len(found))
            found += page.links
            after = page.next
    return found


def moment_of(instant: datetime) -> str:
    """Return a time in the operator's own time zone."""
    return f"{instant.astimezone():%Y-%m-%d %H:%M}"


def _run_note(run: RunReport) -> str:
    """Return what is special about a run, or an empty text."""
    if run.undone_at is not None:
        return _("undone")
    if run.ended_at is None:
        return _("running") if run.is_alive else _("no end recorded")
    if run.stopped is not None:
        return _("stopped: {error}").format(error=run.stopped)
    return _("interrupted") if run.interrupted else ""


def pause_of(host: HostReport) -> str:
    """Return how long requests to a host are paused, and why; an empty text if they are not."""
    origin = f"{host.paused_origin}: " if host.paused_origin else ""
    return f"{duration(host.pause_seconds)}: {origin}{host.evidence or ''}" if host.pause_seconds else ""
