"""A million held copies: verify them by size and time, a sample of them by digest, and see what prune would do.

Each copy is a small file of its own, so the times are those of files and rows, not of bytes. All figures are those of
whole programs, with what the kernel has in its caches after the files were made.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.postgres import Postgres

from harness import catalogue, options, report, workload
from harness.ledger_statements import HOLD, HOSTS, POINT
from harness.measuring import Figures, last_words, measure

ROWS = 1_000_000
QUICK, SAMPLE, PRUNE = "verify --quick", "verify --sample 5%", "prune (dry)"
COMMANDS: Mapping[str, Sequence[str]] = {
    QUICK: ["verify", "--quick", "--quiet"],
    SAMPLE: ["verify", "--sample", "5%", "--quiet"],
    PRUNE: ["prune", "--quiet"],
}
WHOLE: Sequence[str] = ["verify", "--quiet"]
KNOW = (  # as a run records copies whose bytes are `body` and the row's key
    "UPDATE rehost_links SET size = length(sent.body), digest = encode(sha256(sent.body), 'hex') FROM"
    " (SELECT entry, '\\x{body}'::bytea || convert_to(row_key, 'UTF8') AS body FROM rehost_links) AS sent"
    " WHERE sent.entry = rehost_links.entry"
)


@dataclass
class Trial:
    """A store and its ledger, and what each command took in each round."""

    postgres: Postgres
    folder: Path
    environment: Mapping[str, str]
    rows: int
    commands: Mapping[str, Sequence[str]]
    took: dict[str, list[Figures]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """Return the store's folder."""
        return self.folder / "store"

    def prepare(self) -> None:
        """Make a file for each row, and record it as held."""
        urls = [f"http://host{number % HOSTS}.bench.test/{number}.png" for number in range(self.rows)]
        catalogue.fresh_table(self.postgres, catalogue.on(catalogue.PAGE, urls))
        body = workload.base("png", 1, 1000)
        for row in range(1, self.rows + 1):
            place = self.store / str(row)
            place.mkdir(parents=True)
            (place / "main_image.png").write_bytes(body + str(row).encode())
        done = measure([*catalogue.RECORD, "--base", str(self.folder)], self.store, self.environment)
        if done.status:
            sys.exit(f"record: {last_words(self.store)}")
        for statement in (HOLD, KNOW.format(body=body.hex()), POINT, "VACUUM ANALYZE"):
            self.postgres.run(statement, catalogue.DATABASE, seconds=1800)
        self.postgres.run("CHECKPOINT")

    def measure_all(self, *, counts: bool) -> None:
        """Measure each command; exit if it finds a fault, because there is none."""
        for name, words in self.commands.items():
            figures = measure([catalogue.REHOST, *words, "--base", str(self.folder)], self.store, self.environment)
            sys.stderr.write(f"{name}: {figures.wall:.2f} s\n")
            if figures.status:
                sys.exit(f"{name}: exit status {figures.status}: {last_words(self.store)}")
            if counts:
                self.took.setdefault(name, []).append(figures)


def main() -> None:
    """Run the benchmark."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--no-warm-up", action="store_true", help="let the first round count")
    parser.add_argument("--whole", action="store_true", help="also read all copies")
    arguments = parser.parse_args()
    commands = {**COMMANDS, **({"verify": WHOLE} if arguments.whole else {})}
    rows = max(100, round(ROWS * arguments.scale))
    with options.work_folder(arguments.folder, 13_000 * rows, 2 * rows) as folder, catalogue.postgresql() as postgres:
        environment = catalogue.settings(postgres, IMAGE_STORAGE_DIR=str(folder / "store"))
        trial = Trial(postgres, folder, environment, rows, commands)
        trial.prepare()
        for number in range(arguments.no_warm_up, arguments.rounds + 1):
            trial.measure_all(counts=number > 0)
        publish(trial, arguments.results, arguments.rounds)
        subprocess.run(["rm", "-rf", trial.store], check=True)


def publish(trial: Trial, results: Path, rounds: int) -> None:
    """Publish the result."""
    medians = {name: statistics.median(each.wall for each in figures) for name, figures in trial.took.items()}
    lines = []
    for name, figures in trial.took.items():
        curve = [size for _, size in figures[-1].curve if size] or [0]
        quarters = [curve[(len(curve) - 1) * quarter // 4] for quarter in (1, 2, 3, 4)]
        cpu, peak = statistics.median(each.cpu for each in figures), max(each.main for each in figures)
        cells = [f"{medians[name]:.2f}", f"{cpu:.2f}", *(f"{size / 1e6:.0f}" for size in (peak, *quarters))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    goals = [report.Goal("peak memory of the main process", 150, peak_of(trial) / 1e6, " MB")]
    if trial.rows >= ROWS:
        goals.append(report.Goal("a million copies by size and time", 300, medians[QUICK], " s"))
    report.publish(
        results,
        "upkeep",
        f"upkeep: {trial.rows} held copies, medians of {rounds}",
        report.rows("| program | wall s | CPU s | peak MB | MB at a quarter | half | three quarters | end |", lines),
        report.goals(goals),
    )


def peak_of(trial: Trial) -> int:
    """Return the peak of the largest process apart from decoders, in bytes."""
    return max(figures.main for each in trial.took.values() for figures in each)


if __name__ == "__main__":
    main()
