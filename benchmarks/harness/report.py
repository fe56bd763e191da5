"""The report of a benchmark: the machine, a table of medians, and which targets are reached."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.rounds import Side

RESULTS = Path(__file__).parent.parent / "results"


@dataclass(frozen=True)
class Goal:
    """A target; `reached` is None if it could not be measured."""

    what: str
    bound: float
    reached: float | None
    unit: str = ""
    is_least: bool = False  # more is better

    def row(self) -> str:
        """Return the target's line of the table."""
        wanted = f"{'≥' if self.is_least else '≤'} {self.bound:g}{self.unit}"
        if self.reached is None:
            return f"| {self.what} | {wanted} | not measured | |"
        is_reached = self.reached >= self.bound if self.is_least else self.reached <= self.bound
        verdict = "reached" if is_reached else "**not reached**"
        return f"| {self.what} | {wanted} | {self.reached:.2f}{self.unit} | {verdict} |"


def goals(each: Sequence[Goal]) -> str:
    """Return the targets as a Markdown table."""
    return rows("| figure | wanted | measured | |", [goal.row() for goal in each])


def ratio(sides: Sequence[Side], ours: Sequence[str], theirs: str, figure: str) -> float | None:
    """Return the best median of our sides divided by another side's; None if one has no figures."""
    found = {side.name: side.median(figure) for side in sides if side.has_figures()}
    if theirs not in found or not any(name in found for name in ours):
        return None
    return min(found[name] for name in ours if name in found) / found[theirs]


def table(sides: Sequence[Side], *, pictures: int, size: int, ours: Sequence[str]) -> str:
    """Return a Markdown table of the medians, the spread of wall times, and the ratios of our sides to each."""
    head = (
        "| side | wall s (least, most) | CPU s | main MB | largest MB | pictures/s | MB/s"
        f" | {ours[0]} / this: wall | CPU | best of ours / this: wall |"
    )
    lines = []
    for side in sides:
        if not side.has_figures():
            lines.append(f"| {side.name} | {side.trouble or 'not run'} |" + " |" * 8)
            continue
        wall, walls = side.median("wall"), side.all("wall")
        cells = [
            side.name,
            f"{wall:.2f} ({min(walls):.2f}, {max(walls):.2f})",
            f"{side.median('cpu'):.2f}",
            f"{side.median('main') / 1e6:.0f}",
            f"{side.median('largest') / 1e6:.0f}",
            f"{pictures / wall:.0f}",
            f"{size / 1e6 / wall:.0f}",
            _said(ratio(sides, ours[:1], side.name, "wall")),
            _said(ratio(sides, ours[:1], side.name, "cpu")),
            _said(ratio(sides, ours, side.name, "wall")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return rows(head, lines)


def rows(head: str, lines: Sequence[str]) -> str:
    """Return a Markdown table."""
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *lines])


def _said(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def machine() -> str:
    """Return one line that describes the machine and how busy it was."""
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


def publish(results: Path, name: str, title: str, *parts: str) -> None:
    """Print a result and write it to a file."""
    text = "\n\n".join([f"# {title}", machine(), *parts]) + "\n"
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{name}.md").write_text(text)
    print(text)
