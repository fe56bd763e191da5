"""The verbs that request nothing from an origin: `rehost status`, `plan`, `origins` and `undo`."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import run_loop
from rehost.cli.options import (
    SettingsCommand,
    base_option,
    json_by_source_option,
    json_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.reports import (
    OriginsReport,
    StatusReport,
    plan_tables,
    read_status,
    several,
    status_text,
    status_total,
    to_json,
    total_plan,
    total_undone,
    undone_text,
)
from rehost.cli.output.tables import Style
from rehost.language import gettext as _

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    reports = run_loop(_read_status(read_settings(base, {}), sources, failed=failed))
    click.echo(to_json(several(reports, status_total)) if as_json else status_text(reports, Style.of(sys.stdout)))
    return 0


async def _read_status(settings: Settings, sources: tuple[str, ...], *, failed: bool) -> Sequence[StatusReport]:
    from rehost.wiring.databases import open_queries, sources_of

    chosen = sources_of(settings, sources)
    async with open_queries(settings) as queries:
        return await read_status(queries, [each.name for each in chosen], failed=failed)


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

    plans = run_loop(plan(read_settings(base, settings_given), sources))
    click.echo(to_json(several(plans, total_plan)) if as_json else plan_tables(plans, Style.of(sys.stdout)))
    return 0


@click.command(
    short_help="Show what rehost has learned about the hosts.",
    epilog="""\b
The Referer of an origin is one of:
  none     no Referer at all             origin   the root of the origin itself
  site     the www page of its domain    page     the row's own page
  or a URL that you have set (IMAGE_REFERER, rehost.toml)

\b
Examples:
  rehost origins
  rehost origins --json

\b
Exit status:
  0  the report was printed
  2  incorrect usage or invalid settings
  3  the database cannot be read
""",
)
@source_option
@base_option
@json_option
def origins(*, sources: tuple[str, ...], base: Path, as_json: bool) -> int:
    """Show what rehost has learned about the hosts.

    For each origin, this shows which Referer works there, and how rehost learned it. For each host, it shows how many
    requests are sent at the same time, and whether requests are paused.
    """
    report = run_loop(_read_origins(read_settings(base, {}), sources))
    click.echo(to_json(report) if as_json else report.text(Style.of(sys.stdout)))
    return 0


async def _read_origins(settings: Settings, sources: tuple[str, ...]) -> OriginsReport:
    from rehost.wiring.databases import open_queries, sources_of

    chosen = sources_of(settings, sources)
    async with open_queries(settings) as queries:
        hosts = await queries.hosts([each.name for each in chosen])
        return OriginsReport(await queries.rules(), await queries.decoys(), hosts)


def check_run(_context: click.Context, _parameter: click.Parameter, word: str) -> int:
    """Return the number of a run, from 1."""
    if not re.fullmatch(r"[0-9]*[1-9][0-9]*", word):
        raise click.BadParameter(_("{word!r} is not a run number.").format(word=word))
    return int(word)


@click.command(
    cls=SettingsCommand,
    short_help="Restore the column to what it was before a run.",
    epilog="""\b
Examples:
  rehost status                      lists the last runs with their numbers
  rehost undo 12                     undoes run 12
  rehost undo 12 --source products   undoes it in one table of several

\b
Exit status:
  0  done
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
    """Restore the column to what it was before a run. RUN is its number, as `rehost status` lists it.

    Without --source, this undoes the run in every table that it was over.

    A row that has changed since that run is left as it is. The copies stay in the store: the next run writes their
    URLs again, without any request.
    """
    from rehost.wiring.databases import undo

    settings = read_settings(base, settings_given)
    undone = run_loop(undo(settings, sources=sources, run=run))
    if not as_json:
        click.echo(undone_text(undone, run))
    elif len(set(sources or settings.sources)) == 1:
        click.echo(to_json(total_undone(undone)))
    else:
        each = [{"source": name, **asdict(done)} for name, done in undone.items()]
        click.echo(to_json({"sources": each, "total": total_undone(undone)}))
    return 0
