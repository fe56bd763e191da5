"""The command `rehost`: finds the command, and turns its end into an exit status.

This module imports no library but click; a command's module is imported when that command is called, so that
`rehost --help` is fast.
"""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from rehost import __version__
from rehost.cli.help import translated_command, translating_click
from rehost.cli.streams import tolerant_streams
from rehost.errors import OperatorError, missing_extra
from rehost.language import gettext as _

INTERRUPTED = 130

VERBS = {
    "run": "Copy every picture that is due.",
    "status": "Show which links have a copy, which do not, and why.",
    "why": "Tell the whole story of one picture, and what helps.",
    "plan": "Show what a run would request and repair; change nothing.",
    "undo": "Restore rows and copies to what they were before a run.",
    "forget": "Take pictures down for good, or allow them again.",
    "origins": "Show what rehost has learned about the hosts; pause, resume or forget one.",
    "refresh": "Ask again for held pictures, and take those that have changed.",
    "verify": "Read the copies again, and repair what is wrong.",
    "upkeep": "Do what is due of all upkeep: verify, refresh, rescue, prune.",
    "usage": "Show what the copies take up, in the ledger and on the disk.",
    "prune": "Remove what no row needs, by way of the trash.",
    "move-store": "Move all copies to another place, such as a bucket.",
    "serve": "Serve the copies over HTTP.",
    "demo": "Run a demonstration on this machine, with simulated hosts.",
}
"""Each command and what it does."""

_QUERIES = ("status", "plan", "undo", "origins", "usage")  # in commands/queries.py; each other one has its module

EPILOG = """\b
Exit status:
  0    every due link was visited and none failed
  1    the run finished, but some due links failed
  2    incorrect usage or invalid settings
  3    a problem with the database or the disk stopped the command
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM

\b
Examples:
  rehost demo                          run the demonstration
  rehost plan                          show what a run would do
  rehost run --log-file rehost.log     run, with a log
  rehost status                        show the state of all links
"""


GC_THRESHOLD = 10_000
"""New objects between two garbage collections: with CPython's 700, collecting took 5% of a run and of its start."""

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def find_command(verb: str) -> click.Command:
    """Return the command of this name, importing its module."""
    name = verb.replace("-", "_")
    module = import_module(f"rehost.cli.commands.{'queries' if verb in _QUERIES else name}")
    command: click.Command = getattr(module, name)
    return command


class Verbs(click.Group):
    """Imports a command's module only when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order in which a user needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return the command of this name."""
        return translated_command(find_command(cmd_name)) if cmd_name in VERBS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the verbs without importing them."""
        with formatter.section(_("Commands")):
            formatter.write_dl([(verb, _(text)) for verb, text in VERBS.items()])


@click.group(cls=Verbs, context_settings=CONTEXT, epilog=EPILOG, no_args_is_help=True)
@click.version_option(__version__, prog_name="rehost")
def rehost() -> None:
    """Copy the pictures linked from your database into your own storage, and keep copies and rows consistent.

    `rehost COMMAND --help` explains a command and gives examples.
    """


rehost.commands.update(dict.fromkeys(VERBS, rehost))  # click suggests the nearest of these names


def main(argv: Sequence[str] | None = None, *, called: str | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2, 3, 130 or 143 (`rehost --help` explains them).

    Args:
        argv: the arguments; by default those of this process.
        called: for a program that is a single command under its own name: that name, for help and advice.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    gc.set_threshold(GC_THRESHOLD)
    gc.disable()  # until the loop has begun: importing leaves nothing to collect, and searching for it took 30 ms
    try:
        with tolerant_streams(), translating_click():
            return _main(arguments, called)
    finally:
        gc.enable()


def _call(arguments: list[str], called: str | None) -> object:
    """Call the command, and return what it returns.

    Raises:
        SettingsError: its packages are not installed.
    """
    try:
        if called is None:
            return translated_command(rehost).main(args=arguments, prog_name="rehost", standalone_mode=False)
        verb = translated_command(find_command(arguments[0]))
        return verb.main(args=arguments[1:], prog_name=called, standalone_mode=False, **CONTEXT)
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from error


def _main(arguments: list[str], called: str | None) -> int:
    try:
        status = _call(arguments, called)
    except OperatorError as error:
        from rehost.cli.output.tables import say
        from rehost.telemetry.format import plain

        for line in error.translated().split("\n"):
            say(f"rehost: {plain(line)}", err=True)
        return error.exit_status
    except click.ClickException as error:
        from rehost.cli.output.tables import say

        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return status if isinstance(status, int) else 0
