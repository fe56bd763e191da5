"""`rehost undo`: take back what a run wrote into the table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.options import SettingsCommand, base_option, json_option, read_settings, settings_flags, source_option

if TYPE_CHECKING:
    from rehost.ledger.runs import Undone
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost status             lists the last runs with their numbers
  rehost undo 12            takes run 12 back

\b
Exit status:
  0  done      2  usage or settings      3  there is no such run, or the database cannot be written
"""


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Put the column back as it was before a run.")
@click.argument("run", type=click.IntRange(min=1), metavar="RUN")
@source_option
@base_option
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def command(
    *,
    run: int,
    source: str | None,
    base: Path,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Put the column back as it was before the run of number RUN.

    Row by row, where nobody has changed it since. The copies stay where they are; the next run points the rows at them
    again, without a request.
    """
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - --help needs none of it

    undone = run_loop(_undo(read_settings(base, settings_given), source, run))
    if as_json:
        click.echo(json.dumps(asdict(undone)))
        return 0
    left = f"{undone.left} hold something else than it wrote, and were left"
    click.echo(f"{undone.restored} rows are as they were before run {run}; {left}.")
    return 0


async def _undo(settings: Settings, source: str | None, run: int) -> Undone:
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs

    return await wiring.undo(settings, source=source, run=run)
