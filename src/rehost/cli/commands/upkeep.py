"""`rehost upkeep`: what is due of all upkeep, within a time, for cron."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import ReceivedSignal, run_loop, stop_on_signals
from rehost.cli.options import (
    SettingsCommand,
    base_option,
    check_span,
    json_option,
    log_file_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.programs import to_json
from rehost.cli.output.tables import say
from rehost.language import gettext as _
from rehost.telemetry.format import count, duration, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rehost.settings import Settings
    from rehost.upkeep.rounds import Upkept
    from rehost.upkeep.verify import VerifyReport

LEFT = 1
FAILED = 3


@click.command(
    cls=SettingsCommand,
    short_help="Do what is due of all upkeep: verify, refresh, rescue, prune.",
    epilog="""\b
Examples:
  rehost upkeep                        whatever is due, however long that takes
  rehost upkeep --for 2h --quiet       every night, from cron
  rehost upkeep --for 2h --yes -q      the same, and move files that no row needs to the trash
  rehost upkeep --for 20s --json       for programs

Due are copies that were not read for 90 days, links that were not asked for 30 days, dead links that nobody looked for
in a month, and files whose time in the trash is over. Each kind gets its share of the time and goes on where it was.
The first Ctrl-C or SIGTERM ends it cleanly.

\b
Exit status:
  0    done, and nothing needs you
  1    something needs you: a fault that could not be repaired, a frozen origin, files that no row needs
  2    incorrect usage or invalid settings
  3    a problem with the database, the disk or a table stopped at least one kind of upkeep
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM
""",
)
@click.option("--for", "seconds", metavar="TIME", callback=check_span, help="How long it may take: 20s, 30m or 2h.")
@click.option("--yes", is_flag=True, help="Also move files that no row needs to the trash, as `rehost prune --yes`.")
@source_option
@base_option
@log_file_option
@click.option("--quiet", "-q", is_flag=True, help="Print one line if something needs you, and errors.")
@json_option
@settings_flags("storage_dir", "concurrency", "timeout_seconds", "static_url_prefix")
def upkeep(
    *,
    seconds: float | None,
    yes: bool,
    sources: tuple[str, ...],
    base: Path,
    log_file: Path | None,
    quiet: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Do what is due of all upkeep, within a time.

    It verifies copies and repairs them, asks origins for changed pictures, looks elsewhere for pictures that origins
    have lost, and deletes what was in the trash for its grace time. Files that no row needs it only counts. What it
    changes can be undone: it prints the numbers of its runs.
    """
    from rehost.cli.commands.run import raise_file_limit

    settings = read_settings(base, settings_given)
    raise_file_limit(settings)
    work = _upkeep(settings, sources, seconds, log_file, moves_unneeded=yes, is_quiet=quiet or as_json)
    reports, received = run_loop(work)
    errors = list(dict.fromkeys(each.error.translated() for each in reports if each.error is not None))
    for error in errors:
        say(f"rehost: {plain(error)}", err=True)
    needs_you = any(each.needs_you for each in reports)
    if as_json:
        click.echo(to_json({"kinds": [_members(each) for each in reports], "needs_you": needs_you}))
    elif needs_you or not quiet:
        say(upkeep_line(reports), err=quiet)
    return received.exit_status(FAILED if errors else LEFT if needs_you else 0)


async def _upkeep(
    settings: Settings,
    sources: Sequence[str],
    seconds: float | None,
    log_file: Path | None,
    *,
    moves_unneeded: bool,
    is_quiet: bool,
) -> tuple[Sequence[Upkept], ReceivedSignal]:
    from rehost.cli.output.findings import LineProgress, verified_words
    from rehost.cli.output.storage import files_words
    from rehost.clock import Clock
    from rehost.events import Event, Visited
    from rehost.telemetry.log import log_event, logging_to
    from rehost.upkeep.rounds import do_what_is_due
    from rehost.wiring.rounds import KindsOfUpkeep

    progress = LineProgress(sys.stderr, Clock(), str, is_quiet=is_quiet)
    visited = itertools.count(1)

    def tell(done: VerifyReport | int) -> None:
        progress(f"prune: {files_words(done)}" if isinstance(done, int) else f"verify: {verified_words(done)}")

    def listen(event: Event) -> None:
        log_event(event)
        if isinstance(event, Visited):
            progress(_("asked for {number} links").format(number=count(next(visited))))  # to refresh, repair, rescue

    stop, kinds = asyncio.Event(), KindsOfUpkeep(settings, sources, listen, moves_unneeded, tell).kinds()
    with (
        logging_to(sys.stderr, log_file, verbose=False),
        stop_on_signals(stop.set, lambda words: say(f"\n{words}", err=True), lambda: None) as received,
    ):
        done = await do_what_is_due(kinds, seconds, stop, Clock())
    progress.close()
    return done, received


def upkeep_line(reports: Sequence[Upkept]) -> str:
    """Return in one line what was done, and what needs the operator."""
    words = {
        ("verify", "read"): _("read {number} copies"),
        ("verify", "repaired"): _("repaired {number}"),
        ("verify", "left"): _("{number} not repaired (rehost verify)"),
        ("refresh", "asked"): _("asked for {number} links"),
        ("refresh", "replaced"): _("replaced {number}"),
        ("refresh", "frozen"): _("frozen origins: {number} (rehost origins)"),
        ("rescue", "rescued"): _("rescued {number}"),
        ("prune", "deleted"): _("deleted {number} files from the trash"),
        ("prune", "removed"): _("moved {number} files to the trash"),
        ("prune", "unneeded"): _("{number} files that no row needs (rehost prune)"),
    }
    always = {("verify", "read"), ("refresh", "asked")}
    parts = []
    for report in reports:
        figures = {**report.done, **report.left}
        named = [((report.name, word), number) for word, number in figures.items()]
        parts += [
            words[key].format(number=count(number))
            for key, number in named
            if key in words and (number or key in always)
        ]
    cut = [each.name for each in reports if each.is_cut]
    text = _(", ").join(parts)
    if cut:
        text = _("{text}; not finished: {kinds}").format(text=text, kinds=", ".join(cut))
    runs = ", ".join(str(run) for each in reports for run in each.runs)
    took = duration(sum(each.seconds for each in reports))
    line = _("Upkeep in {duration}: {text}").format(duration=took, text=text)
    return _("{line} (runs {runs})").format(line=line, runs=runs) if runs else line


def _members(report: Upkept) -> dict[str, object]:
    return {
        "kind": report.name,
        "done": report.done,
        "left": report.left,
        "needs_you": report.needs_you,
        "is_cut": report.is_cut,
        "runs": report.runs,
        "seconds": report.seconds,
        "error": report.error and str(report.error),
    }
