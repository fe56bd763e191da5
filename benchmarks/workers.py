"""1, 2 and 4 processes on one database: with real work, and with the work of the database alone.

The second part measures how many links one PostgreSQL leases, settles and writes back in a second without fetching.
Divided by what one machine copies in a second, that is the number of machines that one database can supply.

`--snapshot SECONDS` measures something else: what an old snapshot (of a pg_dump, a report) costs leases and settling. A
process works on each of two databases of one server, at the same time, so that whatever else the machine does slows
both; in one of them a transaction keeps its snapshot all the while, which the other is spared.

`--s3` has the processes store in a bucket, on a SeaweedFS server on this machine, and leaves out the second part.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.postgres import Postgres
from tests.s3 import BUCKET, S3Server, running_s3

from harness import catalogue, checks, options, origin, report, workload
from harness.measuring import cpu_seconds, tree
from harness.rounds import Side, run_rounds
from harness.settle_links import PARTS

PICTURES, SIZE = 20_000, 10_000
LINKS, HOSTS = 100_000, 4  # without fetching
WORKERS = (1, 2, 4)
ALONE = (1, 2, 4, 8)
MOST_RATE, SNAPSHOT_HOSTS = 4000, 20  # links settled in a second by one of two processes, at most
DATABASES = ("bench", "bench_beside")
SETTLE_LINKS = Path(__file__).parent / "harness" / "settle_links.py"


def main() -> None:
    """Run the benchmark."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--snapshot", type=float, metavar="SECONDS", help="measure beside an old snapshot, for so long")
    parser.add_argument("--s3", action="store_true", help="measure runs that store in a bucket")
    arguments = parser.parse_args()
    if arguments.snapshot:
        beside_a_snapshot(arguments.snapshot, arguments.folder, arguments.results)
        return
    count, links = round(PICTURES * arguments.scale), round(LINKS * arguments.scale)
    with options.work_folder(arguments.folder, 3 * count * SIZE, 6 * count) as folder:
        paths = workload.make(folder / "origin", count, SIZE)
        size = sum(path.stat().st_size for path in paths)
        with origin.serving(folder / "origin") as server, catalogue.postgresql() as postgres:
            urls = [server.url(str(path.relative_to(folder / "origin")), tls=False) for path in paths]
            if arguments.s3:
                into_a_bucket(postgres, urls, paths, folder, arguments)
                return
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


def into_a_bucket(
    postgres: Postgres, urls: Sequence[str], paths: Sequence[Path], folder: Path, arguments: argparse.Namespace
) -> None:
    """Measure runs that store in a bucket, and publish the figures."""
    with running_s3() as server:
        sides = [storing_in_a_bucket(number, postgres, server, urls, paths) for number in WORKERS]
        run_rounds(sides, folder, arguments.rounds)
    size = sum(path.stat().st_size for path in paths)
    title = f"workers with a bucket: {len(paths)} pictures of 10 KB, medians of {arguments.rounds}"
    table = report.table(sides, pictures=len(paths), size=size, ours=[sides[0].name])
    report.publish(arguments.results, "workers-s3", title, table)


def storing_in_a_bucket(
    number: int, postgres: Postgres, server: S3Server, urls: Sequence[str], paths: Sequence[Path]
) -> Side:
    """Return the side of a run with `number` processes whose copies are in a bucket."""
    expected = Counter(path.stat().st_size for path in paths)
    prefixes: list[str] = []

    def prepare(folder: Path) -> Sequence[str]:
        folder.mkdir()
        prefixes.append(server.fresh_prefix())
        catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, urls))
        return [*catalogue.run_command(folder, f"--workers={number}", "--storage-dir", f"s3://{BUCKET}/{prefixes[-1]}")]

    def check(_folder: Path) -> str | None:
        found = server.objects(BUCKET, f"{prefixes[-1]}/")
        wrong = expected - Counter(size for name, size in found.items() if "/.rehost/" not in name)
        return f"{wrong.total()} of {expected.total()} pictures are missing" if wrong else None

    settings = {**catalogue.settings(postgres), **server.env()}
    checked = checks.both(check, lambda _folder: catalogue.unwritten(postgres))
    return Side(f"{number} process{'es' * (number > 1)}", prepare, checked, settings)


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


def beside_a_snapshot(seconds: float, parent: Path | None, results: Path) -> None:
    """Settle links for so long in two databases, one of which has an old snapshot, and publish the rates."""
    links = round(seconds * MOST_RATE)
    url = f"'https://host' || n % {SNAPSHOT_HOSTS} || '.bench.test/upload/' || n || '.jpg'"
    with options.work_folder(parent, 4000 * links) as folder, catalogue.postgresql() as postgres:
        for database in DATABASES:
            catalogue.fresh_table(postgres, [], database)
            catalogue.add_made_up_rows(postgres, 1, links, url, database)
            environment = {**os.environ, **catalogue.settings(postgres), "DATABASE_URL": postgres.url(database)}
            environment["IMAGE_STORAGE_DIR"] = f"{folder}/none"
            subprocess.run(catalogue.RECORD, env=environment, cwd=folder, check=True)
            postgres.run("VACUUM ANALYZE", database, seconds=3600)
        postgres.run("CHECKPOINT", seconds=1800)
        with holding_snapshot(postgres, DATABASES[1]):
            without, beside = settle_both(postgres, seconds)
    publish_rates(results, seconds, links, without, beside)


def publish_rates(results: Path, seconds: float, links: int, without: Sequence[int], beside: Sequence[int]) -> None:
    """Publish the links settled in each tenth of the time."""
    lines = [
        f"| {number} | {a * PARTS / seconds:.0f} | {b * PARTS / seconds:.0f} | {b / a if a else 0:.2f} |"
        for number, (a, b) in enumerate(zip(without, beside, strict=True), 1)
    ]
    total = sum(without), sum(beside)
    lines.append(f"| all | {total[0] / seconds:.0f} | {total[1] / seconds:.0f} | {total[1] / total[0]:.2f} |")
    report.publish(
        results,
        "workers-snapshot",
        f"workers: leases and settles a second beside a snapshot held for {seconds:.0f} s",
        "One process on each of two databases of one server at the same time; the snapshot is in one of them.",
        report.rows("| tenth of the time | links/s without | links/s beside the snapshot | ratio |", lines),
        f"Wanted: a ratio of at least 0.8. In each database {links} links of {SNAPSHOT_HOSTS} hosts were due, of which"
        f" {total[1]} were leased beside the snapshot.",
    )


def settle_both(postgres: Postgres, seconds: float) -> list[Sequence[int]]:
    """Settle links in both databases at the same time; return the numbers in each tenth of the time."""
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(SETTLE_LINKS), postgres.url(database), str(seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    bufsize=1,
                )
            )
            for database in DATABASES
        ]
        for each in workers:
            assert each.stdout.readline() == "ready\n"
        for each in workers:
            each.stdin.write("\n")
        said = [json.loads(each.stdout.readline()) for each in workers]
    if any(each["seconds"] < seconds for each in said):
        sys.stderr.write("The links were all settled before the time was over.\n")
    return [each["parts"] for each in said]


@contextmanager
def holding_snapshot(postgres: Postgres, database: str) -> Iterator[None]:
    """Keep a snapshot in a database for the block."""
    command = [postgres.psql, "-X", "-q", "-A", "-t", "-d", database]
    environment = {**os.environ, **postgres.environment}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) >= 0 FROM rehost_runs;\n")
        assert psql.stdout.readline() == "t\n"
        yield
        psql.stdin.close()


def used(roots: Sequence[int]) -> float:
    """Return the CPU seconds of processes and their living children."""
    return sum(cpu_seconds(pid) for root in roots for pid in tree(root))


if __name__ == "__main__":
    main()
