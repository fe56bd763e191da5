"""Where sides meet: rounds in turns, whole processes measured by the operating system, a table of medians."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class Figures:
    """One process and its children, from start to end."""

    wall: float  # seconds
    cpu: float  # seconds, user and system
    memory: int  # bytes, the largest single process


@dataclass
class Side:
    """One way to do the work.

    `prepare` makes a fresh start, untimed, and returns the command; `check` returns what is wrong with what it did.
    """

    name: str
    prepare: Callable[[Path], Sequence[str]]
    check: Callable[[Path], str | None]
    environment: dict[str, str] = field(default_factory=dict)
    figures: list[Figures] = field(default_factory=list)
    trouble: str | None = None


def measure(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Figures:
    """Run a command, then `sync -f` on its folder, and return what both took."""
    place = shlex.quote(str(folder))
    line = f"{shlex.join(command)} >{place}.log 2>&1; status=$?; sync -f {place}; exit $status"
    started = time.perf_counter()
    process = subprocess.Popen(["/bin/sh", "-c", line], env={**os.environ, **environment}, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode not in {0, 1}:
        tail = Path(f"{folder}.log").read_text(errors="replace")[-2000:]
        sys.stderr.write(f"{shlex.join(command)} ended with {process.returncode}:\n{tail}\n")
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def compete(sides: Sequence[Side], ground: Path, rounds: int) -> None:
    """Let all sides do the work in turns, once to warm up and then `rounds` times."""
    for number in range(rounds + 1):
        for side in sides:
            if side.trouble:
                continue
            folder = ground / "side"
            command = side.prepare(folder)
            figures = measure(command, folder, side.environment)
            side.trouble = side.check(folder)
            sys.stderr.write(f"round {number} {side.name}: {figures.wall:.2f} s {side.trouble or ''}\n")
            if number and not side.trouble:
                side.figures.append(figures)
            shutil.rmtree(folder, ignore_errors=True)
            os.sync()
            time.sleep(IDLE_SECONDS)


def table(sides: Sequence[Side], *, pictures: int, size: int) -> str:
    """Return medians as a Markdown table; every ratio is the first side's wall time over that side's."""
    lines = [
        "| side | wall s | CPU s | peak MB | pictures/s | MB/s | ours/theirs wall | ours/theirs CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = sides[0]
    for side in sides:
        if not side.figures:
            lines.append(f"| {side.name} | {side.trouble or 'not run'} | | | | | | |")
            continue
        wall, cpu = _median(side, "wall"), _median(side, "cpu")
        memory = _median(side, "memory") / 1e6
        ratios = f"{_median(ours, 'wall') / wall:.2f} | {_median(ours, 'cpu') / cpu:.2f}" if ours.figures else "- | -"
        lines.append(
            f"| {side.name} | {wall:.2f} | {cpu:.2f} | {memory:.0f} | {pictures / wall:.0f} | {size / 1e6 / wall:.0f} |"
            f" {ratios} |"
        )
    return "\n".join(lines)


def _median(side: Side, figure: str) -> float:
    return statistics.median(getattr(figures, figure) for figures in side.figures)


def machine() -> str:
    """Return one line about where this was measured."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )


def options(description: str) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--scale", type=float, default=0.25, help="share of the whole workload (default 0.25)")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: a temporary folder)")
    return parser


def need(folder: Path, size: int) -> None:
    """End with a sentence where a folder's disk has less than `size` bytes to spare."""
    free = shutil.disk_usage(folder).free
    if free < size:
        sys.exit(f"{folder} has {free / 1e9:.1f} GB free; this run needs {size / 1e9:.1f} GB.")


def publish(name: str, title: str, body: str) -> None:
    """Print a result and keep it as a file."""
    text = f"# {title}\n\n{machine()}\n\n{body}\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
