"""The API's actions, which need the operator's token: retry, pause, resume, and start a run."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fastapi import HTTPException, Request

from rehost.errors import OperatorError
from rehost.run.run import Run
from rehost.server.api.http import Key, LastReason, Position, RequiredHost, Seconds, Source
from rehost.server.api.routes import Api

logger = logging.getLogger(__name__)

FIRST_SECONDS = 2.0  # most faults of the environment show within this time


class RunControl:
    """Starts runs from the page: one at a time in this process, and none outlives it."""

    def __init__(self, opening: Callable[[str], AbstractAsyncContextManager[Run]]) -> None:
        """Take the function that opens a run over a source."""
        self._opening = opening
        self._task: asyncio.Task[None] | None = None
        self._run: Run | None = None

    async def start(self, source: str) -> bool:
        """Start a run; return False if one is in progress.

        Raises:
            OperatorError: the run ended at once, for this reason.
        """
        if self._task is not None and not self._task.done():
            return False
        self._task = asyncio.create_task(self._execute(source))
        done, _ = await asyncio.wait({self._task}, timeout=FIRST_SECONDS)
        for task in done:
            if not task.cancelled():  # cancelled: the server is stopping
                task.result()
        return True

    async def close(self) -> None:
        """Stop the run and wait until what is in flight is recorded; cancel one that is still being opened."""
        if self._task is None:
            return
        if self._run is not None:
            self._run.stop()
        else:
            self._task.cancel()
        await asyncio.wait({self._task})

    async def _execute(self, source: str) -> None:
        try:
            async with self._opening(source) as self._run:
                await self._run.execute()
        except OperatorError as error:
            logger.error("run stopped reason=%r", str(error))  # noqa: TRY400 - for the operator, without a traceback
            raise
        finally:
            self._run = None


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action changed."""

    changed: int  # links, hosts or runs


@dataclass(frozen=True, slots=True)
class Actions:
    """The operations that change something."""

    api: Api
    runs: RunControl

    async def retry(
        self, source: Source = "", key: Key = "", position: Position = 0, reason: LastReason = None
    ) -> ActionResult:
        """Make failed links due now: one (key), those with a reason, or all. The next run visits them."""
        chosen = self.api.source(source)
        ledger = (await self.api.resources.get()).ledger
        if key:
            return ActionResult(await ledger.due.forget_wait(chosen, key, position))
        return ActionResult(await ledger.due.forget_waits(chosen, reason))

    async def pause(self, host: RequiredHost, seconds: Seconds = 86400) -> ActionResult:
        """Send no requests to a host for a while. Workers learn of it within seconds."""
        shares = (await self.api.resources.get()).shares
        await shares.pause(host.lower(), float(seconds), "paused by the operator")
        return ActionResult(1)

    async def resume(self, host: RequiredHost) -> ActionResult:
        """End a host's pause. Workers that have seen the pause wait until it would have ended."""
        shares = (await self.api.resources.get()).shares
        return ActionResult(int(await shares.resume(host.lower())))

    async def run(self, source: Source = "") -> ActionResult:
        """Start a run in this server."""
        chosen = self.api.source(source)
        if chosen not in self.api.sources:
            raise HTTPException(400, f"The settings have no source {chosen}.")
        if not await self.runs.start(chosen):
            raise HTTPException(409, "A run that was started here is still in progress.")
        return ActionResult(1)


def token_check(token: str) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses requests without the operator's token, or all if the token is empty.

    The token travels in a header that no other site can make a browser send; the checks of origin are a second defence.
    """

    async def check(request: Request) -> None:
        headers = request.headers
        if not token:
            raise HTTPException(403, "This server is read-only: REHOST_TOKEN is not set, so actions are not available.")
        origin = headers.get("origin")
        is_foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
        # Fetch Metadata, section 2.4
        if is_foreign or headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}:
            raise HTTPException(
                403, "Actions are accepted only from rehost's own page or from a program, not from another website."
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
            required = {"www-authenticate": "Bearer"}  # RFC 6750, section 3
            raise HTTPException(401, "Send the token: Authorization: Bearer REHOST_TOKEN.", required)

    return check
