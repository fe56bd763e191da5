"""`rehost origins`: what was learned of the hosts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rehost.cli.options import base_option, json_option, read_settings, source_option

if TYPE_CHECKING:
    from rehost.cli.output.reports import OriginsReport
    from rehost.settings import Settings

EPILOG = """\b
The Referer that an origin wants is one of:
  none     no Referer at all             origin   the root of the origin itself
  site     the www page of its domain    page     the row's own page
  or an address that you have set (IMAGE_REFERER, rehost.toml)

\b
Examples:
  rehost origins
  rehost origins --json

\b
Exit status:
  0  it could be read      2  usage or settings      3  the database cannot be read
"""


@click.command(epilog=EPILOG, short_help="Show what was learned of the hosts that pictures come from.")
@source_option
@base_option
@json_option
def command(*, source: str | None, base: Path, as_json: bool) -> int:
    """Show what was learned of the hosts that pictures come from.

    For each origin the Referer that it wants and how that is known; for each host how many requests at once it bears,
    and whether it is left alone just now.
    """
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - --help needs none of it
    from rehost.cli.output.reports import to_json  # noqa: PLC0415 - as above
    from rehost.cli.output.tables import Style  # noqa: PLC0415 - as above

    origins = run_loop(_read(read_settings(base, {}), source))
    click.echo(to_json(origins) if as_json else origins.text(Style.of(sys.stdout)))
    return 0


async def _read(settings: Settings, source: str | None) -> OriginsReport:
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs
    from rehost.cli.output.reports import OriginsReport  # noqa: PLC0415 - as above

    async with wiring.open_queries(settings) as queries:
        hosts = await queries.hosts(wiring.source_of(settings, source).name)
        return OriginsReport(await queries.rules(), await queries.decoys(), hosts)
