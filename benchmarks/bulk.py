"""Copy the first operator's workload at full speed, compared with other bulk downloaders."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from tests.postgres import Postgres

from harness import catalogue, checks, install, options, origin, peers, report, workload
from harness.rounds import Side, run_rounds

WORKLOADS = {"400KB": (6141, 400_000), "10KB": (20_000, 10_000)}
ONE, BOTH = ("rehost, 1 process",), ("rehost, 1 process", "rehost, 2 processes")
FLOORS = ("floor: fetching alone, 1 process", "floor: fetching alone, 2 processes")
Prepare = Callable[[Path], Sequence[str]]


@dataclass(frozen=True)
class Setup:
    """One variant of the workload."""

    workload: str
    tls: bool
    verify: str
    concurrency: int

    def __str__(self) -> str:
        """Return the variant's name in result files."""
        return f"{self.workload}-{'tls' if self.tls else 'plain'}-{self.concurrency}-{self.verify}"


@dataclass(frozen=True)
class Target:
    """A target: our best median divided by a peer's."""

    ours: Sequence[str]
    theirs: str
    figure: str
    most: float
    scale: float | None = None  # only of a run of this scale


FIGURES = {
    ("400KB", False, "structure"): [
        Target(ONE, "plain script", "wall", 1.0),
        Target(ONE, "plain script", "cpu", 1.1),
        Target(BOTH, "plain script", "wall", 0.55, scale=1),
        Target(BOTH, "plain script", "wall", 0.8, scale=0.25),
        Target(ONE, "img2dataset, files as they are", "wall", 0.4),
        Target(ONE, "img2dataset, files as they are", "cpu", 0.3),
        Target(ONE, "Scrapy FilesPipeline", "wall", 0.25),
        Target(ONE, "Scrapy FilesPipeline", "cpu", 0.3),
        Target(BOTH, "aria2c", "wall", 1.1),
        Target(BOTH, "curl", "wall", 1.4, scale=1),
    ],
    ("400KB", True, "structure"): [Target(BOTH, "curl", "wall", 1.3)],
    ("10KB", False, "structure"): [
        Target(BOTH, "aria2c", "wall", 0.6),
        Target(BOTH, "plain script", "wall", 0.7),
    ],
    ("400KB", False, "decode"): [
        Target(BOTH, "Scrapy ImagesPipeline", "wall", 0.35),
        Target(BOTH, "img2dataset", "wall", 0.7),
    ],
}
MEMORY = 150  # MB, the main process


def main() -> None:
    """Run the variants that the command line selects."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--workload", choices=WORKLOADS, default="400KB")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument(
        "--concurrency", type=int, default=10, help="pictures in flight (default 10; 32 is of interest too)"
    )
    parser.add_argument("--verify", choices=("structure", "decode"), default="structure")
    parser.add_argument("--all", action="store_true", help="every variant that has targets, one result each")
    parser.add_argument("--every", action="store_true", help="every variant, one result each")
    parser.add_argument("--only", nargs="*", help="run only the sides whose names begin so")
    arguments = parser.parse_args()
    for setup in setups(arguments):
        run(setup, arguments)


def setups(arguments: argparse.Namespace) -> list[Setup]:
    """Return the selected variants."""
    if arguments.every:
        kinds = product(WORKLOADS, (False, True), ("structure", "decode"), (10, 32))
        return [Setup(*kind) for kind in kinds]
    if arguments.all:
        return [Setup(*kind, arguments.concurrency) for kind in FIGURES]
    return [Setup(arguments.workload, arguments.tls, arguments.verify, arguments.concurrency)]


def run(setup: Setup, arguments: argparse.Namespace) -> None:
    """Run one variant on all sides, and publish the result."""
    count, mean = WORKLOADS[setup.workload]
    count = round(count * arguments.scale)
    with options.work_folder(arguments.folder, 3 * count * mean, 6 * count) as folder:
        paths = workload.make(folder / "origin", count, mean)
        size = sum(path.stat().st_size for path in paths)
        with origin.serving(folder / "origin") as server, catalogue.postgresql() as postgres:
            urls = [server.url(str(path.relative_to(folder / "origin")), tls=setup.tls) for path in paths]
            job = peers.Job(urls, setup.concurrency, server.authority if setup.tls else None)
            begins = tuple(arguments.only or [""])
            sides = [side for side in ours(setup, job, postgres, paths) if side.name.startswith(begins)]
            sides += theirs(setup, job, postgres, paths, begins)
            run_rounds(sides, folder, arguments.rounds)
    title = f"bulk {setup}: {count} pictures, {size / 1e6:.0f} MB, medians of {arguments.rounds}"
    table = report.table(sides, pictures=count, size=size, ours=BOTH)
    name = f"bulk-{setup}-whole" if arguments.scale == 1 else f"bulk-{setup}"
    report.publish(arguments.results, name, title, table, report.goals(goals(setup, arguments.scale, sides)))


def goals(setup: Setup, scale: float, sides: Sequence[Side]) -> list[report.Goal]:
    """Return the targets of this variant at this scale and what was measured."""
    wanted = FIGURES.get((setup.workload, setup.tls, setup.verify), [])
    found = [
        report.Goal(
            f"{each.figure}, {'one process' if each.ours == ONE else 'best of 1 and 2 processes'} / {each.theirs}",
            each.most,
            report.ratio(sides, each.ours, each.theirs, each.figure),
        )
        for each in wanted
        if each.scale in {None, scale}
    ]
    peaks = [max(side.all("main")) / 1e6 for side in sides if side.name in BOTH and side.has_figures()]
    return [*found, report.Goal("peak memory of the main process", MEMORY, max(peaks, default=None), " MB")]


def trust(job: peers.Job) -> dict[str, str]:
    """Return the environment variables that make a side trust the CA."""
    return {"SSL_CERT_FILE": str(job.authority), "REQUESTS_CA_BUNDLE": str(job.authority)} if job.authority else {}


def ours(setup: Setup, job: peers.Job, postgres: Postgres, paths: Sequence[Path]) -> list[Side]:
    """Return the sides of rehost."""
    told = catalogue.settings(postgres, concurrency=setup.concurrency, verify=setup.verify)
    check = checks.both(
        partial(checks.same_bytes, checks.digests(paths)), lambda _folder: catalogue.unwritten(postgres)
    )

    def prepare(workers: int, folder: Path) -> Sequence[str]:
        folder.mkdir()
        catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, job.urls))
        return catalogue.run_command(folder, f"--workers={workers}")

    return [
        Side(name, partial(prepare, workers), check, {**trust(job), **told}) for workers, name in enumerate(BOTH, 1)
    ]


def theirs(
    setup: Setup, job: peers.Job, postgres: Postgres, paths: Sequence[Path], begins: tuple[str, ...]
) -> list[Side]:
    """Return the peers whose names begin so, and install them; for the decoding mode only those that decode."""
    decodes = setup.verify == "decode"
    same = partial(checks.same_bytes, checks.digests(paths))
    check = partial(checks.as_many, len(paths)) if decodes else same
    if decodes:
        images, spiders = "img2dataset", "Scrapy ImagesPipeline"
    else:
        images, spiders = "img2dataset, files as they are", "Scrapy FilesPipeline"

    def plain_script() -> Side:
        def prepare(folder: Path) -> Sequence[str]:
            catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, job.urls))
            return peers.plain_script(job, postgres.url(catalogue.DATABASE), folder)

        written = checks.both(same, lambda _folder: catalogue.unwritten(postgres))
        return Side("plain script", prepare, written)

    def program(name: str) -> Side:
        return Side(name, partial(getattr(peers, name), job), same, trouble=install.missing(name))

    def fetch_alone(name: str, processes: int) -> Side:
        return Side(name, partial(peers.fetch_alone, job, processes=processes), same, trust(job))

    def img2dataset() -> Side:
        programs, trouble = install.python_peer("img2dataset")
        prepare = partial(peers.img2dataset, programs, job, decode=decodes)
        return Side(images, prepare, check, {**trust(job), **peers.QUIET}, trouble=trouble)

    def scrapy() -> Side:
        programs, trouble = install.python_peer("scrapy", "pillow")
        return Side(spiders, partial(peers.scrapy, programs, job, decode=decodes), check, trust(job), trouble=trouble)

    made: dict[str, Callable[[], Side]] = {images: img2dataset, spiders: scrapy}
    if not decodes:
        others = {name: partial(program, name) for name in ("curl", "wget2", "aria2c")}
        floors = {name: partial(fetch_alone, name, number) for number, name in enumerate(FLOORS, 1)}
        made = {"plain script": plain_script, **others, **floors, **made}
    return [make() for name, make in made.items() if name.startswith(begins)]


if __name__ == "__main__":
    main()
