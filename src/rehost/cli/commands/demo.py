"""`rehost demo`: the whole of it on one machine, with hosts that are played."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rehost.cli.output.tables import Style, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rehost.demo.cases import Plan
    from rehost.demo.direct import Direct
    from rehost.demo.page import CasePage
    from rehost.demo.show import Demonstration, Difference
    from rehost.demo.world import World
    from rehost.settings import Settings

EPILOG = """\b
Examples:
  rehost demo                         then open http://localhost:8000/
  rehost demo --once                  end after the summary
  rehost demo --port 8080 --dir /var/tmp/demo

\b
Exit status:
  0    every link came out as planned (and, without --once, the page was shown until Ctrl-C)
  1    a link came out otherwise
  2    usage: the folder holds other things, the ports are taken
  3    the folder cannot be written
  130  interrupted while the job ran; 143 by SIGTERM
"""

HOST = "127.0.0.1"
DIFFERENT = 1
MOST_SHOWN = 20


@click.command(epilog=EPILOG, short_help="Play it all on this machine, with made-up hosts.")
@click.option("--once", is_flag=True, help="End after the summary; serve no page.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True,
              help="Port of the page; the next free one if it is taken.")  # fmt: skip
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"),
              show_default=True, help="Folder of the demonstration; it is emptied whenever one starts.")  # fmt: skip
def command(*, once: bool, port: int, folder: Path) -> int:
    """Play it all on this machine, with made-up hosts: broken pictures become whole.

    A library of 200 cases in SQLite, and hosts on loopback that treat its links as real hosts do: 403, an HTML page or
    a notice in place of the picture, dead links, slow and busy ones. First it asks for every link as a browser would
    that shows the page; then the main job runs; then a page shows both, side by side. It starts afresh every time.

    With REHOST_TOKEN in the environment its page under /rehost/ takes actions; without, it only shows.
    """
    from rehost.demo.show import Demonstration  # noqa: PLC0415 - as above
    from rehost.server.listen import free_port  # noqa: PLC0415 - --help needs none of it

    port = port if once else free_port(HOST, port)
    _say(f"A library of 200 made-up cases in {folder}/, made afresh every time.")
    demonstration = Demonstration.begin(folder)
    with demonstration.playing() as hosts_port:
        settings = demonstration.settings(hosts_port, os.environ.get("REHOST_TOKEN", ""))
        return _perform(demonstration, settings, hosts_port, port, once=once)


def _perform(demonstration: Demonstration, settings: Settings, hosts_port: int, port: int, *, once: bool) -> int:
    """Look, run, compare and show; return the exit status."""
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - --help needs none of it
    from rehost.cli.run_command import conduct  # noqa: PLC0415 - as above
    from rehost.cli.workers.partition import RunOptions  # noqa: PLC0415 - as above

    log_file = demonstration.folder / "demo.log"
    direct = demonstration.look(hosts_port, f"http://localhost:{port}/")
    _say(_direct_words(direct))
    ended, status = run_loop(conduct(settings, RunOptions(log_file=log_file)))
    _say("\n" + summary(ended, Style.of(sys.stdout), advice=None))
    if ended.interrupted:
        return status
    outcomes, rules = run_loop(_read(settings))
    differences = demonstration.differences(outcomes)
    _say("\n" + _verdict(direct, ended.total_held, differences))
    if not once:
        _show(demonstration.page(direct, outcomes, rules), demonstration.world, settings, port, log_file)
    return DIFFERENT if differences else 0


def _show(page: CasePage, world: World, settings: Settings, port: int, log_file: Path) -> None:
    """Serve the page until somebody ends it."""
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs
    from rehost.cli.http_server import serve  # noqa: PLC0415 - as above
    from rehost.cli.loop import run_loop  # noqa: PLC0415 - as above
    from rehost.demo.site import DemoSite  # noqa: PLC0415 - as above

    run_loop(serve(DemoSite(page, world, wiring.build_server(settings, at="/rehost")), HOST, port, log_file))


async def _read(settings: Settings) -> tuple[dict[int, Plan], dict[str, str]]:
    """Return where each link stands, by case id, and the Referer learned for each host."""
    from rehost import wiring  # noqa: PLC0415 - a verb imports what it needs when it runs
    from rehost.demo.cases import Plan  # noqa: PLC0415 - as above
    from rehost.ledger.standings import LinkFilter  # noqa: PLC0415 - as above

    async with wiring.open_queries(settings) as queries:
        page = await queries.links(LinkFilter(), limit=1000)  # the library is smaller than that
        rules = {rule.origin.partition("://")[2]: rule.referer for rule in await queries.rules()}
    return {int(link.row_key): Plan(link.state, link.reason) for link in page.links}, rules


def _direct_words(direct: Direct) -> str:
    from rehost.demo.direct import Sight  # noqa: PLC0415 - --help needs none of it

    seen, notices, broken = (direct.count(sight) for sight in (Sight.PICTURE, Sight.NOTICE, Sight.BROKEN))
    return (
        f"Linked directly, {seen} of {len(direct.sights)} pictures would show; "
        f"{broken} are broken, {notices} show a notice instead.\n"
    )


def _verdict(direct: Direct, held: int, differences: Sequence[Difference]) -> str:
    from rehost.demo.direct import Sight  # noqa: PLC0415 - --help needs none of it

    lines = [f"Before: {direct.count(Sight.PICTURE)} of {len(direct.sights)} pictures showed. After: {held}."]
    if not differences:
        return f"{lines[0]} Every link came out as planned."
    lines.append(f"{len(differences)} links did not come out as planned:")
    lines += [f"  {each.case_id}: planned {each.planned}; found {each.found}" for each in differences[:MOST_SHOWN]]
    return "\n".join(lines)


def _say(text: str) -> None:
    click.echo(text)
