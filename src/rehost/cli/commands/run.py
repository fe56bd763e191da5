"""`rehost run`: one run, by one process or several, with its limits, progress, log, signals and exit status."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import run_loop, stop_on_signals
from rehost.cli.options import (
    RunOptions,
    SettingsCommand,
    base_option,
    json_by_source_option,
    log_file_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.programs import several, to_json
from rehost.cli.output.reports import USUAL_ADVICE, Advice, attention, planned_words, summary
from rehost.cli.output.tables import Style, say
from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.events import Event, Planned, RunEnded
from rehost.language import gettext as _
from rehost.language import ngettext, translated
from rehost.model import Reason
from rehost.run.stats import with_rescued
from rehost.settings import Settings
from rehost.settings.sections import did_you_mean
from rehost.telemetry.format import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rehost.cli.workers import Worker, WorkerShare
    from rehost.upkeep.rescue import Rescued


FAILED = 1
INTERRUPTED = 130  # as by Ctrl-C, where the end was asked for through the API

# Open files that a run needs.
_ALWAYS = 128  # Python, event loop, database, store, and two for each of the lookups that may hang
_EACH_REQUEST = 9  # a socket for each address of a host that does not answer (eight at most), spool
_EACH_DECODER = 3  # its pipes while it starts
_EACH_WORKER = 3  # its socket, and the pipe that shows when it has ended


def start(settings: Settings, options: RunOptions, workers: int = 1) -> tuple[RunEnded, int]:
    """Run with so many processes; return the summary and the exit status.

    Raises:
        OperatorError: the environment stopped the run, or too few files or processes are allowed.
    """
    raise_file_limit(settings, workers)
    from rehost.cli.workers import forked, shares
    from rehost.db.dialects import import_driver

    import_driver(settings.database_url)  # before the fork, once for all processes
    own, *others = shares(settings, options, workers, os.cpu_count() or 1)
    with forked(others) as processes:
        return run_loop(_conduct(own, processes))


async def _conduct(share: WorkerShare, processes: Sequence[Worker]) -> tuple[RunEnded, int]:
    """Do this process's share of a run and lead the others; return the summary and the exit status."""
    from rehost.cli.workers import WorkerSupervisor
    from rehost.telemetry.log import log_event, logging_to, together
    from rehost.telemetry.progress import progress
    from rehost.wiring.run import open_run

    options, clock = share.options, Clock()
    names = options.sources or share.settings.sources

    def announce(event: Event) -> None:
        if isinstance(event, Planned) and not options.is_quiet:
            say(planned_words(event, named=len(names) > 1), err=True)

    with (
        logging_to(sys.stderr, options.log_file, verbose=options.is_verbose),
        progress(sys.stderr, clock, quiet=options.is_quiet) as show,
    ):
        supervisor = WorkerSupervisor(processes, together(announce, show), clock)
        listen = together(supervisor.listen, log_event)
        async with open_run(
            share.settings,
            source=options.sources,
            listen=listen,
            requests=share.requests,
            accepts_loss=options.accepts_loss,
        ) as run:
            with stop_on_signals(supervisor.stop, _say, supervisor.kill) as received:
                ended = await supervisor.execute(run, retry=options.retry)
    return ended, received.exit_status(INTERRUPTED if ended.interrupted else FAILED if ended.failed else 0)


async def _rescue(settings: Settings, options: RunOptions, status: int) -> tuple[Rescued, int]:
    """Rescue the dead links of a run's sources; return what was found, and the exit status after `status`."""
    from rehost.cli.output.findings import LineProgress
    from rehost.telemetry.log import log_event, logging_to
    from rehost.upkeep.rescue import DeadLinks
    from rehost.wiring.upkeep import open_upkeep

    stop, progress = asyncio.Event(), LineProgress(sys.stderr, Clock(), _so_far, is_quiet=options.is_quiet)
    with logging_to(sys.stderr, options.log_file, verbose=options.is_verbose):
        async with open_upkeep(settings, options.sources, log_event) as parts:
            with stop_on_signals(stop.set, _say, lambda: None) as received:
                done = await DeadLinks(parts.sources, parts.limits, parts.archive, stop, progress).rescue()
    progress.close()
    return done, received.exit_status(status)


def _so_far(done: Rescued) -> str:
    text = _("searched for the pictures of {tried} dead links, rescued {number}")
    return text.format(tried=count(done.tried), number=count(sum(done.rescued.values())))


def rescued_words(done: Rescued) -> str:
    """Return a sentence about the search for the pictures of dead links."""
    number = sum(done.rescued.values())
    if not done.tried and not done.dead:
        return _("No link is dead: nothing had to be rescued.")
    if done.run is None:
        return _("Rescued none of {tried} dead links that were due for a search; {dead} have no picture.").format(
            tried=count(done.tried), dead=count(done.dead)
        )
    text = ngettext(
        "Rescued the picture of {number} dead link in run {run}; {dead} have none still.",
        "Rescued the pictures of {number} dead links in run {run}; {dead} have none still.",
        number,
    )
    return text.format(number=count(number), run=done.run, dead=count(done.dead))


def raise_file_limit(settings: Settings, workers: int = 1) -> None:
    """Raise this process's limit of open files to what a run may need, if it is lower; child processes inherit it.

    Raises:
        OperatorError: the system does not allow that many.
    """
    decoders = settings.decode_processes or os.cpu_count() or 1
    needed = _ALWAYS + _EACH_REQUEST * settings.concurrency + _EACH_DECODER * decoders + _EACH_WORKER * (workers - 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OperatorError(
            "A run needs up to {needed} open files, but only {allowed} are allowed: raise `ulimit -Hn` or lower "
            "IMAGE_DOWNLOAD_CONCURRENCY.",
            needed=needed,
            allowed=hard,
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _say(sentence: str) -> None:
    """Print a sentence on stderr, below the progress bar if there is one."""
    say(f"\n{sentence}", err=True)


EPILOG = """\b
Examples:
  rehost run                           every due link of every table, with the settings in .env
  rehost run --source products         only those of one table in rehost.toml
  rehost run --retry all               also visit links that are waiting for a later visit
  rehost run --retry timed-out         also visit links that failed for this reason
  rehost run --rescue                  also look elsewhere for pictures whose origins have none any more
  rehost run --concurrency 20 --log-file rehost.log

Running it again does not request pictures that already have a copy. Several machines that run it with the same database
and the same store share the work. The first Ctrl-C or SIGTERM ends it cleanly within seconds, and a second one
immediately; either way, the next run continues where this one stopped.

\b
Exit status:
  0    every due link was visited and none failed
  1    the run finished, but some due links failed
  2    incorrect usage or invalid settings
  3    a problem with the database or the disk stopped the command
  130  interrupted with Ctrl-C or through the API; 143 terminated by SIGTERM
"""


def check_retry(_context: click.Context, _parameter: click.Parameter, word: str | None) -> str | None:
    """Return the word if it is a reason or `all`."""
    if word is not None and word != "all" and word not in set(Reason):
        raise click.BadParameter(
            _("{word!r} is not a reason{near}; use all, or one of: {reasons}.").format(
                word=word, near=translated(did_you_mean(word, ["all", *Reason])), reasons=", ".join(Reason)
            )
        )
    return word


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Copy every picture that is due.")
@click.option(
    "--retry",
    metavar="REASON|all",
    callback=check_retry,
    help="Also visit links that failed before and are waiting: those that failed for one reason, or all of them.",
)
@click.option(
    "--accept-loss",
    "accepts_loss",
    is_flag=True,
    help="Go on even if the store is missing, is another one, or lacks more than a tenth of its copies: their rows are "
    "cleared, and the pictures are fetched again.",
)
@click.option(
    "--rescue",
    is_flag=True,
    help="Then look elsewhere for the pictures of dead links: in copies of other rows, under http or https, and in the "
    "archive that [rescue] in rehost.toml names. Dead is a link that failed three times over six days or more.",
)
@click.option("--workers", type=click.IntRange(1, 64), metavar="N", help="Number of processes on this machine. [1]")
@source_option
@base_option
@log_file_option
@click.option(
    "--quiet",
    "-q",
    is_flag=True,
    help="Print only warnings, errors, and one line if something needs your attention.",
)
@click.option("--verbose", "-v", is_flag=True, help="Also print a line per visit on stderr.")
@json_by_source_option
@settings_flags(without=("read_through", "blocked_by", "api_host", "api_port", "allowed_hosts"))
def run(  # noqa: PLR0913 - click passes one argument per option
    *,
    retry: str | None,
    accepts_loss: bool,
    rescue: bool,
    workers: int | None,
    sources: tuple[str, ...],
    base: Path,
    log_file: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Copy every picture that is due, and write its local URL into its row.

    It handles new rows, changed links, missing files and cleared columns, with no more requests than necessary. Links
    that failed before wait for their next visit: minutes to weeks, depending on the reason.
    """
    settings = read_settings(base, settings_given)
    options = RunOptions(
        sources, retry, log_file, is_quiet=quiet or as_json, is_verbose=verbose, accepts_loss=accepts_loss
    )
    ended, status = start(settings, options, workers or 1)
    rescued = None
    if rescue and not ended.interrupted:
        rescued, status = run_loop(_rescue(settings, options, status))
        ended = with_rescued(ended, rescued.rescued)
    if as_json:
        click.echo(to_json(several(ended.sources or (ended,), lambda _sources: ended)))
    elif not quiet:
        click.echo(summary(ended, Style.of(sys.stdout), _advice(log_file)))
        if rescued is not None:
            say(rescued_words(rescued))
    elif line := attention(ended, _advice(log_file)):
        say(f"rehost: {line}", err=True)
    return status


def _advice(log_file: Path | None) -> Advice:
    """Return what to do next, under the name by which this program was called: `rehost run`, or a script's name."""
    called = click.get_current_context().command_path
    if called == USUAL_ADVICE.again or log_file is None:
        return Advice(again=called)
    return Advice(called, _("the lines `visit` and `host` in {file}").format(file=log_file))
