"""One run, by this process or a crew: its progress, its log, and the signals that end it well."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rehost.cli.output import tables as render
from rehost.cli.signals import stopping
from rehost.cli.workers.partition import RunOptions
from rehost.events import Event, Listener, Planned, RunEnded
from rehost.settings import Settings

if TYPE_CHECKING:
    from rehost.cli.workers.supervisor import WorkerSupervisor

FAILED = 1


async def conduct(
    settings: Settings, wish: RunOptions, *, requests: int | None = None, crew: WorkerSupervisor | None = None
) -> tuple[RunEnded, int]:
    """Run once, with progress, log and signals; return the summary and the exit status.

    Args:
        settings: all of them.
        wish: what is asked for.
        requests: how many of the command's requests this process may have in flight; None for all of them.
        crew: the other processes at this run; None for this one alone.
    """
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs
    from rehost.clock import Clock  # noqa: PLC0415 - as above
    from rehost.telemetry.log import log_event, logging_to, together  # noqa: PLC0415 - as above
    from rehost.telemetry.progress import progress  # noqa: PLC0415 - as above

    with (
        logging_to(sys.stderr, wish.log_file, verbose=wish.is_verbose),
        progress(sys.stderr, Clock(), quiet=wish.is_quiet) as show,
    ):
        watch = together(announce(wish), show)
        listen = together(watch if crew is None else crew.told_by(watch), log_event)
        async with wiring.open_run(settings, source=wish.source, listen=listen, requests=requests) as run:
            all_of_us = run if crew is None else crew.led_by(run)
            with stopping(all_of_us.stop, tell, kill=None if crew is None else crew.kill) as received:
                ended = await all_of_us.go(retry=wish.retry)
    return ended, received.exit_status(status_of(ended))


def status_of(ended: RunEnded) -> int:
    """Return the exit status of a run that came to its end."""
    return FAILED if ended.failed else 0


def tell(sentence: str) -> None:
    """Say a sentence on stderr, below a progress bar where there is one."""
    click.echo(f"\n{sentence}", err=True)


def announce(wish: RunOptions) -> Listener:
    """Return a listener that says once what there is to do."""

    def say(event: Event) -> None:
        if isinstance(event, Planned) and not wish.is_quiet:
            click.echo(render.planned_words(event), err=True)

    return say
