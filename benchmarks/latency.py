"""An origin that takes 50 to 500 ms to each answer: how near a run comes to what its pace allows.

The ideal is the sum of all answer times over the requests at a time. The origin's rule (its own Referer) and its pace
are learned beforehand, on links that are not counted.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.postgres import Postgres

from arena import catalogue, checks, hosts, peers, place, report, workload
from arena.measuring import plain
from arena.rounds import Side, compete
from arena.slow_origin import delay

LINKS, SIZE = 6141, 20_000
HOST = "pictures.bench.test"
PAGE = f"http://{HOST}/page"
WANTED = 1.05


def main() -> None:
    """Run the benchmark."""
    parser = place.options(__doc__ or "")
    parser.add_argument("--concurrency", type=int, default=10, help="requests at a time (default 10)")
    arguments = parser.parse_args()
    count, first = round(LINKS * arguments.scale), 8 * arguments.concurrency
    with place.workplace(arguments.folder, 3 * (count + first) * SIZE) as ground:
        paths = workload.make(ground / "origin", count + first, SIZE)
        with hosts.serving(ground / "origin") as server, catalogue.postgresql() as postgres:
            urls = [server.url(HOST, "whole", path) for path in paths]
            job = peers.Job(urls[first:], arguments.concurrency, None)
            sides = [ours(server, postgres, job, urls[:first], paths), curl(server, job, paths[first:])]
            compete(sides, ground, arguments.rounds)
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
    title = f"latency: {count} links, {arguments.concurrency} at a time, medians of {arguments.rounds}"
    report.publish(arguments.results, f"latency-{arguments.concurrency}", title, table, report.goals(goals))


def ours(server: hosts.Hosts, postgres: Postgres, job: peers.Job, first: Sequence[str], paths: Sequence[Path]) -> Side:
    """Return rehost's side; `first` are the links that it learns from."""
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


def curl(server: hosts.Hosts, job: peers.Job, paths: Sequence[Path]) -> Side:
    """Return curl, which is told the rule."""

    def prepare(folder: Path) -> Sequence[str]:
        options = ["--connect-to", f"{HOST}:80:127.0.0.1:{server.port}", "--referer", PAGE]
        command, *rest = peers.curl(job, folder)
        return [command, *rest, *options]

    return Side("curl, told the rule", prepare, partial(checks.same_bytes, checks.digests(paths)))


if __name__ == "__main__":
    main()
