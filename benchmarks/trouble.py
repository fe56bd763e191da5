"""One of ten hosts is dead, 5% of the other links answer 503, and 2% never: the cost for the healthy links.

With `--busy 0 --hanging 0` the dead host is the only trouble.

The figure is the time until the last healthy link is recorded, compared with a run of only the healthy links and with
the ideal: the sum of their answer times divided by the requests in flight. The rules and paces of the hosts, except
the dead one, are learned before the timing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from tests.postgres import Postgres

from harness import catalogue, checks, options, report, slow_hosts, workload
from harness.measuring import plain
from harness.rounds import Side, run_rounds
from harness.slow_origin import delay

LINKS, SIZE = 6141, 20_000
NAMES = [f"host{number}.bench.test" for number in range(10)]
DEAD = NAMES[9]
BUSY, HANGING = 0.05, 0.02
LEARNING = 20  # links of each host
ENDED = "SELECT count(*), extract(epoch FROM max(held_at)) FROM rehost_links WHERE state = 'held'"


@dataclass
class Scenario:
    """The rows of one side, and the time of its last healthy record in each round."""

    links: Sequence[tuple[str, str, Path]]  # host, kind, picture
    postgres: Postgres
    ended: list[float] = field(default_factory=list)  # seconds since the epoch

    def healthy(self) -> list[Path]:
        """Return the pictures of the healthy links."""
        return [path for host, kind, path in self.links if kind == "whole" and host != DEAD]

    def check(self, expected: int, _folder: Path) -> str | None:
        """Record the time of the last healthy link; return an error if one is missing."""
        held, ended = self.postgres.run(ENDED, catalogue.DATABASE).split("|")
        self.ended.append(float(ended or 0))
        return None if int(held) == expected else f"{held} of {expected} healthy links are held"


def main() -> None:
    """Run the benchmark."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--concurrency", type=int, default=10, help="requests in flight (default 10)")
    parser.add_argument("--timeout", type=float, default=30.0, help="IMAGE_DOWNLOAD_TIMEOUT (default 30)")
    parser.add_argument("--busy", type=float, default=BUSY, help=f"share that answers 503 (default {BUSY})")
    parser.add_argument("--hanging", type=float, default=HANGING, help=f"share that never answers (default {HANGING})")
    arguments = parser.parse_args()
    count, first = round(LINKS * arguments.scale), LEARNING * len(NAMES)
    with options.work_folder(arguments.folder, 3 * (count + first) * SIZE) as folder:
        paths = workload.make(folder / "origin", count + first, SIZE)
        with slow_hosts.serving(folder / "origin") as server, catalogue.postgresql() as postgres:
            told = catalogue.settings(
                postgres,
                concurrency=arguments.concurrency,
                IMAGE_CONNECT_TO=server.connect_to(DEAD),
                IMAGE_DOWNLOAD_TIMEOUT=str(arguments.timeout),
            )
            learning = [(NAMES[number % 9], "whole", path) for number, path in enumerate(paths[:first])]
            links = mixed(paths[first:], arguments.busy, arguments.hanging)
            healthy = [link for link in links if link[1] == "whole" and link[0] != DEAD]
            scenarios = [Scenario(links, postgres), Scenario(healthy, postgres)]
            sides = [
                side(name, scenario, learning, server, told)
                for name, scenario in zip(("with trouble", "healthy links alone"), scenarios, strict=True)
            ]
            run_rounds(sides, folder, arguments.rounds)
    ideal = sum(delay(int(path.stem)) for path in scenarios[0].healthy()) / arguments.concurrency
    name = f"trouble-{arguments.concurrency}-{arguments.timeout:g}s"
    if (arguments.busy, arguments.hanging) != (BUSY, HANGING):
        name += f"-{arguments.busy:g}-{arguments.hanging:g}"
    publish(sides, scenarios, ideal, arguments.results, name)


def mixed(paths: Sequence[Path], busy: float, hanging: float) -> list[tuple[str, str, Path]]:
    """Return links over all hosts, some of which are busy or hang."""
    dice = Random(len(paths))
    kinds = [dice.choices(("busy", "hanging", "whole"), (busy, hanging, 1 - busy - hanging))[0] for _ in paths]
    return [(NAMES[number % 10], kind, path) for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))]


def side(
    name: str,
    scenario: Scenario,
    learning: Sequence[tuple[str, str, Path]],
    server: slow_hosts.Hosts,
    told: dict[str, str],
) -> Side:
    """Return the side of one run; the learning before it is not timed."""
    postgres = scenario.postgres
    all_healthy = [*(path for _, _, path in learning), *scenario.healthy()]

    def prepare(folder: Path) -> Sequence[str]:
        folder.mkdir()
        catalogue.fresh_table(postgres, [row(link, server) for link in learning])
        command = catalogue.run_command(folder)
        subprocess.run(command, env={**plain(os.environ), **told}, check=True)
        catalogue.add_rows(postgres, [row(link, server) for link in scenario.links], first=len(learning) + 1)
        return command

    same = partial(checks.same_bytes, checks.digests(all_healthy))
    return Side(name, prepare, checks.both(same, partial(scenario.check, len(all_healthy))), told)


def row(link: tuple[str, str, Path], server: slow_hosts.Hosts) -> tuple[str, str]:
    """Return a row: a link and the page that shows the picture."""
    host, kind, path = link
    return server.url(host, kind, path), f"http://{host}/page"


def publish(sides: Sequence[Side], scenarios: Sequence[Scenario], ideal: float, results: Path, name: str) -> None:
    """Publish the result."""
    lines, healthy = [f"| ideal of the healthy links | {ideal:.2f} | 1 | | | |"], []
    for each, scenario in zip(sides, scenarios, strict=True):
        if not each.has_figures():
            lines.append(f"| {each.name} | {each.trouble} | | | | |")
            continue
        rounds = zip(scenario.ended[-len(each.figures) :], each.figures, strict=True)
        took = statistics.median(ended - figures.began for ended, figures in rounds)
        healthy.append(took)
        lines.append(
            f"| {each.name} | {took:.2f} | {took / ideal:.3f} | {each.median('wall'):.2f} | {each.median('cpu'):.2f} |"
            f" {each.median('main') / 1e6:.0f} |"
        )
    both = len(healthy) == 2
    goals = [
        report.Goal("last healthy link / ideal", 1.15, healthy[0] / ideal if both else None),
        report.Goal(
            "last healthy link / healthy links alone (90% kept)", 1.11, healthy[0] / healthy[1] if both else None
        ),
        report.Goal("peak memory of the main process", 150, sides[0].median("main") / 1e6 if both else None, " MB"),
    ]
    head = "| run | last healthy link s | over the ideal | whole run s | CPU s | main MB |"
    title = f"trouble: {len(scenarios[0].links)} links, {len(scenarios[0].healthy())} of them healthy ({name})"
    report.publish(results, name, title, report.rows(head, lines), report.goals(goals))


if __name__ == "__main__":
    main()
