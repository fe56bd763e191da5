"""Run all sides in turns: one warm-up round, then the rounds that count."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.measuring import Figures, last_words, measure

IDLE_SECONDS = 1.0
LEAST_FREE = 20 * 10**9  # bytes


@dataclass
class Side:
    """One way to do the work.

    `prepare` sets up a fresh start, untimed, and returns the command; `check` returns an error in its result, or None.
    """

    name: str
    prepare: Callable[[Path], Sequence[str]]
    check: Callable[[Path], str | None]
    environment: dict[str, str] = field(default_factory=dict)
    figures: list[Figures] = field(default_factory=list)
    trouble: str | None = None  # the reason if there are no figures

    def has_figures(self) -> bool:
        """Return whether the side did the work correctly in every round."""
        return bool(self.figures) and not self.trouble

    def median(self, figure: str) -> float:
        """Return the median of one figure."""
        return statistics.median(self.all(figure))

    def all(self, figure: str) -> list[float]:
        """Return one figure of every round that counts."""
        return [getattr(figures, figure) for figures in self.figures]


def run_rounds(sides: Sequence[Side], folder: Path, rounds: int) -> None:
    """Run all sides in turns, once as a warm-up and then `rounds` times."""
    for number in range(rounds + 1):
        for side in sides:
            if not side.trouble:
                _turn(side, folder / "side", number)


def _turn(side: Side, folder: Path, number: int) -> None:
    """Run one side once, check its result, and remove it."""
    command = side.prepare(folder)
    folder.mkdir(exist_ok=True)
    figures = measure(command, folder, side.environment)
    wrong = side.check(folder)
    if wrong:
        side.trouble = f"{wrong} (exit status {figures.status}: {last_words(folder)})"
    sys.stderr.write(f"round {number} {side.name}: {figures.wall:.2f} s {side.trouble or ''}\n")
    if number and not side.trouble:
        side.figures.append(figures)
    os.sync()
    _out_of_memory(folder)
    _put_away(folder)
    time.sleep(IDLE_SECONDS)


def _out_of_memory(folder: Path) -> None:
    """Drop these files from the page cache.

    On a virtual machine, memory that was never used before is slow to obtain. Without this, each side would find less
    memory that is ready than the side before it, and take up to half as long again.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def _put_away(folder: Path) -> None:
    """Leave the folder as fresh for the next side as it was for this one.

    If the disk has room, the files are only moved aside, and removed at the end: when ext4 without a journal creates a
    file, it skips every inode that was removed in the last minutes (fs/ext4/ialloc.c, recently_deleted). So each side
    would pay for the files of all sides before it: 0.5 ms for each of its own files on our machine.
    """
    if shutil.disk_usage(folder).free < LEAST_FREE:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.rename(folder.with_name(f"done-{time.monotonic_ns()}"))
