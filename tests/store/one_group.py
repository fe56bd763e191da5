"""A process that records one group as the recorder does: `one_group.py ROOT COUNT CONTENT [STEP]`.

If STEP is given (spool, sync, place, commit), it kills itself after that step; "commit" writes one line to stdout.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.store.base import Placement
from rehost.store.local import LocalStore


async def record(root, count, content, last_step):
    def after(step):
        if step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    async with LocalStore(root, clock=Clock()) as store:
        placements = [Placement(store.spool(), f"{number}/x.png") for number in range(count)]
        for placement in placements:
            placement.spool.write_bytes(content)
        after("spool")
        await store.sync([placement.spool for placement in placements])
        after("sync")
        await store.place(placements)
        after("place")
        os.write(1, b"committed\n")
        after("commit")
        await store.confirm([placement.key for placement in placements])


if __name__ == "__main__":
    try:
        asyncio.run(record(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode(), (*sys.argv[4:], "")[0]))
    except StoreError as error:
        sys.exit(f"StoreError: {error}")
