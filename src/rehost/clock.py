"""The only module that reads the time; a Clock is passed in, so that tests need not wait."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class Clock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go backwards, from an arbitrary start."""
        return time.monotonic()

    def processor_time(self) -> float:
        """Return the seconds of processor time that this thread has used: waiting for a busy machine is none."""
        return time.thread_time()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; for zero or less, yield once and return."""
        await asyncio.sleep(max(0.0, seconds))
