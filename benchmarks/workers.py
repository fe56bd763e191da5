"""1, 2 and 4 processes on one database: with real work, and with the work of the database alone.

The second part measures how many links one PostgreSQL leases, settles and writes back in a second without fetching.
Divided by what one machine copies in a second, that is the number of machines that one database can supply.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.postgres import Postgres

from harness import catalogue, checks, options, origin, report, workload
from harness.measuring import cpu_seconds, tree
from harness.rounds import Side, run_rounds

PICTURES, SIZE = 20_000, 10_000
LINKS, HOSTS = 100_000, 4  # without fetching
WORKERS = (1, 2, 4)
ALONE = (1, 2, 4, 8)
SETTLE_LINKS = Path(__file__).parent / "harness" / "settle_links.py"


def main() -> None:
    """Run the benchmark."""
    arguments = options.parser(__doc__ or "").parse_args()
    count, links = round(PICTURES * arguments.scale), round(LINKS * arguments.scale)
    with options.work_folder(arguments.folder, 3 * count * SIZE, 6 * count) as folder:
        paths = workload.make(folder / "origin", count, SIZE)
        size = sum(path.stat().st_size for path in paths)
        with origin.serving(folder / "origin") as server, catalogue.postgresql() as postgres:
            urls = [server.url(str(path.relative_to(folder / "origin")), tls=False) for path in paths]
            sides = [fetching(number, postgres, urls, paths) for number in WORKERS]
            run_rounds(sides, folder, arguments.rounds)
            alone = settling(postgres, links, arguments.rounds, folder)
    table = report.table(sides, pictures=count, size=size, ours=[sides[0].name])
    title = f"workers: {count} pictures of 10 KB, {links} links without fetching, medians of {arguments.rounds}"
    report.publish(arguments.results, "workers", title, table, "## The database alone", alone)


def fetching(number: int, postgres: Postgres, urls: Sequence[str], paths: Sequence[Path]) -> Side:
    """Return the side of a run with `processes` processes."""

    def prepare(folder: Path) -> Sequence[str]:
        folder.mkdir()
        catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, urls))
        return catalogue.run_command(folder, f"--workers={number}")

    same = partial(checks.same_bytes, checks.digests(paths))
    check = checks.both(same, lambda _folder: catalogue.unwritten(postgres))
    return Side(f"{number} process{'es' * (number > 1)}", prepare, check, catalogue.settings(postgres))


def settling(postgres: Postgres, links: int, rounds: int, folder: Path) -> str:
    """Return a table of what the database can do without fetching."""
    urls = [f"https://host{number % HOSTS}.bench.test/upload/{number}.jpg" for number in range(links)]
    found: dict[int, list[tuple[float, float, float]]] = {number: [] for number in ALONE}
    for turn in range(rounds + 1):
        for number in ALONE:
            catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, urls))
            environment = {**os.environ, **catalogue.settings(postgres), "IMAGE_STORAGE_DIR": f"{folder}/none"}
            subprocess.run(catalogue.RECORD, env=environment, cwd=folder, check=True)
            figures = settle(postgres, number, links)
            sys.stderr.write(f"round {turn} {number} with the database alone: {figures[0]:.0f} links/s\n")
            if turn:
                found[number].append(figures)
    lines = []
    for number, rates in found.items():
        by_second, server, workers = (statistics.median(each) for each in zip(*rates, strict=True))
        lines.append(f"| {number} | {by_second:.0f} | {server:.0f} | {workers:.0f} |")
    head = "| processes | links leased and settled/s | per CPU s of PostgreSQL | per CPU s of the processes |"
    return report.rows(head, lines)


def settle(postgres: Postgres, number: int, links: int) -> tuple[float, float, float]:
    """Settle all links; return links per second, per CPU second of PostgreSQL, and per CPU second of the processes."""
    command = [sys.executable, str(SETTLE_LINKS), postgres.url(catalogue.DATABASE)]
    assert postgres.process is not None
    server = postgres.process.pid
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            for _ in range(number)
        ]
        for each in workers:
            assert each.stdout.readline() == "ready\n"
        before = used([server]), used([each.pid for each in workers])
        for each in workers:
            each.stdin.write("\n")
        said = [json.loads(each.stdout.readline()) for each in workers]
        after = used([server]), used([each.pid for each in workers])  # the processes are still connected
    settled = sum(each["settled"] for each in said)
    left = catalogue.unwritten(postgres)
    if settled != links or left:
        raise SystemExit(f"{settled} of {links} links are settled, {left}")
    return links / max(each["seconds"] for each in said), links / (after[0] - before[0]), links / (after[1] - before[1])


def used(roots: Sequence[int]) -> float:
    """Return the CPU seconds of processes and their living children."""
    return sum(cpu_seconds(pid) for root in roots for pid in tree(root))


if __name__ == "__main__":
    main()
