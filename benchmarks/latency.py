"""Copy from an origin that takes 50 to 500 ms for each answer, and compare with the ideal time.

The ideal is the sum of all answer times divided by the requests in flight. The origin's rule (its own Referer) and
its pace are learned before the timing, on links that do not count.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.postgres import Postgres

from harness import catalogue, checks, options, peers, report, slow_hosts, workload
from harness.measuring import plain
from harness.rounds import Side, run_rounds
from harness.slow_origin import delay

LINKS, SIZE = 6141, 20_000
HOST = "pictures.bench.test"
PAGE = f"http://{HOST}/page"
WANTED = 1.05


def main() -> None:
    """Run the benchmark."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--concurrency", type=int, default=10, help="requests in flight (default 10)")
    arguments = parser.parse_args()
    count, first = round(LINKS * arguments.scale), 8 * arguments.concurrency
    with options.work_folder(arguments.folder, 3 * (count + first) * SIZE) as folder:
        paths = workload.make(folder / "origin", count + first, SIZE)
        with slow_hosts.serving(folder / "origin") as server, catalogue.postgresql() as postgres:
            urls = [server.url(HOST, "whole", path) for path in paths]
            job = peers.Job(urls[first:], arguments.concurrency, None)
            sides = [ours(server, postgres, job, urls[:first], paths), curl(server, job, paths[first:])]
            run_rounds(sides, folder, arguments.rounds)
    ideal = sum(delay(int(path.stem)) for path in paths[first:]) / arguments.concurrency
    lines = [
        f"| {side.name} | {side.median('wall'):.2f} | {side.median('wall') / ideal:.3f} | {side.median('cpu'):.2f} |"
        f" {side.median('main') / 1e6:.0f} |"
        if side.has_figures()
        else f"| {side.name} | {side.trouble} | | | |"
        for side in sides
    ]
    table = report.rows(
        "| side | wall s | over the ideal | CPU s | main MB |", [f"| ideal | {ideal:.2f} | 1 | | |", *lines]
    )
    run = sides[0]
    goals = [
        report.Goal("wall / ideal", WANTED, run.median("wall") / ideal if run.has_figures() else None),
        report.Goal(
            "peak memory of the main process", 150, run.median("main") / 1e6 if run.has_figures() else None, " MB"
        ),
    ]
    title = f"latency: {count} links, {arguments.concurrency} in flight, medians of {arguments.rounds}"
    report.publish(arguments.results, f"latency-{arguments.concurrency}", title, table, report.goals(goals))


def ours(
    server: slow_hosts.Hosts, postgres: Postgres, job: peers.Job, first: Sequence[str], paths: Sequence[Path]
) -> Side:
    """Return the side of rehost; it learns the rule from the links in `first`."""
    told = catalogue.settings(
        postgres, concurrency=job.concurrency, IMAGE_CONNECT_TO=server.connect_to("dead.bench.test")
    )

    def prepare(folder: Path) -> Sequence[str]:
        folder.mkdir()
        catalogue.fresh_table(postgres, catalogue.on(PAGE, first))
        command = catalogue.run_command(folder)
        subprocess.run(command, env={**plain(os.environ), **told}, check=True)
        catalogue.add_rows(postgres, catalogue.on(PAGE, job.urls), first=len(first) + 1)
        return command

    same = partial(checks.same_bytes, checks.digests(paths))
    return Side("rehost", prepare, checks.both(same, lambda _folder: catalogue.unwritten(postgres)), told)


def curl(server: slow_hosts.Hosts, job: peers.Job, paths: Sequence[Path]) -> Side:
    """Return the side of curl, which gets the right Referer."""

    def prepare(folder: Path) -> Sequence[str]:
        options = ["--connect-to", f"{HOST}:80:127.0.0.1:{server.port}", "--referer", PAGE]
        command, *rest = peers.curl(job, folder)
        return [command, *rest, *options]

    return Side("curl, told the rule", prepare, partial(checks.same_bytes, checks.digests(paths)))


if __name__ == "__main__":
    main()
