"""An application on a port, until somebody ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from rehost.server.files.send import Application
from rehost.server.listen import Listening
from rehost.telemetry.log import logging_to

CONNECT_SECONDS = 0.05  # between two looks whether the server answers yet


async def serve(application: Application, host: str, port: int, log_file: Path | None) -> None:
    """Serve until SIGINT or SIGTERM, which is the ordinary end; say where first.

    Args:
        application: what is served.
        host: an address, or a name of one.
        port: of it.
        log_file: takes a line for each visit that somebody who looks at it starts.

    Raises:
        SettingsError: the port is taken, the file cannot be written, or the server's packages are not installed.
    """
    listening = Listening(application, host, port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, listening.stop)
    saying = asyncio.create_task(_say(host, port))
    try:
        with logging_to(sys.stderr, log_file, verbose=False):
            await listening.serve()
    finally:
        saying.cancel()


async def _say(host: str, port: int) -> None:
    """Say where it is served, once somebody answers there."""
    while True:
        try:
            _, writer = await asyncio.open_connection(shown_host(host).strip("[]"), port)
        except OSError:
            await asyncio.sleep(CONNECT_SECONDS)
            continue
        writer.close()
        click.echo(f"Serving at http://{shown_host(host)}:{port}/ until Ctrl-C.", err=True)
        return


def shown_host(host: str) -> str:
    """Return a host as a browser on this machine takes it."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
