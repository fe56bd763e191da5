"""One run in this process: its progress, its log, and the signals that end it well."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from rehost.cli import render
from rehost.cli.signals import stopping
from rehost.events import Event, Listener, Planned, RunEnded
from rehost.settings import Settings

FAILED = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks of a run, besides the settings."""

    source: str | None = None
    retry: str | None = None
    log_file: Path | None = None
    is_quiet: bool = False
    is_verbose: bool = False


async def conduct(settings: Settings, wish: Wish) -> tuple[RunEnded, int]:
    """Run once in this process, with progress, log and signals; return the summary and the exit status."""
    from rehost import assembly  # noqa: PLC0415 - brings everything; --help needs none of it
    from rehost.clock import SystemClock  # noqa: PLC0415 - as above
    from rehost.telemetry.log import log_event, logging_to, together  # noqa: PLC0415 - as above
    from rehost.telemetry.progress import progress  # noqa: PLC0415 - as above

    with (
        logging_to(sys.stderr, wish.log_file, verbose=wish.is_verbose),
        progress(sys.stderr, SystemClock(), quiet=wish.is_quiet) as show,
    ):
        listen = together(announce(wish), show, log_event)
        async with assembly.open_run(settings, source=wish.source, listen=listen) as run:
            with stopping(run.stop, tell) as received:
                ended = await run.go(retry=wish.retry)
    return ended, received.exit_status(status_of(ended))


def status_of(ended: RunEnded) -> int:
    """Return the exit status of a run that came to its end."""
    return FAILED if ended.failed else 0


def tell(sentence: str) -> None:
    """Say a sentence on stderr, below a progress bar where there is one."""
    click.echo(f"\n{sentence}", err=True)


def announce(wish: Wish) -> Listener:
    """Return a listener that says once what there is to do."""

    def say(event: Event) -> None:
        if isinstance(event, Planned) and not wish.is_quiet:
            click.echo(render.planned_words(event), err=True)

    return say
