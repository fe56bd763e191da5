"""The verbs that request nothing from an origin: `rehost status`, `plan`, `origins`, `undo` and `usage`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import run_loop, sigterm_as_interrupt
from rehost.cli.options import (
    DAY_SECONDS,
    SettingsCommand,
    base_option,
    hosts_of,
    json_by_source_option,
    json_option,
    read_settings,
    seconds_of,
    settings_flags,
    source_option,
)
from rehost.cli.output.origins import OriginsReport, decided_lines, freezes_text
from rehost.cli.output.programs import several, to_json, total_plan, total_undone
from rehost.cli.output.reports import (
    StatusReport,
    plan_tables,
    read_status,
    status_text,
    status_total,
)
from rehost.cli.output.storage import undone_text
from rehost.cli.output.tables import Style, say
from rehost.language import gettext as _
from rehost.telemetry.format import count, duration

if TYPE_CHECKING:
    from rehost.hosts.shares import Resumed
    from rehost.hotlink.repository import Forgotten
    from rehost.ledger.freezes import Freeze
    from rehost.settings import Settings


@click.command(
    short_help="Show which links have a copy, which do not, and why.",
    epilog="""\b
Examples:
  rehost status                     counts, reasons, hosts, the last runs
  rehost status --failed            also list links without a copy (1,000 at most)
  rehost status --json              for programs

\b
Exit status:
  0  the report was printed
  2  incorrect usage or invalid settings
  3  the database cannot be read
""",
)
@click.option("--failed", is_flag=True, help="Also list the links without a copy (the first thousand).")
@source_option
@base_option
@json_by_source_option
def status(*, failed: bool, sources: tuple[str, ...], base: Path, as_json: bool) -> int:
    """Show which links have a copy, which do not, and why. This reads rehost's own tables only."""
    reports, others, freezes = run_loop(_read_status(read_settings(base, {}), sources, failed=failed))
    style = Style.of(sys.stdout)
    if as_json:
        click.echo(to_json(several(reports, status_total)))
    else:
        click.echo("\n\n".join([status_text(reports, style, others), *freezes_text(freezes, style, examples=0)]))
    return 0


async def _read_status(
    settings: Settings, sources: tuple[str, ...], *, failed: bool
) -> tuple[Sequence[StatusReport], Sequence[str], Sequence[Freeze]]:
    """Return the reports of the sources, the names of those that the settings lack, and the frozen origins."""
    from rehost.ledger.freezes import Freezes
    from rehost.ledger.history import Stores
    from rehost.wiring.databases import open_queries, sources_of, store_problem

    chosen = sources_of(settings, sources)
    async with open_queries(settings) as queries:
        problem = await store_problem(settings, Stores(queries.database))
        store = None if problem is None else problem.messages[0]
        reports = await read_status(queries, [each.name for each in chosen], failed=failed)
        others = set(await queries.sources()) - {each.name for each in settings.sources}
        freezes = [each for each in await Freezes(queries.database).all() if each.is_open]
        return [replace(each, store=store, frozen=freezes) for each in reports], sorted(others), freezes


@click.command(
    cls=SettingsCommand,
    short_help="Show what a run would request and repair; change nothing.",
    epilog="""\b
Examples:
  rehost plan
  rehost plan --json | jq .due

\b
Exit status:
  0  the plan was printed
  2  incorrect usage or invalid settings
  3  the database or the store cannot be used
""",
)
@source_option
@base_option
@json_by_source_option
@settings_flags("storage_dir", "static_url_prefix")
def plan(
    *,
    sources: tuple[str, ...],
    base: Path,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Show what a run would request and repair, and change nothing.

    It compares table, ledger and store: new rows, changed links, lost files. It sends no request, and changes no row,
    no table and no file: a database user who may only read is enough.
    """
    from rehost.wiring.databases import plan

    with sigterm_as_interrupt():  # the copy of the ledger is removed then as well
        plans = run_loop(plan(read_settings(base, settings_given), sources))
    click.echo(to_json(several(plans, total_plan)) if as_json else plan_tables(plans, Style.of(sys.stdout)))
    return 0


_LONGEST_PAUSE = 31 * DAY_SECONDS  # as in the API


def check_time(_context: click.Context, _parameter: click.Parameter, word: str | None) -> float | None:
    """Return the seconds of a time such as 90s, 30m, 2h or 7d."""
    if word is None:
        return None
    seconds = seconds_of(word)
    if not 0 < seconds <= _LONGEST_PAUSE:
        raise click.BadParameter(
            _("{word!r} is not a time: write 90s, 30m, 2h or 7d, and at most 31d.").format(word=word)
        )
    return seconds


@dataclass(frozen=True, slots=True)
class HostsChange:
    """The hosts to pause, to resume and to forget, and how long the pause lasts."""

    pause: Sequence[str]
    resume: Sequence[str]
    forget: Sequence[str]
    seconds: float | None
    accept: Sequence[str] = ()  # of frozen origins
    keep: Sequence[str] = ()

    @property
    def decisions(self) -> Mapping[str, str]:
        """The decisions about hosts whose origins are frozen."""
        return dict.fromkeys(self.accept, "accept") | dict.fromkeys(self.keep, "keep")

    @property
    def hosts(self) -> set[str]:
        """All of them."""
        return {*self.pause, *self.resume, *self.forget}


@dataclass(frozen=True, slots=True)
class HostsChanged:
    """What `rehost origins` changed with --pause, --resume and --forget."""

    paused: Mapping[str, float]  # seconds, by host
    resumed: Mapping[str, Resumed]
    forgotten: Mapping[str, Forgotten]
    decided: Mapping[str, str]  # accept or keep, by origin

    def text(self) -> str:
        """Return a sentence for each host."""
        paused = _("Paused {host} for {time}. To end the pause earlier: rehost origins --resume {host}")
        lines = [paused.format(host=host, time=duration(seconds)) for host, seconds in self.paused.items()]
        for host, each in self.resumed.items():
            lines.append((_("Resumed {host}.") if each.was_paused else _("{host} was not paused.")).format(host=host))
            due = _("Links that waited for it and are due now: {number}. `rehost run` visits them.")
            lines += [due.format(number=count(each.links))] if each.links else []
        forgot = _("Forgot what was learned of {host} (Referer rules: {rules}, decoys: {decoys}).")
        lines += [
            forgot.format(host=host, rules=each.rules, decoys=each.decoys) for host, each in self.forgotten.items()
        ]
        if self.forgotten:
            lines.append(_("To visit refused links now, and learn again: rehost run --retry hotlink-refused"))
        return "\n".join([*lines, *decided_lines(self.decided)])


@click.command(
    short_help="Show what rehost has learned about the hosts; pause, resume or forget one.",
    epilog="""\b
The Referer of an origin is one of:
  none     no Referer at all             origin   the root of the origin itself
  site     the www page of its domain    page     the row's own page
  or a URL that you have set (IMAGE_REFERER, rehost.toml)

\b
Examples:
  rehost origins
  rehost origins --json
  rehost origins --pause img.example.com --for 2h
  rehost origins --resume img.example.com
  rehost origins --forget img.example.com --forget example.com
  rehost origins --accept img.example.com   take what a frozen origin sends
  rehost origins --keep img.example.com     keep the held copies

\b
Exit status:
  0  the report was printed, or all hosts were changed
  2  incorrect usage, invalid settings, or an unknown host: nothing was changed
  3  the database cannot be used
""",
)
@click.option("--pause", metavar="HOST", multiple=True, help="Send no requests to a host for a while.")
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    callback=check_time,
    help="How long the pause lasts: 90s, 30m, 2h or 7d, at most 31d. It never shortens a longer pause. [1d]",
)
@click.option(
    "--resume",
    metavar="HOST",
    multiple=True,
    help="End the pause of a host; the links that wait for it are due at once.",
)
@click.option(
    "--forget",
    metavar="HOST",
    multiple=True,
    help="Forget the Referer rules and the decoys of a host, so that rehost learns them again.",
)
@click.option(
    "--accept",
    metavar="HOST",
    multiple=True,
    help="Decide about an origin that a refresh froze: what it sends now is right, and the next refresh takes it.",
)
@click.option(
    "--keep",
    metavar="HOST",
    multiple=True,
    help="Decide about an origin that a refresh froze: the held copies stay, and no refresh asks it until --accept.",
)
@source_option
@base_option
@json_option
def origins(  # noqa: PLR0913 - click passes one argument per option
    *,
    pause: Sequence[str],
    seconds: float | None,
    resume: Sequence[str],
    forget: Sequence[str],
    accept: Sequence[str],
    keep: Sequence[str],
    sources: tuple[str, ...],
    base: Path,
    as_json: bool,
) -> int:
    """Show what rehost has learned about the hosts, pause a host, resume it, have it learned again, or decide on it.

    For each origin, this shows which Referer works there, and how rehost learned it. For each host, it shows how many
    requests are sent at the same time, and whether requests are paused.

    --pause, --resume, --forget, --accept and --keep can be repeated. They apply to a host with all its origins, in all
    sources. A run in progress pauses and resumes within seconds, but keeps what it has learned itself until it ends.
    """
    if seconds is not None and not pause:
        raise click.UsageError(_("--for says how long a pause lasts: it needs --pause HOST."))
    change = HostsChange(
        pause=hosts_of("--pause", pause),
        resume=hosts_of("--resume", resume),
        forget=hosts_of("--forget", forget),
        seconds=seconds,
        accept=hosts_of("--accept", accept),
        keep=hosts_of("--keep", keep),
    )
    if change.hosts or change.decisions:
        changed = run_loop(_change_hosts(read_settings(base, {}), change))
        if as_json:
            click.echo(to_json(changed))
        else:
            say(changed.text())
        return 0
    report = run_loop(_read_origins(read_settings(base, {}), sources))
    click.echo(to_json(report) if as_json else report.text(Style.of(sys.stdout)))
    return 0


async def _read_origins(settings: Settings, sources: tuple[str, ...]) -> OriginsReport:
    from rehost.ledger.freezes import Freezes
    from rehost.wiring.databases import open_queries, sources_of

    chosen = sources_of(settings, sources)
    async with open_queries(settings) as queries:
        hosts = await queries.hosts([each.name for each in chosen])
        freezes = await Freezes(queries.database).all()
        return OriginsReport(await queries.rules(), await queries.decoys(), hosts, freezes)


async def _change_hosts(settings: Settings, change: HostsChange) -> HostsChanged:
    """Change what is known of hosts; nothing if one of them is not known."""
    from rehost.hosts.shares import OPERATORS_PAUSE
    from rehost.http.url import host_of
    from rehost.ledger.freezes import Decision
    from rehost.wiring.databases import open_hosts

    if both := sorted({*change.accept} & {*change.keep}):
        raise click.UsageError(_("{hosts}: either --accept or --keep.").format(hosts=", ".join(both)))
    async with open_hosts(settings) as (shares, repository, freezes):
        decided = {
            each.origin: change.decisions[each.host] for each in await freezes.all() if each.host in change.decisions
        }
        if unfrozen := change.decisions.keys() - {host_of(origin) for origin in decided}:
            text = _("No origin of {hosts} is frozen; `rehost origins` lists those that are.")
            raise click.UsageError(text.format(hosts=", ".join(sorted(unfrozen))))
        learned = {host: await repository.learned(host) for host in change.hosts}
        if unknown := [host for host, names in learned.items() if not names and not await shares.is_known(host)]:
            text = _("No link leads to {hosts}; `rehost origins` lists the hosts.")
            raise click.UsageError(text.format(hosts=", ".join(unknown)))
        for host in change.pause:
            await shares.pause(host, change.seconds or DAY_SECONDS, OPERATORS_PAUSE)
        for origin, decision in decided.items():
            await freezes.decide([origin], Decision(decision))
        return HostsChanged(
            dict.fromkeys(change.pause, change.seconds or DAY_SECONDS),
            {host: await shares.resume(host) for host in change.resume},
            {host: await repository.forget(learned[host]) for host in change.forget},
            decided,
        )


def check_run(_context: click.Context, _parameter: click.Parameter, word: str) -> int:
    """Return the number of a run, from 1."""
    if not re.fullmatch(r"[0-9]*[1-9][0-9]*", word):
        raise click.BadParameter(_("{word!r} is not a run number.").format(word=word))
    return int(word)


@click.command(
    cls=SettingsCommand,
    short_help="Restore rows and copies to what they were before a run.",
    epilog="""\b
Examples:
  rehost status                      lists the last runs with their numbers
  rehost undo 12                     undoes run 12
  rehost undo 12 --source products   undoes it in one table of several

\b
Exit status:
  0  done
  1  the database refuses to write some rows
  2  incorrect usage or invalid settings
  3  there is no such run, or the database cannot be written to
""",
)
@click.argument("run", callback=check_run, metavar="RUN")
@source_option
@base_option
@json_by_source_option
@settings_flags("storage_dir", "static_url_prefix")
def undo(
    *,
    run: int,
    sources: tuple[str, ...],
    base: Path,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Restore rows and copies to what they were before a run. RUN is its number, as `rehost status` lists it.

    Without --source, this undoes the run in every table that it was over. It undoes what verify, refresh and prune
    changed as well, and an undo itself.

    A row that has changed since that run is left as it is. What the run replaced or removed comes back from the trash.
    What it copied for the first time stays in the store: the next run writes the URLs again, without any request.
    """
    from rehost.wiring.upkeep import undo

    settings = read_settings(base, settings_given)
    undone = run_loop(undo(settings, sources=sources, run=run))
    if not as_json:
        say(undone_text(undone, run))
    elif len(set(sources or settings.sources)) == 1:
        click.echo(to_json(total_undone(undone)))
    else:
        each = [{"source": name, **asdict(done)} for name, done in undone.items()]
        click.echo(to_json({"sources": each, "total": total_undone(undone)}))
    return 1 if total_undone(undone).refused else 0


@click.command(
    cls=SettingsCommand,
    short_help="Show what the copies take up, in the ledger and on the disk.",
    epilog="""\b
Examples:
  rehost usage                              a report of one screen
  rehost usage --json | jq .store.trash     what lies in the trash

\b
Exit status:
  0    the report was printed
  2    incorrect usage or invalid settings
  3    the database or the store cannot be read
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM
""",
)
@base_option
@json_option
@settings_flags("storage_dir")
def usage(*, base: Path, as_json: bool, **settings_given: Any) -> int:  # noqa: ANN401 - click's
    """Show what the copies take up, in the ledger and on the disk. Nothing is changed.

    The report has the copies by source, host and format, ledger and store side by side with every difference named,
    the trash and the quarantine, copies with the same bytes, the growth by month, and when the disk will be full at
    the rate of the last 90 days.
    """
    from rehost.cli.output.findings import LineProgress
    from rehost.cli.output.programs import to_json
    from rehost.cli.output.storage import files_words, usage_text
    from rehost.cli.output.tables import Style
    from rehost.clock import Clock
    from rehost.wiring.upkeep import usage

    progress = LineProgress(sys.stderr, Clock(), files_words, is_quiet=as_json)
    with sigterm_as_interrupt():
        found = run_loop(usage(read_settings(base, settings_given), progress))
    progress.close()
    click.echo(to_json(found) if as_json else usage_text(found, Style.of(sys.stdout)))
    return 0
