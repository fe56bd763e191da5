"""A million rows: record them, continue a stopped run, find changes, and have nothing to do.

First with whole programs and their memory over time, then each statement of the ledger. Rows that are not held wait
for a later run, as refused links do. `--files` adds a run with a copy for each row, `--scale 10` makes it ten million.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.postgres import Postgres

from harness import catalogue, checks, options, origin, report, workload
from harness.ledger_statements import HOLD, HOSTS, POINT
from harness.measuring import Figures, last_words, measure, plain

ROWS, FEW = 1_000_000, 6141
RESUMED, SIZE = 20_000, 10_000  # pictures left for the continued run
LINKS_OF_A_FILE = 60_000  # ext4 takes 65,000
WAIT = (
    "UPDATE rehost_links SET state = 'refused', reason = 'gone', attempts = 1, due_at = now() + interval '14 days'"
    " WHERE row_key::integer > {first}"
)
FEW_WORDS, MANY_WORDS, FILES_WORDS = "few rows, nothing to do", "nothing to do", "nothing to do, all files listed"


@dataclass
class Trial:
    """All steps, in each round."""

    postgres: Postgres
    folder: Path
    environment: dict[str, str]
    rows: int
    urls: Sequence[str]  # of the pictures, which the first rows have; the others' links lead nowhere
    pictures: Sequence[Path]
    steps: dict[str, list[Figures]] = field(default_factory=dict)
    parts: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def step(self, name: str, verb: str, store: Path, expected: str, *, counts: bool) -> None:
        """Measure one program; exit if the database is not as expected afterwards."""
        self.postgres.run("CHECKPOINT", seconds=1800)
        store.mkdir(exist_ok=True)
        program = catalogue.RECORD if verb == "record" else (catalogue.REHOST, verb)
        command = [*program, "--base", str(self.folder)]
        figures = measure(command, store, {**self.environment, "IMAGE_STORAGE_DIR": str(store)})
        sys.stderr.write(f"{name}: {figures.wall:.2f} s\n")
        found = self.sql("SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM"
                         " (SELECT state, count(*) AS n FROM rehost_links GROUP BY state) AS states")  # fmt: skip
        if figures.status or found != expected:
            sys.exit(f"{name}: {found}, expected {expected}; exit status {figures.status}: {last_words(store)}")
        if counts:
            self.steps.setdefault(name, []).append(figures)

    def sql(self, statement: str) -> str:
        """Run SQL on the benchmark's database."""
        return self.postgres.run(statement, catalogue.DATABASE, seconds=3600)

    def fill(self, rows: int) -> None:
        """Create the database again with so many rows."""
        urls = self.urls[:rows]
        catalogue.fresh_table(self.postgres, catalogue.on(catalogue.PAGE, urls))
        url = f"'http://host' || n % {HOSTS} || '.bench.test/none/' || n || '.jpg'"
        catalogue.add_made_up_rows(self.postgres, len(urls) + 1, rows, url)

    def hold_all(self) -> None:
        """Mark every link as held, as a long first run leaves it."""
        self.sql(HOLD)
        self.sql(POINT)
        self.sql("VACUUM ANALYZE")  # autovacuum does this in time

    def few(self, *, counts: bool) -> None:
        """Run over a few rows with nothing to do."""
        few = min(FEW, self.rows)
        self.fill(few)
        store = tree(self.folder / "few", few)
        environment = {**plain(os.environ), **self.environment, "IMAGE_STORAGE_DIR": str(store)}
        subprocess.run(catalogue.RECORD, env=environment, cwd=self.folder, check=True)
        self.hold_all()
        self.step(FEW_WORDS, "run", store, f"held {few}", counts=counts)

    def many(self, *, counts: bool) -> None:
        """Record all rows, continue with some, find changes, and have nothing to do."""
        rows, some = self.rows, len(self.pictures)
        store = self.folder / "store"
        self.fill(rows)
        self.step("record all rows (the plan of a run)", "record", store, f"wanted {rows}", counts=counts)
        self.sql(WAIT.format(first=some))
        self.sql("VACUUM ANALYZE")
        after = f"held {some}, refused {rows - some}"
        self.step(f"continue with the last {some} of them", "run", store, after, counts=counts)
        if wrong := checks.same_bytes(checks.digests(self.pictures), store):
            sys.exit(wrong)
        self.step(MANY_WORDS, "run", store, after, counts=counts)
        chosen = f"case_id <= {some} AND case_id % {some // 100} = 0"
        self.sql(f"UPDATE ad_cases SET main_image = main_image || '?2' WHERE {chosen}")
        self.step("find and fetch 100 changed links", "run", store, after, counts=counts)

    def files(self, *, counts: bool) -> None:
        """Run over all copies with nothing to do."""
        self.sql("UPDATE rehost_links SET due_at = 'infinity', reason = NULL")
        self.hold_all()
        rows = self.rows
        store = tree(self.folder / "all", rows)
        shutil.copytree(self.folder / "store/.rehost", store / ".rehost", dirs_exist_ok=True)  # the store that is known
        self.step(FILES_WORDS, "run", store, f"held {rows}", counts=counts)

    def one_by_one(self, *, counts: bool) -> None:
        """Measure each statement of the ledger."""
        self.postgres.drop_database(catalogue.DATABASE)
        self.postgres.create_database(catalogue.DATABASE)
        program = Path(__file__).parent / "harness" / "ledger_statements.py"
        command = [sys.executable, program, self.postgres.url(catalogue.DATABASE), str(self.rows)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        for name, seconds, peak in json.loads(done.stdout) if counts else []:
            self.parts.setdefault(name, []).append((seconds, peak))


def main() -> None:
    """Run the benchmark."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--files", action="store_true", help="also create a folder and a file for each row")
    parser.add_argument("--no-warm-up", action="store_true", help="let the first round count")
    parser.add_argument("--only-programs", action="store_true", help="do not measure each statement of the ledger")
    arguments = parser.parse_args()
    rows, some = round(ROWS * arguments.scale), max(100, round(RESUMED * min(1.0, arguments.scale)))
    folders = FEW + (rows if arguments.files else 0)
    size = 4 * some * SIZE + 5000 * folders + 3000 * rows
    with options.work_folder(arguments.folder, size, 2 * folders + 4 * some) as folder:
        pictures = workload.make(folder / "origin", some, SIZE)
        names = [str(path.relative_to(folder / "origin")) for path in pictures]
        urls = [f"http://host{number % HOSTS}.bench.test/{name}" for number, name in enumerate(names)]
        with origin.serving(folder / "origin") as server, catalogue.postgresql() as postgres:
            environment = catalogue.settings(postgres, IMAGE_CONNECT_TO=f"*:80:{origin.HOST}:{server.plain_port}")
            trial = Trial(postgres, folder, environment, rows, urls, pictures)
            for number in range(arguments.no_warm_up, arguments.rounds + 1):
                run_steps(trial, arguments, counts=number > 0)
    publish(trial, arguments)


def run_steps(trial: Trial, arguments: argparse.Namespace, *, counts: bool) -> None:
    """Run all steps once."""
    trial.few(counts=counts)
    trial.many(counts=counts)
    if arguments.files:
        trial.files(counts=counts)
    if not arguments.only_programs:
        trial.one_by_one(counts=counts)
    subprocess.run(["rm", "-rf", trial.folder / "store"], check=True)


def tree(root: Path, number: int) -> Path:
    """Return a store with a copy for each of `rows` rows, created if missing: many hard links to few files."""
    if root.exists():
        return root
    root.mkdir()
    body = workload.base("png", 1, 1000)
    for row in range(1, number + 1):
        first = root / str(row - (row - 1) % LINKS_OF_A_FILE) / "main_image.png"
        folder = root / str(row)
        folder.mkdir()
        if folder == first.parent:
            first.write_bytes(body)
        else:
            os.link(first, folder / "main_image.png")
    return root


def publish(trial: Trial, arguments: argparse.Namespace) -> None:
    """Publish the result."""
    rows = trial.rows
    whole = [f"| {name} | {' | '.join(cells(figures))} |" for name, figures in trial.steps.items()]
    head = "| program | wall s | CPU s | peak MB | MB at a quarter of its time | half | three quarters | end |"
    one_by_one = [
        f"| {name} | {statistics.median(took for took, _ in each):.2f} | {max(peak for _, peak in each) / 1e6:.0f} |"
        for name, each in trial.parts.items()
    ]
    medians = {name: statistics.median(each.wall for each in figures) for name, figures in trial.steps.items()}
    goals = [report.Goal(f"{FEW} rows, nothing to do", 1.5, medians[FEW_WORDS], " s")]
    if rows == ROWS:
        goals += [report.Goal("a million rows, nothing to do", 3.56, medians[MANY_WORDS], " s")]
        goals += [report.Goal("the same, all files listed", 60, medians.get(FILES_WORDS), " s")]
    peak = max(figures.main for each in trial.steps.values() for figures in each)
    goals.append(report.Goal("peak memory of the main process", 150, peak / 1e6, " MB"))
    report.publish(
        arguments.results,
        "million" if rows <= ROWS else f"million-{rows // ROWS}",
        f"million: {rows} rows, medians of {arguments.rounds}",
        report.rows(head, whole),
        report.goals(goals),
        *(
            ["## The ledger's statements", report.rows("| statement | s | peak MB so far |", one_by_one)]
            * bool(one_by_one)
        ),
    )


def cells(figures: Sequence[Figures]) -> list[str]:
    """Return the medians of one step, and the memory over time in its last round."""
    wall, cpu = (statistics.median(getattr(each, name) for each in figures) for name in ("wall", "cpu"))
    curve = [size for _, size in figures[-1].curve if size] or [0]
    quarters = [curve[(len(curve) - 1) * quarter // 4] for quarter in (1, 2, 3, 4)]
    peak = max(each.main for each in figures)
    return [f"{wall:.2f}", f"{cpu:.2f}", *(f"{size / 1e6:.0f}" for size in (peak, *quarters))]


if __name__ == "__main__":
    main()
