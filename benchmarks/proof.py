"""Pictures proven a second, and a CPU second, by format and size: decoded to the end, or walked through.

By the verifier that a run uses, on every core. CPU is that of the decoder processes and of the one that asks them,
their start left out.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from arena import place, report, workload
from arena.measuring import TICKS, cpu_seconds, tree
from rehost.clock import Clock
from rehost.images.verifier import ImageVerifier

KINDS = ("jpg", "progressive jpg", "png", "gif", "webp", "avif")
SIZES = {"20 KB": 20_000, "400 KB": 400_000, "2 MB": 2_000_000}
UNUSUAL = {("avif", "2 MB"), ("webp", "2 MB")}  # beyond 30 megapixels, near the end of IMAGE_DECODE_MEMORY
WAYS: tuple[Literal["decode", "structure"], ...] = ("decode", "structure")
DIFFERENT = 2  # pictures of each format and size
SECONDS = 4.0  # of each way in a round, at full scale
CORES = os.cpu_count() or 1


@dataclass
class Cell:
    """One format, one size, one way."""

    kind: str
    size: str
    way: Literal["decode", "structure"]
    paths: Sequence[Path]
    number: int = 4 * CORES  # pictures in a round; the first round finds out how many fill its time
    rates: list[tuple[float, float]] = field(default_factory=list)  # pictures a second, and a CPU second


def main() -> None:
    """Run the benchmark."""
    parser = place.options(__doc__ or "")
    parser.add_argument("--only", nargs="*", choices=KINDS, default=KINDS, help="formats (default: all)")
    arguments = parser.parse_args()
    with place.workplace(arguments.folder, 10**9) as ground:
        cells = [
            Cell(kind, size, way, paths)
            for kind in arguments.only
            for size, number in SIZES.items()
            if (kind, size) not in UNUSUAL
            for paths in [pictures(ground, kind, number)]
            for way in WAYS
        ]
        for number in range(arguments.rounds + 1):
            sys.stderr.write(f"round {number}\n")
            for cell in cells:
                rate, by_cpu = asyncio.run(prove(cell))
                if number:
                    cell.rates.append((rate, by_cpu))
                else:
                    cell.number = max(cell.number, round(rate * SECONDS * arguments.scale))
    lines = []
    for decode, structure in zip(cells[::2], cells[1::2], strict=True):
        numbers = [f"{number:.0f}" for cell in (decode, structure) for number in medians(cell)]
        lines.append(f"| {decode.kind} | {decode.size} | {' | '.join(numbers)} |")
    head = "| format | size | decode: pictures/s | per CPU s | structure: pictures/s | per CPU s |"
    title = f"proof: {CORES} processes, medians of {arguments.rounds}"
    report.publish(arguments.results, "proof", title, report.rows(head, lines))


def pictures(ground: Path, kind: str, size: int) -> list[Path]:
    """Return files of about this size."""
    paths = [ground / f"{kind}-{size}-{seed}" for seed in range(DIFFERENT)]
    for seed, path in enumerate(paths):
        path.write_bytes(workload.base(kind, seed, size))
    return paths


async def prove(cell: Cell) -> tuple[float, float]:
    """Return how many pictures are proven a second, and a CPU second; a picture that is not ends the benchmark."""
    verifier = ImageVerifier(
        verify=cell.way,
        max_pixels=50_000_000,
        max_frames=2000,
        decode_memory_bytes=512 * 2**20,
        decode_seconds=20.0,
        processes=CORES,
        clock=Clock(),
    )
    async with verifier:
        await asyncio.gather(*(verifier.verify(cell.paths[0]) for _ in range(2 * CORES)))  # all of them are up
        used, started = used_seconds(), time.perf_counter()
        await asyncio.gather(*(verifier.verify(cell.paths[n % len(cell.paths)]) for n in range(cell.number)))
        wall = time.perf_counter() - started
        cpu = max(used_seconds() - used, 1 / TICKS)
    return cell.number / wall, cell.number / cpu


def used_seconds() -> float:
    """Return what this process and its decoders have used."""
    return sum(cpu_seconds(pid) for pid in tree(os.getpid()))


def medians(cell: Cell) -> tuple[float, float]:
    """Return the medians of both rates."""
    wall, cpu = (statistics.median(rates) for rates in zip(*cell.rates, strict=True))
    return wall, cpu


if __name__ == "__main__":
    main()
