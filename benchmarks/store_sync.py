"""The price of durability: write pictures to a store in groups without a sync, with one for each file, and with syncfs.

`--folder` must be on the disk to measure.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from harness import options, report
from rehost.store.filesystem import Durability
from rehost.store.local import THREADS

PICTURES = 4000
GROUPS = (10, 50, 200)
WAYS = ("no sync", "file by file", "syncfs")

Sync = Callable[[Callable[[Sequence[Path]], None], Sequence[Path]], object]


def write(root: Path, pictures: int, size: int, group: int, durability: Durability, sync: Sync) -> None:
    """Write each picture to a folder of its own, as the store does."""
    body = os.urandom(size)
    for start in range(0, pictures, group):
        numbers = range(start, min(start + group, pictures))
        spools = [root / f"spool{number}" for number in numbers]
        for spool in spools:
            spool.write_bytes(body)
        sync(durability.sync_files, spools)
        folders = [root / str(number) for number in numbers]
        for spool, folder in zip(spools, folders, strict=True):
            folder.mkdir()
            spool.rename(folder / "main_image.png")
        sync(durability.sync_folders, [*folders, root])


def measure(base: Path, pictures: int, size: int, group: int, way: str) -> tuple[float, float]:
    """Return wall and CPU seconds of one way to sync."""
    root = Path(tempfile.mkdtemp(dir=base))
    durability = Durability(root)
    with ThreadPoolExecutor(THREADS) as threads:
        ways: dict[str, Sync] = {
            "no sync": lambda _, __: None,
            "file by file": lambda one_by_one, paths: list(
                threads.map(one_by_one, [paths[start::THREADS] for start in range(THREADS)])
            ),
            "syncfs": lambda _, __: durability.sync_all(),
        }
        os.sync()
        started, used = time.perf_counter(), time.process_time()
        write(root, pictures, size, group, durability, ways[way])
        took = time.perf_counter() - started, time.process_time() - used
    durability.close()
    shutil.rmtree(root)
    return took


def main() -> None:
    """Measure all ways in turns, and publish the medians."""
    parser = options.parser(__doc__ or "")
    parser.add_argument("--size", type=int, default=400_000, help="bytes in a picture (default 400000)")
    arguments = parser.parse_args()
    pictures = max(1, round(PICTURES * arguments.scale))
    took: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with options.work_folder(arguments.folder, 2 * pictures * arguments.size, 4 * pictures) as folder:
        for number, group, way in product(range(arguments.rounds + 1), GROUPS, WAYS):
            result = measure(folder, pictures, arguments.size, group, way)
            if number:
                took.setdefault((str(group), way), []).append(result)
    lines = []
    for names, results in took.items():
        wall, cpu = (statistics.median(values) for values in zip(*results, strict=True))
        lines.append(f"| {' | '.join(names)} | {wall:.2f} | {cpu:.2f} |")
    title = f"store_sync: {pictures} pictures of {arguments.size} bytes, medians of {arguments.rounds}"
    table = report.rows("| pictures in a group | synced | wall s | CPU s |", lines)
    report.publish(arguments.results, "store_sync", title, table)


if __name__ == "__main__":
    main()
