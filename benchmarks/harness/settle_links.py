"""A worker that does not fetch: it leases links and settles them as stored, with the code of a run, until none is due.

A separate program: `settle_links.py DATABASE_URL [SECONDS]`. It connects, waits for a line on its input, works (until
nothing is due, or for so many seconds), prints how many links it settled in how many seconds, and in each tenth of
SECONDS, and disconnects from the database at the end of its input.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random

from rehost.catalogue import Source, TableCatalogue
from rehost.clock import Clock
from rehost.db import Database
from rehost.ledger import Ledger
from rehost.model import Copy, Format, Image, Stored, Task, Validator
from rehost.run.recorder import Recorder
from rehost.store.base import Cause, FileIds, Placement
from rehost.store.layout import Layout
from rehost.wiring.databases import worker

SOURCE = "cases"
GROUP = 200  # outcomes recorded together, as in a run
PARTS = 10
AHEAD = 2 * GROUP  # leased before their visits, over all hosts


class NoFiles:
    """A store without files, so that only the database is measured."""

    async def sync(self, spools: Sequence[Path]) -> None:
        """Do nothing."""

    async def sync_copies(self, keys: Collection[str]) -> set[str]:
        """Return all of them as synced."""
        return set(keys)

    async def place(self, placements: Sequence[Placement]) -> None:
        """Do nothing."""

    async def confirm(self, keys: Sequence[str]) -> None:
        """Do nothing."""

    async def undo(self, keys: Sequence[str]) -> None:
        """Do nothing."""

    async def file_ids(self, _keys: Collection[str]) -> FileIds:
        """Return that there is no file."""
        return {}

    async def trash(self, file_ids: FileIds, cause: Cause) -> None:
        """Do nothing."""


def stored(task: Task) -> Stored:
    """Return the outcome of a successful visit."""
    digest = hashlib.sha256(task.link.url.encode()).hexdigest()
    copy = Copy(f"{task.link.row_key}/main_image.jpg", digest, 400_000)
    picture = Image(Format.JPEG, 800, 600, 1)
    return Stored(task, copy, picture, None, task.link.url, Validator('"5eb63bbbe01eeed0"', None))


async def settle_all(ledger: Ledger, recorder: Recorder, seconds: float) -> Sequence[int]:
    """Lease and settle until nothing is due or the time is over; return the number of links in each tenth of it."""
    numbers = [0] * PARTS
    started = time.perf_counter()
    run = await ledger.runs.begin(SOURCE)
    hosts = list(await ledger.leases.hosts(SOURCE))
    limit = max(2, AHEAD // max(1, len(hosts)))
    while hosts and (part := int(PARTS * (time.perf_counter() - started) / seconds)) < PARTS:
        group: list[Task] = []
        for host in list(hosts):
            tasks = await ledger.leases.lease(SOURCE, host, limit)
            group += tasks
            if not tasks:
                hosts.remove(host)
        for start in range(0, len(group), GROUP):
            recorded = await recorder.record(run, [stored(task) for task in group[start : start + GROUP]])
            numbers[part] += recorded.held
    return numbers


async def main(url: str, seconds: float = math.inf) -> None:
    """Connect, wait for the signal, work, and print the result."""
    async with Database(url, clock=Clock(), random=Random()) as database:
        catalogue = await TableCatalogue.open(database, Source())
        layout = Layout()
        ledger = Ledger(database, worker(), lease_seconds=120.0, url=layout.url)
        recorder = Recorder(ledger, NoFiles(), catalogue, layout)
        await ledger.due.counts(SOURCE)
        print("ready", flush=True)
        sys.stdin.readline()
        started = time.perf_counter()
        numbers = await settle_all(ledger, recorder, seconds)
        took = time.perf_counter() - started
        print(json.dumps({"settled": sum(numbers), "seconds": took, "parts": numbers}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(float, sys.argv[2:])))
