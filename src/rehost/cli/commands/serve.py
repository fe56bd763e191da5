"""`rehost serve`: the copies over HTTP."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.loop import SIGNALS, run_loop
from rehost.cli.options import SettingsCommand, base_option, log_file_option, read_settings, settings_flags
from rehost.language import gettext as _

if TYPE_CHECKING:
    from rehost.server.files.send import Application
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost serve                               http://127.0.0.1:8000/static/images/...
  rehost serve --api-host 0.0.0.0 --api-port 8080
  rehost serve --read-through on             http://127.0.0.1:8000/image/cases/297041

\b
Exit status:
  0  stopped by Ctrl-C or SIGTERM
  2  incorrect usage or invalid settings, or the port is in use
"""

PROBE_SECONDS = 0.05  # between two attempts to connect to the server that is starting


@click.command(cls=SettingsCommand, epilog=EPILOG, short_help="Serve the copies over HTTP.")
@base_option
@log_file_option
@settings_flags(
    *("storage_dir", "other_storage_dir", "bucket_serving", "static_url_prefix", "read_through", "blocked_by"),
    *("api_host", "api_port", "allowed_hosts"),
)
def serve(
    *,
    base: Path,
    log_file: Path | None,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Serve the copies over HTTP until Ctrl-C or SIGTERM.

    It serves the pictures in the folder or bucket of the copies, and nothing else there. It derives the Content-Type
    from the bytes, supports ETag and range requests, and sends headers that keep browsers from treating a copy as
    anything but a picture.
    """
    settings = read_settings(base, settings_given)
    run_loop(serve_application(build_site(settings), settings.api_host, settings.api_port, log_file))
    return 0


def require_server() -> None:
    """Import the server's packages.

    Raises:
        ModuleNotFoundError: one of them is not installed.
    """
    for module in ("granian", "rehost.wiring.server"):
        import_module(module)


def build_site(settings: Settings, at: str = "") -> Application:
    """Return the server's application, with the dashboard and the API below `at`.

    Raises:
        ModuleNotFoundError: the server's packages are not installed.
        SettingsError: the settings contradict each other.
    """
    from rehost.wiring.server import build_server

    return build_server(settings, at)


async def serve_application(application: Application, host: str, port: int, log_file: Path | None) -> None:
    """Serve an application until SIGINT or SIGTERM, which end it normally; print the address when it answers.

    Args:
        application: what to serve.
        host: address or name to listen on.
        port: port to listen on.
        log_file: gets a line for each visit that was requested through the server.

    Raises:
        ModuleNotFoundError: the server's packages are not installed.
        SettingsError: the port is in use, or the file cannot be written.
    """
    from rehost.server.listen import Listening
    from rehost.telemetry.log import logging_to

    listening = Listening(application, host, port)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, listening.stop)
    announcing = asyncio.create_task(_announce(host, port))
    try:
        with logging_to(sys.stderr, log_file, verbose=False):
            await listening.serve()
    finally:
        announcing.cancel()


async def _announce(host: str, port: int) -> None:
    """Print the server's address once it accepts connections."""
    while True:
        try:
            _reader, writer = await asyncio.open_connection(shown_host(host).strip("[]"), port)
        except OSError:
            await asyncio.sleep(PROBE_SECONDS)
            continue
        writer.close()
        address = f"http://{shown_host(host)}:{port}/"
        click.echo(_("Serving at {address} (press Ctrl-C to stop)").format(address=address), err=True)
        return


def shown_host(host: str) -> str:
    """Return a host as a browser on this machine can open it."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
