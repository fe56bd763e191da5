"""`rehost move-store`: moves all copies to another place, while runs go on."""

from __future__ import annotations

import asyncio
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import ReceivedSignal, run_loop, stop_on_signals
from rehost.cli.options import SettingsCommand, base_option, json_option, read_settings, settings_flags
from rehost.language import gettext as _
from rehost.model import Bucket

if TYPE_CHECKING:
    from rehost.settings import Settings
    from rehost.upkeep.move import MoveReport

LEFT = 1


@click.command(
    name="move-store",
    cls=SettingsCommand,
    short_help="Move all copies to another place, such as a bucket.",
    epilog="""\b
Examples:
  rehost move-store s3://pictures/site --dry-run  say how much would move
  rehost move-store s3://pictures/site            move it, or go on with that
  rehost move-store data/images                   move it back, done or not
  rehost move-store --delete-old                  delete the former copies

\b
Exit status:
  0    all copies are at the new place, or the move was taken back
  1    copies are missing, and no row was changed (--accept-loss goes on without them)
  2    incorrect usage or invalid settings
  3    the copies cannot be moved there, or a database or a store failed: the same command goes on later
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM: the same command goes on
""",
)
@click.argument("place", metavar="[PLACE]", required=False)
@click.option("--dry-run", is_flag=True, help="Only say how much would move.")
@click.option(
    "--accept-loss",
    "accepts_loss",
    is_flag=True,
    help="Go on without copies that are missing or damaged: the next run fetches them again.",
)
@click.option("--delete-old", is_flag=True, help="Delete the copies at the former place, after a move that has ended.")
@base_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors, and what was left.")
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def move_store(
    *,
    place: str | None,
    dry_run: bool,
    accepts_loss: bool,
    delete_old: bool,
    base: Path,
    quiet: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Move all copies to PLACE, which is a folder or s3://BUCKET/PREFIX.

    IMAGE_STORAGE_DIR still names the place where they are. First they are copied, with their digests compared, while
    runs and servers go on. Then runs are asked to end, what they have changed is copied as well, and keys and rows are
    changed, group by group. At every moment each row points at a whole copy, at one place or the other.

    The former place is left as it is, until --delete-old. Set IMAGE_STORAGE_DIR to the new one at the end: until then,
    commands refuse to work, because they would write to the former place. Nothing is pruned while a move is under way.
    """
    from rehost.cli.output.programs import to_json
    from rehost.cli.output.storage import move_text
    from rehost.cli.output.tables import Style, say

    settings = read_settings(base, settings_given)
    if (place is None) != delete_old:
        raise click.UsageError(_("Name either the place to which the copies are to move, or --delete-old."))
    target = None if place is None else _target(settings, place)
    report, received = run_loop(
        _move(settings, target, dry=dry_run, accepts_loss=accepts_loss, is_quiet=quiet or as_json)
    )
    is_left = not report.dry and report.phase not in {"ended", "abandoned", "emptied"}
    if as_json:
        click.echo(to_json(report))
    elif is_left or not quiet:
        say(move_text(report, Style.of(sys.stdout)))
    return received.exit_status(LEFT if is_left else 0)


def _target(settings: Settings, place: str) -> Path | Bucket:
    from rehost.settings.types import STORAGE

    try:
        target = STORAGE.parse(place)
    except ValueError as error:
        text = _("{place!r} is no place for copies: write a folder, or s3://BUCKET/PREFIX.")
        raise click.BadParameter(text.format(place=place)) from error
    return target if isinstance(target, Bucket) else settings.base / target


async def _move(
    settings: Settings, target: Path | Bucket | None, *, dry: bool, accepts_loss: bool, is_quiet: bool
) -> tuple[MoveReport, ReceivedSignal]:
    from rehost.cli.output.findings import LineProgress
    from rehost.cli.output.storage import moving_words
    from rehost.cli.output.tables import say
    from rehost.clock import Clock
    from rehost.wiring.upkeep import delete_former, open_mover, settle_move, survey_move

    if target is not None and dry:
        return await survey_move(settings, target), ReceivedSignal()
    if target is not None and (settled := await settle_move(settings, target)) is not None:
        return settled, ReceivedSignal()
    stop, progress = asyncio.Event(), LineProgress(sys.stderr, Clock(), moving_words, is_quiet=is_quiet)
    with stop_on_signals(stop.set, lambda words: say(f"\n{words}", err=True), lambda: None) as received:
        if target is None:
            report = await delete_former(settings, stop, progress, dry=dry)
        else:
            async with open_mover(settings, target, stop, progress) as mover:
                report = await mover.move(platform.node(), accepts_loss=accepts_loss)
    progress.close()
    return report, received
