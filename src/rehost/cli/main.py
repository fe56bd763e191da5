"""The command `rehost`: finds the verb, and turns whatever ends it into an exit status.

Nothing but click is imported here: a verb's own module comes when the verb is asked for (`rehost --help` is quick).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from rehost import __version__
from rehost.cli.streams import lasting_streams
from rehost.errors import OperatorError

INTERRUPTED = 130

VERBS = {  # verb -> what it does; its module in rehost.cli.commands has a click command of the name `command`
    "run": "Copy every picture that is wanted and not held.",
    "status": "Show what is held, what is not, and why.",
    "plan": "Show what a run would do, without a request.",
    "undo": "Put the column back as it was before a run.",
    "origins": "Show what was learned of the hosts that pictures come from.",
    "serve": "Serve the copies over HTTP.",
    "demo": "See it work on this machine, with simulated hosts.",
}

EPILOG = """\b
Exit status:
  0    every due link was visited and none of them failed
  1    the run ended; some due link was refused or deferred in it
  2    usage or settings
  3    the environment stopped it: database, disk
  130  interrupted from the keyboard; 143 by SIGTERM

\b
Examples:
  rehost demo                          see it work on this machine
  rehost plan                          what would be done
  rehost run --log-file rehost.log     do it
  rehost status                        how things stand
"""


GARBAGE = 10_000
"""Objects between two collections: at CPython's 700 they took a twentieth of a run's time, and of its start's."""

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Verbs(click.Group):
    """Imports a verb's module when it is asked for, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order in which they are met."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return the command of a verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"rehost.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings=CONTEXT,
    epilog=EPILOG,
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="rehost")
def rehost() -> None:
    """Copy every remote image that a database's rows link to onto your own storage, and keep the copies right.

    `rehost VERB --help` explains a verb, with examples.
    """


def main(argv: Sequence[str] | None = None, *, called: str | None = None) -> int:
    """Run the command line and return its exit status (house rules: 0, 1, 2, 3, 130, 143).

    Args:
        argv: the arguments, by default this process's own.
        called: how the program was called that is one verb under a name of its own; help and advice use it.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    gc.set_threshold(GARBAGE)
    with lasting_streams():
        return _main(arguments, called)


def _main(arguments: list[str], called: str | None) -> int:
    try:
        if called is None:
            status = rehost.main(args=arguments, prog_name="rehost", standalone_mode=False)
        else:
            verb: click.Command = import_module(f"rehost.cli.commands.{arguments[0]}").command
            status = verb.main(args=arguments[1:], prog_name=called, standalone_mode=False, **CONTEXT)
    except OperatorError as error:
        return _complain(str(error), error.exit_status)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _complain(message: str, status: int) -> int:
    from rehost.telemetry.sanitize import plain  # noqa: PLC0415 - only a failure needs it

    for line in message.splitlines():
        print(f"rehost: {plain(line)}", file=sys.stderr)  # noqa: T201 - the command line's own voice
    return status
