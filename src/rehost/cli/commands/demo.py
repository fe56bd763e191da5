"""`rehost demo`: a whole run on this machine, against simulated hosts."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rehost.cli.commands.run import start
from rehost.cli.commands.serve import build_site, require_server, serve_application
from rehost.cli.loop import run_loop
from rehost.cli.options import RunOptions
from rehost.cli.output.reports import summary
from rehost.cli.output.tables import Style, say
from rehost.language import gettext as _
from rehost.language import ngettext, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rehost.demo.cases import Result
    from rehost.demo.demonstration import Demonstration, Difference
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost demo                         then open http://localhost:8000/
  rehost demo --once                  end after the summary
  rehost demo --port 8080 --dir /var/tmp/demo

\b
Exit status:
  0    every link had the expected result (without --once, the page was also served until Ctrl-C)
  1    at least one link had an unexpected result
  2    incorrect usage, the folder contains files that are not the demonstration's, or no free port was found
  3    the folder cannot be written to
  130  interrupted during the run with Ctrl-C; 143 terminated by SIGTERM
"""

HOST = "127.0.0.1"
DIFFERENT = 1
MOST_SHOWN = 20


@click.command(epilog=EPILOG, short_help="Run a demonstration on this machine, with simulated hosts.")
@click.option("--once", is_flag=True, help="End after the summary; serve no page.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True,
              help="Port of the page; the next free one if it is taken.")  # fmt: skip
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"),
              show_default=True, metavar="DIRECTORY",
              help="Folder of the demonstration; every start empties it.")  # fmt: skip
def demo(*, once: bool, port: int, folder: Path) -> int:
    """Run a demonstration on this machine, with simulated hosts.

    The demonstration creates a table of 200 invented cases in SQLite, and simulates the hosts that they link to on
    loopback. The hosts behave as real ones do: they answer 403, send an HTML page or a placeholder in place of the
    picture, have dead links, or are slow or busy. It first determines what a browser would display if a page embedded
    the originals, then runs rehost, and then serves a page that shows both side by side. Every start begins from
    scratch.

    If REHOST_TOKEN is set in the environment, the dashboard under /rehost/ allows actions; otherwise it is read-only.
    """
    from rehost.demo.demonstration import Demonstration
    from rehost.demo.origins import serve_origins
    from rehost.server.listen import free_port

    if not once:
        require_server()
        wanted, port = port, free_port(HOST, port)
        if port != wanted:
            say(_("Port {wanted} is taken, so the page will be at port {port}.").format(wanted=wanted, port=port))
    say(_("Creating 200 invented cases in {folder}/.").format(folder=folder))
    demonstration = Demonstration.prepare(folder)
    with serve_origins(demonstration.origins) as origins_port:
        settings = demonstration.settings(origins_port, os.environ.get("REHOST_TOKEN", ""))
        return _perform(demonstration, settings, port, once=once)


def _perform(demonstration: Demonstration, settings: Settings, port: int, *, once: bool) -> int:
    """Check the originals, run, compare and serve the page; return the exit status."""
    from rehost.demo.origins import Shown

    log_file = demonstration.folder / "demo.log"
    direct = demonstration.shown_directly(f"http://localhost:{port}/")
    counts = Counter(direct.values())
    shown, placeholders, broken = counts[Shown.PICTURE], counts[Shown.PLACEHOLDER], counts[Shown.BROKEN]
    embedded = _(
        "If a page embedded the originals, {shown} of {all} pictures would be displayed, {broken} would be broken, and "
        "{placeholders} would show a placeholder."
    )
    say(embedded.format(shown=shown, all=len(direct), broken=broken, placeholders=placeholders) + "\n")
    ended, status = start(settings, RunOptions(log_file=log_file))
    say("\n" + summary(ended, Style.of(sys.stdout), advice=None))
    if ended.interrupted:
        return status
    results, rules = run_loop(_read(settings))
    differences = demonstration.differences(results)
    compared = _("Before: {shown} of {all} pictures were displayed. After: {held}.")
    say("\n" + compared.format(shown=shown, all=len(direct), held=ended.total_held) + _verdict(differences))
    if not once:
        from rehost.demo.site import CasePage, DemoSite  # --once runs without the server's packages

        page = CasePage(demonstration.cases, direct, demonstration.local_urls(), results, rules)
        site = DemoSite(page, demonstration.origins, build_site(settings, at="/rehost"))
        run_loop(serve_application(site, HOST, port, log_file))
    return DIFFERENT if differences else 0


async def _read(settings: Settings) -> tuple[dict[int, Result], dict[str, str]]:
    """Return the ledger's state of each link by case id, and the learned Referer by host."""
    from rehost.demo.cases import Result
    from rehost.ledger.filters import LinkFilter
    from rehost.wiring.databases import open_queries

    async with open_queries(settings) as queries:
        page = await queries.links(LinkFilter(), limit=1000)  # more than there are cases
        rules = {rule.origin.partition("://")[2]: rule.referer for rule in await queries.rules()}
    return {int(link.row_key): Result(link.state, link.reason) for link in page.links}, rules


def _verdict(differences: Sequence[Difference]) -> str:
    """Return the end of the last line, and the first differences below it."""
    if not differences:
        return _(" Every link had the expected result.")
    number = len(differences)
    head = ngettext("{number} link had an unexpected result:", "{number} links had an unexpected result:", number)
    line = _("  {case}: expected {expected}; found {found}")
    lines = ["", head.format(number=number)]
    lines += [
        line.format(case=each.case_id, expected=each.expected, found=translated(each.found))
        for each in differences[:MOST_SHOWN]
    ]
    return "\n".join(lines)
