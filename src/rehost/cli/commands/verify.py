"""`rehost verify`: reads the copies again, says what is wrong, and repairs it."""

from __future__ import annotations

import asyncio
import re
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
from rehost.language import gettext as _

if TYPE_CHECKING:
    from rehost.settings import Settings
    from rehost.upkeep.verify import VerifyOptions, VerifyReport

FOUND = 1

EPILOG = """\b
Examples:
  rehost verify                      read all copies, and say what is wrong
  rehost verify --repair             repair it as well
  rehost verify --key 297041         one row
  rehost verify --older-than 90d     only what was not read for 90 days
  rehost verify --quick              sizes and times: a million in minutes
  rehost verify --quick --sample 5%  and the bytes of one copy in twenty
  rehost verify --served https://www.example.com
                                     also ask the server for each copy
  rehost verify --repair --for 1h --rate 50MB/s --quiet
                                     every night, from cron

Ctrl-C and the end of --for end it cleanly: the next call goes on where this one stopped. Without --repair nothing is
changed but what rehost knows of the copies.

\b
Exit status:
  0    nothing is wrong, or everything was repaired
  1    something is wrong and was not repaired
  2    incorrect usage or invalid settings
  3    the database or the disk stopped it, or too much is lost at once
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM
"""

_BYTES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


def check_share(_context: click.Context, _parameter: click.Parameter, word: str | None) -> float | None:
    """Return the share that a percentage such as 5% means."""
    if word is None:
        return None
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", word)
    if found is None or not 0 < (percent := float(found[1])) <= 100:  # noqa: PLR2004 - percent
        raise click.BadParameter(_("{word!r} is not a share: write 5% or 0.1%.").format(word=word))
    return percent / 100


def check_rate(_context: click.Context, _parameter: click.Parameter, word: str | None) -> float | None:
    """Return the bytes per second of a rate such as 50MB/s."""
    if word is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(k|M|G|)B/s", word)
    if found is None or not (rate := float(found[1]) * _BYTES[found[2]]) > 0:
        raise click.BadParameter(_("{word!r} is not a rate: write 50MB/s or 500kB/s.").format(word=word))
    return rate


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Read the copies again, and repair what is wrong.")
@click.option("--repair", is_flag=True, help="Mend what is wrong, and clear the rows of pictures that nothing has.")
@click.option("--quick", is_flag=True, help="Look at sizes and times of modification; read only what has changed.")
@click.option("--sample", metavar="N%", callback=check_share, help="Read the bytes of that share, chosen at random.")
@click.option("--for", "seconds", metavar="TIME", callback=check_span, help="Stop after 90s, 30m, 2h or 1d.")
@click.option("--older-than", metavar="TIME", callback=check_span, help="Only copies that were not read for so long.")
@click.option(
    "--served",
    metavar="[URL]",
    is_flag=False,
    flag_value="",
    help="Also ask the server that serves the copies. [that of STATIC_URL_PREFIX, if it is a whole URL]",
)
@click.option("--rate", metavar="RATE", callback=check_rate, help="Read at most 50MB/s, or 500kB/s, from the disk.")
@click.option("--key", "row_key", metavar="ROW_KEY", help="Only the copies of the row with this key.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N copies.")
@source_option
@base_option
@log_file_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but warnings and errors, if nothing is wrong.")
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def verify(  # noqa: PLR0913 - click passes one argument per option
    *,
    repair: bool,
    quick: bool,
    sample: float | None,
    seconds: float | None,
    older_than: float | None,
    served: str | None,
    rate: float | None,
    row_key: str | None,
    limit: int | None,
    sources: tuple[str, ...],
    base: Path,
    log_file: Path | None,
    quiet: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Read the copies again, say what is wrong with them and with their rows, and repair it.

    A copy's bytes must have the digest that they had when it was stored, and its row must point at it. With --repair, a
    picture that is damaged or missing comes from another copy with the same bytes, from the trash, from its origin, or
    from elsewhere; if nothing has it any more, its row is cleared, so that readers get the original link. Damaged files
    go to the trash. `rehost undo` takes back what was written into rows.
    """
    from rehost.cli.commands.run import raise_file_limit
    from rehost.cli.output.findings import verify_text
    from rehost.cli.output.programs import to_json
    from rehost.cli.output.tables import Style, say
    from rehost.upkeep.verify import VerifyOptions

    settings = read_settings(base, settings_given)
    raise_file_limit(settings)
    options = VerifyOptions(sources, repair, quick, sample, seconds, older_than, rate, row_key, limit)
    report, received = run_loop(_verify(settings, options, served, log_file, is_quiet=quiet or as_json))
    if as_json:
        click.echo(to_json(report))
    elif not quiet or not report.is_well:
        say(verify_text(report, Style.of(sys.stdout), is_repair=repair))
    return received.exit_status(0 if report.is_well else FOUND)


async def _verify(
    settings: Settings, options: VerifyOptions, served: str | None, log_file: Path | None, *, is_quiet: bool
) -> tuple[VerifyReport, ReceivedSignal]:
    from rehost.cli.output.findings import LineProgress, verified_words
    from rehost.cli.output.tables import say
    from rehost.clock import Clock
    from rehost.telemetry.log import log_event, logging_to
    from rehost.wiring.verification import open_verification

    stop, progress = asyncio.Event(), LineProgress(sys.stderr, Clock(), verified_words, is_quiet=is_quiet)
    with logging_to(sys.stderr, log_file, verbose=False):
        async with open_verification(
            settings, options, stop, served=served, tell=progress, listen=log_event
        ) as verification:
            with stop_on_signals(stop.set, lambda words: say(f"\n{words}", err=True), lambda: None) as received:
                report = await verification.verify()
    progress.close()
    return report, received
