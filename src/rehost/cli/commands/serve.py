"""`rehost serve`: the copies over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.options import SettingsCommand, base_option, log_file_option, read_settings, settings_flags

if TYPE_CHECKING:
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost serve                               http://127.0.0.1:8000/static/images/...
  rehost serve --api-host 0.0.0.0 --api-port 8080
  rehost serve --read-through on             http://127.0.0.1:8000/image/cases/297041

\b
Exit status:
  0  ended by Ctrl-C or SIGTERM      2  usage or settings, the port is taken
"""


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Serve the copies over HTTP.")
@base_option
@log_file_option
@settings_flags("storage_dir", "static_url_prefix", "read_through", "api_host", "api_port")
def command(
    *,
    base: Path,
    log_file: Path | None,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Serve the copies over HTTP, until Ctrl-C or SIGTERM.

    Only complete copies are ever served, with their type from the bytes, ETag, ranges and the headers that keep a
    browser from taking them for anything else.
    """
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - --help needs none of it

    run_loop(_serve(read_settings(base, settings_given), log_file))
    return 0


async def _serve(settings: Settings, log_file: Path | None) -> None:
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs
    from rehost.cli.http_server import serve  # noqa: PLC0415 - as above

    await serve(wiring.build_server(settings), settings.api_host, settings.api_port, log_file)
