"""rehost's fetcher alone, in one or several processes: hashed files, but no proof, no ledger, no rows, nothing durable.

This is the floor of `bulk`: what a run would take if everything but fetching cost nothing.
"""

import argparse
import asyncio
import ipaddress
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from rehost.cli.loop import run_loop
from rehost.clock import Clock
from rehost.fetch.fetcher import Fetcher
from rehost.http.address_policy import AddressPolicy
from rehost.model import Request


async def fetch(urls: Sequence[str], folder: Path, concurrency: int) -> None:
    """Fetch these URLs into files that have the last parts of their names."""
    fetcher = Fetcher(
        AddressPolicy((ipaddress.ip_network("127.0.0.0/8"),)),
        clock=Clock(),
        timeout_seconds=60.0,
        max_bytes=1 << 30,
        max_redirects=0,
        user_agent="benchmark",
        concurrency=concurrency,
    )
    waiting = iter(urls)

    async def work() -> None:
        for url in waiting:
            await fetcher.fetch(Request(url, folder / url.rsplit("/", 1)[1]))

    async with fetcher, asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


def main() -> None:
    """Divide the URLs of a list among processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("listing", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--concurrency", type=int, default=10)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    urls, number = arguments.listing.read_text(encoding="utf-8").split(), arguments.processes
    share = arguments.concurrency // number

    def run(part: int) -> None:
        run_loop(fetch(urls[part::number], arguments.folder, share))

    others = [multiprocessing.get_context("fork").Process(target=run, args=(part,)) for part in range(1, number)]
    for each in others:
        each.start()
    run(0)
    for each in others:
        each.join()


if __name__ == "__main__":
    main()
