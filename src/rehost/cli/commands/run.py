"""`rehost run`: the main job."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from rehost.cli.options import (
    SettingsCommand,
    base_option,
    json_option,
    log_file_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output import tables as render
from rehost.cli.rlimits import claim_files
from rehost.cli.run_command import conduct
from rehost.cli.workers.partition import RunOptions, shares
from rehost.events import RunEnded
from rehost.model import Reason
from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost run                           every due link, by the settings in .env
  rehost run --retry all               those that wait for a later turn as well
  rehost run --retry timed-out         only those of one reason, besides what is due
  rehost run --concurrency 20 --log-file rehost.log

Running it again asks the origins for nothing that is held. Running it on several machines at once, against one
database and one store, shares the work. The first Ctrl-C or SIGTERM ends it well within seconds; a second one at
once, and the next run goes on from there.

\b
Exit status:
  0    every due link was visited and none of them failed
  1    the run ended; some due link was refused or deferred in it
  2    usage or settings          3  the environment stopped it: database, disk
  130  interrupted from the keyboard; 143 by SIGTERM
"""


def check_retry(_context: click.Context, _parameter: click.Parameter, word: str | None) -> str | None:
    """Return the word if it is a reason or `all`."""
    if word is not None and word != "all" and word not in set(Reason):
        raise click.BadParameter(f"{word!r} is no reason; say all, or one of: {', '.join(Reason)}.")
    return word


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Copy every picture that is wanted and not held.")
@click.option(
    "--retry",
    metavar="REASON|all",
    callback=check_retry,
    help="Visit links now that failed before and wait for a later turn: of one reason, or all.",
)
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Processes on this machine. [1]")
@source_option
@base_option
@log_file_option
@click.option("--quiet", "-q", is_flag=True, help="No progress and no summary; warnings and errors only.")
@click.option("--verbose", "-v", is_flag=True, help="A line per visit on stderr as well.")
@json_option
@settings_flags(without=("read_through", "api_host", "api_port"))
def command(
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
    """Copy every picture that is wanted and not held; write the local URL back into its row.

    New rows, changed links, files that are gone and cleared columns are each noticed, and mended with only the requests
    that need to be made. Links that failed before wait for their next turn (minutes to weeks, by reason).
    """
    settings = read_settings(base, settings_given)
    wish = RunOptions(source, retry, log_file, is_quiet=quiet or as_json, is_verbose=verbose)
    ended, status = start(settings, wish, workers or 1)
    if as_json:
        click.echo(summary_json(ended))
    elif not quiet:
        click.echo(render.summary(ended, render.Style.of(sys.stdout), advice(log_file)))
    return status


def advice(log_file: Path | None) -> render.Advice:
    """Return what can be done next, by the name under which this was called: another program's, or `rehost run`."""
    called = click.get_current_context().command_path
    if called == render.USUAL.again or log_file is None:
        return render.Advice(again=called)
    return render.Advice(called, f"the lines `visit` and `host` in {log_file}")


def start(settings: Settings, wish: RunOptions, workers: int = 1) -> tuple[RunEnded, int]:
    """Run in this process, or in several; return the summary and the exit status."""
    claim_files(settings, workers)
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - uvloop takes its time

    if workers == 1:
        return run_loop(conduct(settings, wish))
    from rehost.cli.workers.supervisor import WorkerSupervisor  # noqa: PLC0415 - one process needs none of it

    own, *others = shares(settings, wish, workers, os.cpu_count() or 1)
    with WorkerSupervisor.of(others) as crew:
        return run_loop(conduct(own.settings, wish, requests=own.requests, crew=crew))


def summary_json(ended: RunEnded) -> str:
    """Return the summary as one JSON object."""
    import json  # noqa: PLC0415 - only --json needs it
    from dataclasses import asdict  # noqa: PLC0415 - as above

    return json.dumps(asdict(ended), ensure_ascii=False)
