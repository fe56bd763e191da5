"""`rehost plan`: what a run would do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.options import SettingsCommand, base_option, json_option, read_settings, settings_flags, source_option

if TYPE_CHECKING:
    from rehost.events import Planned
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost plan
  rehost plan --json | jq .due

\b
Exit status:
  0  it could be found out    2  usage or settings    3  the database or the store cannot be used
"""


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Show what a run would do, without a request.")
@source_option
@base_option
@json_option
@settings_flags("storage_dir", "static_url_prefix")
def command(
    *,
    source: str | None,
    base: Path,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Show what a run would do, without a request.

    Table, ledger and store are compared: new rows, changed links, lost files. What needs no request to be mended (a
    cleared column whose file is in place) is mended here and now, as a run would.
    """
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - --help needs none of it
    from rehost.cli.output.tables import Style, plan_table  # noqa: PLC0415 - as above

    planned = run_loop(_read(read_settings(base, settings_given), source))
    click.echo(json.dumps(asdict(planned)) if as_json else plan_table(planned, Style.of(sys.stdout)))
    return 0


async def _read(settings: Settings, source: str | None) -> Planned:
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs

    async with wiring.open_run(settings, source=source, listen=lambda _event: None) as run:
        return await run.plan()
