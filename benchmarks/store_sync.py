"""What durability costs: writing pictures into a store in groups, unsynced, file by file, and by syncfs.

    python benchmarks/store_sync.py [FOLDER] [PICTURES] [BYTES]

FOLDER lies on the disk to be measured (default: a temporary one below the working directory).
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rehost.store.durable import Durability
from rehost.store.local import THREADS

ROUNDS = 3
GROUPS = (10, 50, 200)

Sync = Callable[[Callable[[Sequence[Path]], None], Sequence[Path]], object]


def write(root: Path, pictures: int, size: int, group: int, durability: Durability, sync: Sync) -> None:
    """Write pictures, each into a folder of its own, as the store does."""
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
    """Return wall and CPU seconds of one way."""
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


def main(folder: str = ".", pictures: str = "1000", size: str = "400000") -> None:
    """Measure every way, interleaved, and print medians."""
    took: dict[tuple[int, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(dir=folder) as base:
        for _ in range(ROUNDS):
            for group in GROUPS:
                for way in ("no sync", "file by file", "syncfs"):
                    result = measure(Path(base), int(pictures), int(size), group, way)
                    took.setdefault((group, way), []).append(result)
    print(f"{pictures} pictures of {size} bytes, medians of {ROUNDS}: wall seconds / CPU seconds")
    for (group, way), results in took.items():
        wall, cpu = (statistics.median(values) for values in zip(*results, strict=True))
        print(f"groups of {group:3}  {way:12} {wall:6.2f} / {cpu:5.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
