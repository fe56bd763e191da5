"""Copies on a disk beside copies in a bucket: pictures stored, and read back, in a second, and the CPU time of that.

Both stores do what a run makes them do: spools are written, synced and placed in groups. The bucket is on a SeaweedFS
server on this machine, so its own work competes with ours, and no network is in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from itertools import product
from pathlib import Path

from tests.s3 import BUCKET, S3Server, running_s3

from harness import options, report
from rehost.clock import Clock
from rehost.model import Bucket
from rehost.store.base import Placement, Store
from rehost.store.bucket import BucketClient
from rehost.store.local import LocalStore
from rehost.store.s3 import S3Store

PICTURES = {10_000: 8000, 400_000: 1500}  # by size in bytes
STORES = ("disk", "bucket")
GROUP = 200  # as in a run


def opened(kind: str, folder: Path, server: S3Server) -> AbstractAsyncContextManager[Store]:
    """Return a fresh store."""
    if kind == "disk":
        return LocalStore(folder / "images", clock=Clock())
    bucket = Bucket(BUCKET, server.fresh_prefix())
    client = BucketClient(bucket, server.env(), Clock())
    return S3Store(client, bucket, folder / "spools", clock=Clock(), guard=no_guard)


async def no_guard(keys: Collection[str], work: Callable[[Collection[str]], Awaitable[None]]) -> None:
    """Nothing else uses the store."""
    await work(keys)


async def work(kind: str, folder: Path, server: S3Server, pictures: int, size: int) -> dict[str, tuple[float, float]]:
    """Return the wall and the CPU seconds of storing pictures and of reading them, by what is done."""
    took = {}
    bodies = [os.urandom(size) for _ in range(20)]
    digests = [hashlib.sha256(body).hexdigest() for body in bodies]
    keys = [f"{number}/main_image.{digests[number % 20][:16]}.png" for number in range(pictures)]
    async with opened(kind, folder, server) as store:
        started, used = time.perf_counter(), time.process_time()
        for start in range(0, pictures, GROUP):
            placements = []
            for number in range(start, min(start + GROUP, pictures)):
                spool = store.spool()
                spool.write_bytes(bodies[number % 20])
                placements.append(Placement(spool, keys[number], digests[number % 20]))
            await store.sync([each.spool for each in placements])
            await store.place(placements)
            await store.confirm([each.key for each in placements])
        took["store"] = time.perf_counter() - started, time.process_time() - used

        async def read(part: list[str]) -> None:
            for key in part:
                async with store.as_file(key) as path:
                    assert path.stat().st_size == size

        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(read(keys[start::10]) for start in range(10)))
        took["read"] = time.perf_counter() - started, time.process_time() - used
        started, used = time.perf_counter(), time.process_time()
        listed = sum([len(group) async for group in store.files()])
        took["list"] = time.perf_counter() - started, time.process_time() - used
    assert listed == pictures, f"{listed} of {pictures} pictures are there"
    return took


def main() -> None:
    """Measure both stores in turns, and publish the medians."""
    parser = options.parser(__doc__ or "")
    arguments = parser.parse_args()
    numbers = {size: max(20, round(number * arguments.scale)) for size, number in PICTURES.items()}
    most = sum(size * number for size, number in numbers.items())
    found: dict[tuple[int, str, str], list[tuple[float, float]]] = {}
    with options.work_folder(arguments.folder, 4 * most, 8 * sum(numbers.values())) as folder, running_s3() as server:
        for turn, (size, pictures), kind in product(range(arguments.rounds + 1), numbers.items(), STORES):
            took = asyncio.run(work(kind, folder / f"{turn}-{size}-{kind}", server, pictures, size))
            if turn:
                for what, seconds in took.items():
                    found.setdefault((size, what, kind), []).append(seconds)
    lines = []
    for (size, what, kind), seconds in sorted(found.items()):
        wall, cpu = (statistics.median(each) for each in zip(*seconds, strict=True))
        lines.append(
            f"| {size // 1000} KB | {what} | {kind} | {numbers[size] / wall:.0f} | {1000 * cpu / numbers[size]:.2f} |"
        )
    counted = " and ".join(f"{number} pictures of {size // 1000} KB" for size, number in numbers.items())
    title = f"store: {counted}, medians of {arguments.rounds}"
    table = report.rows("| picture | what | store | pictures/s | CPU ms of rehost for each |", lines)
    report.publish(arguments.results, "store", title, table)


if __name__ == "__main__":
    main()
