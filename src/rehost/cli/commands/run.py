"""`rehost run`: copies the pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rehost.cli.options import (
    RunOptions,
    SettingsCommand,
    base_option,
    json_option,
    log_file_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.reports import USUAL_ADVICE, Advice, summary, to_json
from rehost.cli.output.tables import Style
from rehost.cli.run_command import start
from rehost.model import Reason

EPILOG = """\b
Examples:
  rehost run                           every due link, with the settings in .env
  rehost run --retry all               also the links that wait for a later visit
  rehost run --retry timed-out         also those that failed for this reason
  rehost run --concurrency 20 --log-file rehost.log

Running it again requests nothing that has a copy. Several machines that run it with the same database and the same
store share the work. The first Ctrl-C or SIGTERM ends it cleanly within seconds, a second one at once; either way the
next run continues where this one stopped.

\b
Exit status:
  0    every due link was visited and none failed
  1    the run finished, but some due links failed
  2    usage or settings          3  the environment stopped it: database, disk
  130  interrupted from the keyboard; 143 by SIGTERM
"""


def check_retry(_context: click.Context, _parameter: click.Parameter, word: str | None) -> str | None:
    """Return the word if it is a reason or `all`."""
    if word is not None and word != "all" and word not in set(Reason):
        raise click.BadParameter(f"{word!r} is not a reason; use all, or one of: {', '.join(Reason)}.")
    return word


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Copy every picture that is due.")
@click.option(
    "--retry",
    metavar="REASON|all",
    callback=check_retry,
    help="Also visit links now that failed before and wait for a later visit: for one reason, or all.",
)
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Number of processes on this machine. [1]")
@source_option
@base_option
@log_file_option
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no summary, only warnings and errors.")
@click.option("--verbose", "-v", is_flag=True, help="Also print a line per visit on stderr.")
@json_option
@settings_flags(without=("read_through", "api_host", "api_port"))
def run(
    *,
    retry: str | None,
    workers: int | None,
    source: str | None,
    base: Path,
    log_file: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Copy every picture that is due, and write its local URL into its row.

    New rows, changed links, missing files and cleared columns are all noticed, and repaired with no more requests than
    necessary. Links that failed before wait for their next visit: minutes to weeks, depending on the reason.
    """
    settings = read_settings(base, settings_given)
    options = RunOptions(source, retry, log_file, is_quiet=quiet or as_json, is_verbose=verbose)
    ended, status = start(settings, options, workers or 1)
    if as_json:
        click.echo(to_json(ended))
    elif not quiet:
        click.echo(summary(ended, Style.of(sys.stdout), _advice(log_file)))
    return status


def _advice(log_file: Path | None) -> Advice:
    """Return what to do next, under the name by which this program was called: `rehost run`, or a script's name."""
    called = click.get_current_context().command_path
    if called == USUAL_ADVICE.again or log_file is None:
        return Advice(again=called)
    return Advice(called, f"the lines `visit` and `host` in {log_file}")
