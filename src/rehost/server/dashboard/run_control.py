"""A run that somebody starts from the page: one at a time in this process, stopped with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from rehost.errors import OperatorError

logger = logging.getLogger(__name__)

FIRST_SECONDS = 2.0  # what is wrong with the environment shows by then


class Going(Protocol):
    """A run, as far as it is started and stopped here."""

    async def go(self) -> object:
        """Visit every due link."""
        ...

    def stop(self) -> None:
        """Begin nothing more."""
        ...


class RunControl:
    """Starts runs."""

    def __init__(self, opening: Callable[[str | None], AbstractAsyncContextManager[Going]]) -> None:
        """Take how the run over a source is opened (None: over the only one)."""
        self._opening = opening
        self._task: asyncio.Task[None] | None = None
        self._run: Going | None = None

    async def start(self, source: str | None) -> bool:
        """Start a run; return False where one is going on already.

        Raises:
            OperatorError: it ended at once, for this reason.
        """
        if self._task is not None and not self._task.done():
            return False
        self._task = asyncio.create_task(self._go(source))
        done, _ = await asyncio.wait({self._task}, timeout=FIRST_SECONDS)
        for task in done:
            if not task.cancelled():  # the server ends
                task.result()
        return True

    async def close(self) -> None:
        """Stop the run, and wait until what is in flight is recorded; one that is still being opened ends at once."""
        if self._task is None:
            return
        if self._run is not None:
            self._run.stop()
        else:
            self._task.cancel()
        await asyncio.wait({self._task})

    async def _go(self, source: str | None) -> None:
        try:
            async with self._opening(source) as self._run:
                await self._run.go()
        except OperatorError as error:
            logger.error("run stopped reason=%r", str(error))  # noqa: TRY400 - a sentence for the operator, no traceback
            raise
        finally:
            self._run = None
