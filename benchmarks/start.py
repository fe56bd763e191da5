"""Time until the first output of `rehost --help` and `rehost status`, compared with a whole `python -c pass`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import catalogue, options, report
from harness.measuring import plain

ROWS = 6141
STARTS = 20  # starts of each in a round, at full scale
BARE = """
import asyncio, os
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

async def main():
    engine = create_async_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:", 1))
    async with engine.connect() as connection:
        print((await connection.execute(text("SELECT count(*) FROM rehost_links"))).scalar())
    await engine.dispose()

asyncio.run(main())
"""
SIDES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "floor: one SELECT by SQLAlchemy and asyncpg": [sys.executable, "-c", BARE],
    "rehost --help": [catalogue.REHOST, "--help"],
    "rehost status": [catalogue.REHOST, "status"],
}
WANTED = {"rehost --help": 0.15, "rehost status": 0.35}


def main() -> None:
    """Run the benchmark."""
    arguments = options.parser(__doc__ or "").parse_args()
    took: dict[str, list[float]] = {name: [] for name in SIDES}
    with options.work_folder(arguments.folder, 10**9) as folder, catalogue.postgresql() as postgres:
        urls = [f"https://host{number % 40}.bench.test/{number}.png" for number in range(ROWS)]
        catalogue.fresh_table(postgres, catalogue.on(catalogue.PAGE, urls))
        environment = {**plain(os.environ), **catalogue.settings(postgres), "IMAGE_STORAGE_DIR": f"{folder}/images"}
        subprocess.run(catalogue.RECORD, env=environment, cwd=folder, stdout=subprocess.DEVNULL, check=True)
        for number in range(arguments.rounds + 1):
            for _ in range(max(1, round(STARTS * arguments.scale))):
                for name, command in SIDES.items():
                    seconds = first_output(command, environment, folder)
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
    """Return the seconds until a command's first output, or until its end if it has none."""
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        words = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if process.returncode or bool(words) == (command[-1] == "pass"):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return seconds


if __name__ == "__main__":
    main()
