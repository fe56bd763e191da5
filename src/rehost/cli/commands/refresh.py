"""`rehost refresh`: asks again for held pictures, and takes those that have changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rehost.cli.commands.run import raise_file_limit
from rehost.cli.loop import run_loop, stop_on_signals
from rehost.cli.options import (
    DAY_SECONDS,
    SettingsCommand,
    base_option,
    check_span,
    hosts_of,
    json_option,
    log_file_option,
    read_settings,
    settings_flags,
    source_option,
)
from rehost.cli.output.origins import planned_refresh, refresh_line, refreshed_text
from rehost.cli.output.programs import to_json
from rehost.cli.output.tables import Style, say
from rehost.clock import Clock

if TYPE_CHECKING:
    from rehost.ledger.freezes import RefreshFilter
    from rehost.settings import Settings
    from rehost.upkeep.refresh import Refreshed

USUAL_DAYS = 30
FROZEN = 1


@click.command(
    cls=SettingsCommand,
    short_help="Ask again for held pictures, and take those that have changed.",
    epilog="""\b
Examples:
  rehost refresh                   every link that was not asked for 30 days
  rehost refresh --for 1h --quiet  for cron: the oldest first
  rehost refresh --origin img.example.com --older-than 7d
  rehost refresh --key 4711        one row, now
  rehost refresh --dry-run         only count

\b
Exit status:
  0    done; or there was nothing to do
  1    an origin is frozen, and waits for your decision
  2    incorrect usage or invalid settings
  3    a problem with the database or the disk stopped the command
  130  interrupted with Ctrl-C; 143 terminated by SIGTERM
""",
)
@click.option(
    "--older-than",
    "older_seconds",
    metavar="TIME",
    callback=check_span,
    help="Ask for links that were not asked for so long: 90s, 30m, 2h or 30d. [30d; with --key, any time]",
)
@click.option("--for", "seconds", metavar="TIME", callback=check_span, help="Stop after this time: 20s, 30m or 1h.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Ask for so many links at most.")
@click.option("--origin", "origins", metavar="HOST", multiple=True, help="Ask this host only; can be repeated.")
@click.option("--key", "keys", metavar="KEY", multiple=True, help="Only the row with this key; can be repeated.")
@click.option("--dry-run", is_flag=True, help="Show how many links would be asked; ask none, and change nothing.")
@source_option
@base_option
@log_file_option
@click.option("--quiet", "-q", is_flag=True, help="Print only errors, and one line if an origin is frozen.")
@json_option
@settings_flags("storage_dir", "concurrency", "timeout_seconds", "static_url_prefix")
def refresh(  # noqa: PLR0913 - click passes one argument per option
    *,
    older_seconds: float | None,
    seconds: float | None,
    limit: int | None,
    origins: tuple[str, ...],
    keys: tuple[str, ...],
    dry_run: bool,
    sources: tuple[str, ...],
    base: Path,
    log_file: Path | None,
    quiet: bool,
    as_json: bool,
    **settings_given: Any,  # noqa: ANN401 - click passes one argument per setting
) -> int:
    """Ask origins again for pictures that are held, and take those that have changed.

    A request says which version is held, so that an unchanged picture costs no transfer. A changed one is verified and
    replaces the copy, which lies in the trash for 30 days. Nothing is made worse: an error, a page, a placeholder
    leave the copy as it is.

    An origin freezes if more than 5% of its answers would make copies worse: pictures of less than half the size, the
    same picture for different links, or no picture. Then nothing of it is replaced, what was is put back, and
    `rehost origins` takes your decision.
    """
    from rehost.ledger.freezes import RefreshFilter

    settings = read_settings(base, settings_given)
    if older_seconds is None:
        older_seconds = 0.0 if keys else USUAL_DAYS * DAY_SECONDS
    which = RefreshFilter(older_seconds, hosts_of("--origin", origins), keys)
    style = Style.of(sys.stdout)
    if dry_run:
        due = run_loop(_plan(settings, sources, which))
        click.echo(to_json({"due": sum(due.values()), "hosts": due}) if as_json else planned_refresh(due, style))
        return 0
    raise_file_limit(settings)
    work = _refresh(settings, sources, which, seconds, limit, log_file, quiet=quiet or as_json)
    refreshed, status = run_loop(work)
    if as_json:
        click.echo(to_json(refreshed))
    elif not quiet:
        click.echo(refreshed_text(refreshed, style))
    elif line := refresh_line(refreshed):
        say(f"rehost: {line}", err=True)
    return status


async def _plan(settings: Settings, sources: tuple[str, ...], which: RefreshFilter) -> dict[str, int]:
    from collections import Counter

    from rehost.ledger.freezes import Freezes
    from rehost.wiring.databases import open_queries, sources_of

    total: Counter[str] = Counter()
    async with open_queries(settings) as queries:
        freezes = Freezes(queries.database)
        standing = await freezes.standing()
        for source in sources_of(settings, sources):
            total.update(await freezes.count(source.name, which, standing))
    return dict(total.most_common())


async def _refresh(
    settings: Settings,
    sources: tuple[str, ...],
    which: RefreshFilter,
    seconds: float | None,
    most: int | None,
    log_file: Path | None,
    *,
    quiet: bool,
) -> tuple[Refreshed, int]:
    from rehost.telemetry.log import log_event, logging_to, together
    from rehost.telemetry.progress import progress
    from rehost.upkeep.refresh import Refresh
    from rehost.wiring.upkeep import open_upkeep

    with logging_to(sys.stderr, log_file, verbose=False), progress(sys.stderr, Clock(), quiet=quiet) as show:
        async with open_upkeep(settings, sources, together(show, log_event)) as parts:
            work = Refresh(parts.sources, parts.limits, parts.clock, parts.listen)
            with stop_on_signals(work.stop, _say, lambda: None) as received:
                refreshed = await work.execute(which, seconds=seconds, most=most)
    return refreshed, received.exit_status(FROZEN if refreshed.frozen else 0)


def _say(sentence: str) -> None:
    """Print a sentence on stderr, below the progress bar if there is one."""
    say(f"\n{sentence}", err=True)
