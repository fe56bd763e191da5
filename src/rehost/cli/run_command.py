"""One run, by one process or several: its limits, progress, log, signals and exit status."""

from __future__ import annotations

import os
import resource
import sys
from typing import TYPE_CHECKING

import click

from rehost.cli.loop import run_loop, stop_on_signals
from rehost.cli.options import RunOptions
from rehost.cli.output.reports import planned_words
from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.events import Event, Planned, RunEnded
from rehost.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rehost.cli.workers import Worker, WorkerShare

FAILED = 1

# Open files that a run needs.
_ALWAYS = 64  # Python, event loop, database, store
_EACH_REQUEST = 3  # socket, spool, DNS
_EACH_DECODER = 3  # its pipes while it starts
_EACH_WORKER = 3  # its socket, and the pipe that shows when it has ended


def start(settings: Settings, options: RunOptions, workers: int = 1) -> tuple[RunEnded, int]:
    """Run with so many processes; return the summary and the exit status.

    Raises:
        OperatorError: the environment stopped the run, or too few files or processes are allowed.
    """
    raise_file_limit(settings, workers)
    from rehost.cli.workers import forked, shares

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

    def announce(event: Event) -> None:
        if isinstance(event, Planned) and not options.is_quiet:
            click.echo(planned_words(event), err=True)

    with (
        logging_to(sys.stderr, options.log_file, verbose=options.is_verbose),
        progress(sys.stderr, clock, quiet=options.is_quiet) as show,
    ):
        supervisor = WorkerSupervisor(processes, together(announce, show), clock)
        listen = together(supervisor.listen, log_event)
        async with open_run(share.settings, source=options.source, listen=listen, requests=share.requests) as run:
            with stop_on_signals(supervisor.stop, _say, supervisor.kill) as received:
                ended = await supervisor.execute(run, retry=options.retry)
    return ended, received.exit_status(FAILED if ended.failed else 0)


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
            f"A run needs up to {needed} open files, but only {hard} are allowed: raise `ulimit -Hn` or lower "
            "IMAGE_DOWNLOAD_CONCURRENCY."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _say(sentence: str) -> None:
    """Print a sentence on stderr, below the progress bar if there is one."""
    click.echo(f"\n{sentence}", err=True)
