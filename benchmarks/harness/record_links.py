"""Record every link in the ledger as a run does, without a request: a program.

python record_links.py [--base FOLDER]
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from rehost.clock import Clock
from rehost.settings import load
from rehost.wiring.run import limits_of, open_parts


async def main(base: Path) -> None:
    """Plan a run."""
    settings = load(base, os.environ, {})
    limits = limits_of(settings, settings.concurrency)
    async with open_parts(settings, settings.sources, Clock(), limits, lambda _event: None) as [parts]:
        await parts.planner.plan()


asyncio.run(main(Path(sys.argv[-1] if sys.argv[1:] else ".")))
