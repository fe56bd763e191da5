"""Work that a stop cuts short: it may end within a few seconds, then it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event, *, grace_seconds: float) -> T | None:
    """Return what `work` returns, or None if it had not ended `grace_seconds` after a stop; raises what it raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace_seconds)
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.wait({working, stopping})
    return None if working.cancelled() else working.result()
