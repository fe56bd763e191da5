"""`rehost prune`: moves to the trash what no row needs, and empties the trash after its grace time."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import ReceivedSignal, run_loop, stop_on_signals
from rehost.cli.options import SettingsCommand, base_option, json_option, read_settings, settings_flags
from rehost.language import gettext as _

if TYPE_CHECKING:
    from rehost.settings import Settings
    from rehost.upkeep.prune import Pruned

LEFT = 1
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


def check_grace(_context: click.Context, _parameter: click.Parameter, word: str | None) -> timedelta | None:
    """Return the grace time of 0, or of a time such as 12h or 7d."""
    if word is None:
        return None
    found = re.fullmatch(r"0|([0-9]{1,5})([mhd])", word)
    if found is None:
        raise click.BadParameter(_("{word!r} is not a grace time: write 0, 30m, 12h or 7d.").format(word=word))
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]] if found[2] else 0.0)


def check_percent(_context: click.Context, _parameter: click.Parameter, word: str) -> float:
    """Return the share that a percentage such as 25% means."""
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%", word)
    if found is None or float(found[1]) > 100:  # noqa: PLR2004 - percent
        raise click.BadParameter(_("{word!r} is not a share: write 25%.").format(word=word))
    return float(found[1]) / 100


@click.command(
    cls=SettingsCommand,
    short_help="Remove what no row needs, by way of the trash.",
    epilog="""\b
Examples:
  rehost prune                         say what no row needs; remove nothing
  rehost prune --yes                   move it to the trash, and empty that of what is due
  rehost prune --yes --quiet           the same from cron, every week
  rehost prune --yes --most 25%        more than a tenth of all copies may go
  rehost prune --yes --grace 0         empty the trash at once: undo finds nothing there then

\b
Exit status:
  0    no file was left that no row needs
  1    there are such files and they were left: without --yes, or because they are too many
  2    incorrect usage or invalid settings
  3    a source cannot be read, the store is another one, a run is in progress, or a database or the disk failed
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM
""",
)
@click.option("--yes", is_flag=True, help="Move the files to the trash, and delete there what is due.")
@click.option("--dry-run", is_flag=True, help="Only say what there is. This is so without --yes.")
@click.option(
    "--grace",
    metavar="TIME",
    callback=check_grace,
    help="How long files stay in the trash: 0, 12h or 7d. [7d; 30d for those that were replaced]",
)
@click.option(
    "--most",
    metavar="N%",
    default="10%",
    callback=check_percent,
    help="Remove nothing if more than this share of all copies would go. [10%]",
)
@base_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors, and what was left.")
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def prune(
    *,
    yes: bool,
    dry_run: bool,
    grace: timedelta | None,
    most: float,
    base: Path,
    quiet: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Find the files in the store that no row needs, and with --yes move them to the trash.

    These are strays, which lie where a copy would but are no link's copy, and copies whose rows are gone. A file to
    which any row's column leads stays, and so does a stray that is not a day old. Files with other names are no copies,
    and are never touched.

    With --yes, files that have been in the trash for their grace time are deleted. Until then `rehost undo` puts back
    what was moved there. All sources are looked at, always.
    """
    from rehost.cli.output.programs import to_json
    from rehost.cli.output.storage import pruned_text
    from rehost.cli.output.tables import Style, say

    settings = read_settings(base, settings_given)
    is_dry = dry_run or not yes
    pruned, received = run_loop(_prune(settings, grace, most, dry=is_dry, is_quiet=quiet or as_json))
    left = pruned.kept + (pruned.found if pruned.dry or pruned.stopped else 0)
    if as_json:
        click.echo(to_json(pruned))
    elif left or not quiet:
        say(pruned_text(pruned, Style.of(sys.stdout), grace))
    return received.exit_status(LEFT if left else 0)


async def _prune(
    settings: Settings, grace: timedelta | None, most: float, *, dry: bool, is_quiet: bool
) -> tuple[Pruned, ReceivedSignal]:
    from rehost.cli.output.findings import LineProgress
    from rehost.cli.output.storage import files_words
    from rehost.cli.output.tables import say
    from rehost.clock import Clock
    from rehost.upkeep.prune import GRACE
    from rehost.wiring.upkeep import open_pruner

    stop, progress = asyncio.Event(), LineProgress(sys.stderr, Clock(), files_words, is_quiet=is_quiet)
    graces = GRACE if grace is None else dict.fromkeys(GRACE, grace)
    async with open_pruner(settings, stop, progress) as pruner:
        with stop_on_signals(stop.set, lambda words: say(f"\n{words}", err=True), lambda: None) as received:
            pruned = await pruner.prune(dry=dry, grace=graces, most=most)
    progress.close()
    return pruned, received
