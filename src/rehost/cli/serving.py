"""An application on a port, until somebody ends it."""

from __future__ import annotations

import asyncio
import signal

import click

from rehost.server.listen import Application, Listening


async def serve(application: Application, host: str, port: int, path: str = "/") -> None:
    """Serve until SIGINT or SIGTERM, which is the ordinary end; say where first.

    Raises:
        SettingsError: the port is taken, or the server's packages are not installed.
    """
    listening = Listening(application, host, port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, listening.stop)
    click.echo(f"Serving at http://{shown_host(host)}:{port}{path} until Ctrl-C.", err=True)
    await listening.serve()


def shown_host(host: str) -> str:
    """Return a host as a browser on this machine takes it."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host
