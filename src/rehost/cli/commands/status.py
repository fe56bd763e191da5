"""`rehost status`: how things stand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rehost.cli.options import base_option, json_option, read_settings, source_option

if TYPE_CHECKING:
    from rehost.cli.output.reports import Report
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost status                     counts, reasons, hosts, the last runs
  rehost status --failed            every link without a copy as well, with what was seen
  rehost status --json              for programs

\b
Exit status:
  0  it could be read      2  usage or settings      3  the database cannot be read
"""


@click.command(epilog=EPILOG, short_help="Show what is held, what is not, and why.")
@click.option("--failed", is_flag=True, help="List the links without a copy too, a thousand at most.")
@source_option
@base_option
@json_option
def command(*, failed: bool, source: str | None, base: Path, as_json: bool) -> int:
    """Show what is held, what is not, and why. Your table is not touched and no origin is asked."""
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - --help needs none of it
    from rehost.cli.output.reports import to_json  # noqa: PLC0415 - as above
    from rehost.cli.output.tables import Style  # noqa: PLC0415 - as above

    report = run_loop(_read(read_settings(base, {}), source, failed=failed))
    click.echo(to_json(report) if as_json else report.text(Style.of(sys.stdout)))
    return 0


async def _read(settings: Settings, source: str | None, *, failed: bool) -> Report:
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs
    from rehost.cli.output.reports import read  # noqa: PLC0415 - as above

    async with wiring.open_queries(settings) as queries:
        return await read(queries, wiring.source_of(settings, source).name, failed=failed)
