"""Pictures proven per second and per CPU second, by format and size, with decoding and by structure.

With the verifier that a run uses, on every core. CPU time is that of the main process and its decoders, without their
start. Beside it stands what decoding adds to the structure, over the bare decoder: the library with the least work for
the same bytes, which are in memory, with one call (harness/bare.py).
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness import bare, options, report, workload
from harness.measuring import TICKS, cpu_seconds, tree
from rehost.clock import Clock
from rehost.images.verifier import ImageVerifier

KINDS = ("jpg", "progressive jpg", "png", "gif", "webp", "avif")
SIZES = {"20 KB": 20_000, "400 KB": 400_000, "2 MB": 2_000_000}
UNUSUAL = {("avif", "2 MB"), ("webp", "2 MB")}  # more than 30 megapixels, close to IMAGE_DECODE_MEMORY
WAYS: tuple[Literal["decode", "structure"], ...] = ("decode", "structure")
DIFFERENT = 2  # pictures of each format and size
SECONDS = 4.0  # of each mode in a round, at full scale
CORES = os.cpu_count() or 1


@dataclass
class Cell:
    """One format, size and mode."""

    kind: str
    size: str
    way: Literal["decode", "structure"]
    paths: Sequence[Path]
    number: int = 4 * CORES  # pictures in a round; the first round measures how many fill its time
    rates: list[tuple[float, float]] = field(default_factory=list)  # pictures per second, and per CPU second
    bare: list[float] = field(default_factory=list)  # CPU seconds of the bare decoder for a picture


def main() -> None:
    """Run the benchmark."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=KINDS, help="formats (default: all)")
    arguments = parser.parse_args()
    with options.work_folder(arguments.folder, 10**9) as folder:
        cells = [
            Cell(kind, size, way, paths)
            for kind in arguments.only
            for size, number in SIZES.items()
            if (kind, size) not in UNUSUAL
            for paths in [pictures(folder, kind, number)]
            for way in WAYS
        ]
        for number in range(arguments.rounds + 1):
            sys.stderr.write(f"round {number}\n")
            for cell in cells:
                rate, by_cpu = asyncio.run(prove(cell))
                if number:
                    cell.rates.append((rate, by_cpu))
                    if cell.way == "decode":
                        cell.bare.append(bare.cpu_seconds(cell.kind, cell.paths, cell.number))
                else:
                    cell.number = max(cell.number, round(rate * SECONDS * arguments.scale))
    lines, costs = [], dict[tuple[str, str], tuple[float, float]]()
    for decode, structure in zip(cells[::2], cells[1::2], strict=True):
        numbers = [f"{number:.0f}" for cell in (decode, structure) for number in medians(cell)]
        added = 1 / medians(decode)[1] - 1 / medians(structure)[1]
        least = statistics.median(decode.bare)
        costs[decode.kind, decode.size] = added, least
        lines.append(
            f"| {decode.kind} | {decode.size} | {' | '.join(numbers)} | {1 / least:.0f} | {added / least:.2f} |"
        )
    head = (
        "| format | size | decode: pictures/s | per CPU s | structure: pictures/s | per CPU s"
        " | bare decoder: per CPU s | (decode - structure) / bare |"
    )
    title = f"proof: {CORES} processes, medians of {arguments.rounds}"
    goal = report.Goal("400 KB, in the shares of `bulk`: (decode - structure) / bare", 1.25, mixed(costs, "400 KB"))
    report.publish(arguments.results, "proof", title, report.rows(head, lines), report.goals([goal]))


def mixed(costs: Mapping[tuple[str, str], tuple[float, float]], size: str) -> float | None:
    """Return the ratio for pictures in the shares of the first operator's catalogue; None if a format is missing."""
    parts = [(share, costs.get((kind, size))) for kind, share in workload.SHARES]
    if any(cost is None for _, cost in parts):
        return None
    added, least = (sum(share * cost[n] for share, cost in parts if cost) for n in (0, 1))
    return added / least


def pictures(folder: Path, kind: str, size: int) -> list[Path]:
    """Return pictures of about this size."""
    paths = [folder / f"{kind}-{size}-{seed}" for seed in range(DIFFERENT)]
    for seed, path in enumerate(paths):
        path.write_bytes(workload.base(kind, seed, size))
    return paths


async def prove(cell: Cell) -> tuple[float, float]:
    """Return the pictures proven per second and per CPU second; exit if one is not proven."""
    verifier = ImageVerifier(
        verify=cell.way,
        max_pixels=50_000_000,
        max_frames=2000,
        max_total_pixels=1_000_000_000,
        decode_memory_bytes=512 * 2**20,
        decode_seconds=20.0,
        processes=CORES,
        clock=Clock(),
    )
    async with verifier:
        await asyncio.gather(*(verifier.verify(cell.paths[0]) for _ in range(2 * CORES)))  # all decoders have started
        used, started = used_seconds(), time.perf_counter()
        await asyncio.gather(*(verifier.verify(cell.paths[n % len(cell.paths)]) for n in range(cell.number)))
        wall = time.perf_counter() - started
        cpu = max(used_seconds() - used, 1 / TICKS)
    return cell.number / wall, cell.number / cpu


def used_seconds() -> float:
    """Return the CPU seconds of this process and its decoders."""
    return sum(cpu_seconds(pid) for pid in tree(os.getpid()))


def medians(cell: Cell) -> tuple[float, float]:
    """Return the medians of both rates."""
    wall, cpu = (statistics.median(rates) for rates in zip(*cell.rates, strict=True))
    return wall, cpu


if __name__ == "__main__":
    main()
