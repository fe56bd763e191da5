"""Where sides meet: they do the work in turns, one round to warm up and then those that count."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arena.measuring import Figures, last_words, measure

IDLE_SECONDS = 1.0
LEAST_FREE = 20 * 10**9  # bytes


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
    trouble: str | None = None  # why there are no figures

    def has_figures(self) -> bool:
        """Return whether it did the work, rightly, in every round."""
        return bool(self.figures) and not self.trouble

    def median(self, figure: str) -> float:
        """Return the median of one of the figures."""
        return statistics.median(self.all(figure))

    def all(self, figure: str) -> list[float]:
        """Return one of the figures, of every round that counts."""
        return [getattr(figures, figure) for figures in self.figures]


def compete(sides: Sequence[Side], ground: Path, rounds: int) -> None:
    """Let all sides do the work in turns, once to warm up and then `rounds` times."""
    for number in range(rounds + 1):
        for side in sides:
            if not side.trouble:
                _turn(side, ground / "side", number)


def _turn(side: Side, folder: Path, number: int) -> None:
    """Let one side do the work once; what it did is looked at, and removed."""
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
    """Let the kernel have back what it keeps of these files.

    Memory that was never used before is slow to have where a machine is a virtual one: each side would find less of
    what was used already than the one before it, and take up to half as long again.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def _put_away(folder: Path) -> None:
    """Leave the ground as fresh for the next side as it was for this one.

    Where the disk has room, what was written is only moved aside, and removed with the ground: ext4 without a journal
    passes over every inode that was removed within the last minutes when it makes a file (fs/ext4/ialloc.c,
    recently_deleted), so each side would pay for the files of all before it: here 0.5 ms for each of its own.
    """
    if shutil.disk_usage(folder).free < LEAST_FREE:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        folder.rename(folder.with_name(f"done-{time.monotonic_ns()}"))
