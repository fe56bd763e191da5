"""How long `rehost --help` and `rehost status` take to their first output, against `python -c pass` to its end."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from arena import catalogue, place, report
from arena.measuring import plain

ROWS = 6141
STARTS = 20  # of each in a round, at full scale
SIDES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "rehost --help": [catalogue.REHOST, "--help"],
    "rehost status": [catalogue.REHOST, "status"],
}
WANTED = {"rehost --help": 0.15, "rehost status": 0.6}


def main() -> None:
    """Run the benchmark."""
    arguments = place.options(__doc__ or "").parse_args()
    took: dict[str, list[float]] = {name: [] for name in SIDES}
    with place.workplace(arguments.folder, 10**9) as ground, catalogue.postgresql() as postgres:
        urls = [f"https://host{number % 40}.bench.test/{number}.png" for number in range(ROWS)]
        catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, urls))
        environment = {**plain(os.environ), **catalogue.settings(postgres), "IMAGE_STORAGE_DIR": f"{ground}/images"}
        subprocess.run([catalogue.REHOST, "plan"], env=environment, cwd=ground, stdout=subprocess.DEVNULL, check=True)
        for number in range(arguments.rounds + 1):
            for _ in range(max(1, round(STARTS * arguments.scale))):
                for name, command in SIDES.items():
                    seconds = first_output(command, environment, ground)
                    if number:
                        took[name].append(seconds)
    medians = {name: statistics.median(each) for name, each in took.items()}
    base = medians["python -c pass"]
    lines = [
        f"| {name} | {medians[name]:.3f} ({min(each):.3f}, {max(each):.3f}) | {medians[name] - base:+.3f} |"
        for name, each in took.items()
    ]
    goals = [
        report.Goal(f"{name} over python -c pass", most, medians[name] - base, " s") for name, most in WANTED.items()
    ]
    title = f"start: medians of {len(took['rehost --help'])} starts"
    table = report.rows("| program | s (least, most) | more than python |", lines)
    report.publish(arguments.results, "start", title, table, report.goals(goals))


def first_output(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> float:
    """Return the seconds to a command's first output, or to its end where it has none."""
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        words = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if process.returncode or bool(words) == ("pass" in command):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seconds


if __name__ == "__main__":
    main()
