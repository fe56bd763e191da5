"""The verbs that request nothing from an origin: `rehost status`, `plan`, `origins` and `undo`."""

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
    SettingsCommand,
    base_option,
    json_by_source_option,
    json_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.programs import several, to_json, total_plan, total_undone
from rehost.cli.output.reports import (
    OriginsReport,
    StatusReport,
    plan_tables,
    read_status,
    status_text,
    status_total,
    undone_text,
)
from rehost.cli.output.tables import Style, say
from rehost.language import gettext as _
from rehost.telemetry.format import count, duration

if TYPE_CHECKING:
    from rehost.hosts.shares import Resumed
    from rehost.hotlink.repository import Forgotten
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
    reports, others = run_loop(_read_status(read_settings(base, {}), sources, failed=failed))
    style = Style.of(sys.stdout)
    click.echo(to_json(several(reports, status_total)) if as_json else status_text(reports, style, others))
    return 0


async def _read_status(
    settings: Settings, sources: tuple[str, ...], *, failed: bool
) -> tuple[Sequence[StatusReport], Sequence[str]]:
    """Return the reports of the sources, and the names of those that are in the ledger and not in the settings."""
    from rehost.ledger.history import Stores
    from rehost.wiring.databases import open_queries, sources_of, store_problem

    chosen = sources_of(settings, sources)
    async with open_queries(settings) as queries:
        problem = await store_problem(settings, Stores(queries.database))
        store = None if problem is None else problem.messages[0]
        reports = await read_status(queries, [each.name for each in chosen], failed=failed)
        others = set(await queries.sources()) - {each.name for each in settings.sources}
        return [replace(each, store=store) for each in reports], sorted(others)


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


DAY_SECONDS = 86400.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_SECONDS}
_LONGEST_PAUSE = 31 * DAY_SECONDS  # as in the API


def check_time(_context: click.Context, _parameter: click.Parameter, word: str | None) -> float | None:
    """Return the seconds of a time such as 90s, 30m, 2h or 7d."""
    if word is None:
        return None
    time = re.fullmatch(r"([0-9]{1,9})([smhd])", word)
    seconds = float(time[1]) * _UNITS[time[2]] if time else 0.0
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
        return "\n".join(lines)


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
@source_option
@base_option
@json_option
def origins(
    *,
    pause: Sequence[str],
    seconds: float | None,
    resume: Sequence[str],
    forget: Sequence[str],
    sources: tuple[str, ...],
    base: Path,
    as_json: bool,
) -> int:
    """Show what rehost has learned about the hosts, pause a host, resume it, or have it learned again.

    For each origin, this shows which Referer works there, and how rehost learned it. For each host, it shows how many
    requests are sent at the same time, and whether requests are paused.

    --pause, --resume and --forget can be repeated. They apply to a host with all its origins, in all sources. A run in
    progress pauses and resumes within seconds, but keeps what it has learned itself until it ends.
    """
    if seconds is not None and not pause:
        raise click.UsageError(_("--for says how long a pause lasts: it needs --pause HOST."))
    if pause or resume or forget:
        change = HostsChange(_hosts("--pause", pause), _hosts("--resume", resume), _hosts("--forget", forget), seconds)
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
    from rehost.wiring.databases import open_queries, sources_of

    chosen = sources_of(settings, sources)
    async with open_queries(settings) as queries:
        hosts = await queries.hosts([each.name for each in chosen])
        return OriginsReport(await queries.rules(), await queries.decoys(), hosts)


def _hosts(option: str, texts: Sequence[str]) -> Sequence[str]:
    """Return the hosts that are named, as requests have them."""
    from rehost.http.errors import InvalidUrl
    from rehost.http.url import parse_host

    try:
        return list(dict.fromkeys(parse_host(text) for text in texts))
    except InvalidUrl as error:
        text = _("{option} {hosts}: this is not the name of a host ({problem}).")
        raise click.UsageError(text.format(option=option, hosts=" ".join(texts), problem=error)) from error


async def _change_hosts(settings: Settings, change: HostsChange) -> HostsChanged:
    """Change what is known of hosts; nothing if one of them is not known."""
    from rehost.hosts.shares import OPERATORS_PAUSE
    from rehost.wiring.databases import open_hosts

    async with open_hosts(settings) as (shares, repository):
        learned = {host: await repository.learned(host) for host in change.hosts}
        if unknown := [host for host, names in learned.items() if not names and not await shares.is_known(host)]:
            text = _("No link leads to {hosts}; `rehost origins` lists the hosts.")
            raise click.UsageError(text.format(hosts=", ".join(unknown)))
        for host in change.pause:
            await shares.pause(host, change.seconds or DAY_SECONDS, OPERATORS_PAUSE)
        return HostsChanged(
            dict.fromkeys(change.pause, change.seconds or DAY_SECONDS),
            {host: await shares.resume(host) for host in change.resume},
            {host: await repository.forget(learned[host]) for host in change.forget},
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
