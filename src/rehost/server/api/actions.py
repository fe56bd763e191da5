"""The API's actions, which need the operator's token: retry, pause, resume, start and stop a run."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from math import ceil

from cachetools import LRUCache
from fastapi import Request
from starlette.datastructures import Headers

from rehost.errors import OperatorError
from rehost.hosts.shares import OPERATORS_PAUSE
from rehost.http.url import read_host
from rehost.run.run import Run
from rehost.server.api.http import (
    Everything,
    LastReason,
    Position,
    RequiredHost,
    RowKey,
    RunNumber,
    Seconds,
    Source,
    invalid_host,
)
from rehost.server.api.problems import Problem, ProblemError
from rehost.server.api.routes import Api

logger = logging.getLogger(__name__)

FIRST_SECONDS = 2.0  # most faults of the environment show within this time
FREE_TRIES = 10  # wrong tokens of one address
TRY_SECONDS = 5.0  # until it has one more
MAX_ADDRESSES = 10_000  # that are remembered: about 2 MB


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
        self,
        source: Source = None,
        row_key: RowKey = None,
        position: Position = 0,
        reason: LastReason = None,
        *,
        everything: Everything = False,
    ) -> ActionResult:
        """Make failed links due now: one (row_key), those with a reason, or all=true. The next run visits them."""
        chosen = [bool(row_key), bool(reason), everything]
        if sum(chosen) != 1 or (position and not row_key):
            raise ProblemError(Problem.NOTHING_CHOSEN)
        name = await self.api.source(source)
        ledger = (await self.api.resources.get()).ledger
        if row_key:
            return ActionResult(await ledger.deferrals.forget_wait(name, row_key, position))
        return ActionResult(await ledger.deferrals.forget_waits(name, reason))

    async def pause(self, host: RequiredHost, seconds: Seconds = 86400) -> ActionResult:
        """Send no requests to a host for a while. Workers learn of it within seconds."""
        shares = (await self.api.resources.get()).shares
        await shares.pause(_host(host), float(seconds), OPERATORS_PAUSE)
        return ActionResult(1)

    async def resume(self, host: RequiredHost) -> ActionResult:
        """End a host's pause, and make the links due that waited for it. Workers learn of it within seconds."""
        shares = (await self.api.resources.get()).shares
        return ActionResult(int((await shares.resume(_host(host))).was_paused))

    async def run(self, source: Source = None) -> ActionResult:
        """Start a run in this server."""
        chosen = source or self.api.sources[0]
        if chosen not in self.api.sources:
            raise ProblemError(Problem.UNKNOWN_SOURCE, source=chosen)
        if not await self.runs.start(chosen):
            raise ProblemError(Problem.RUN_IN_PROGRESS)
        return ActionResult(1)

    async def stop(self, run: RunNumber) -> ActionResult:
        """End a run as Ctrl-C does, whatever machine it is on: it notices this within seconds."""
        resources = await self.api.resources.get()
        found = [each for each in await resources.queries.runs(limit=1, before=run + 1) if each.run == run]
        if not found:
            raise ProblemError(Problem.UNKNOWN_RUN, run=run)
        if not any(each.is_alive for each in found):
            raise ProblemError(Problem.RUN_NOT_IN_PROGRESS, run=run)
        await resources.ledger.runs.request_stop(run)
        return ActionResult(1)


def _host(text: str) -> str:
    """Return a host as pauses name it.

    Raises:
        ProblemError: the text is more or less than a host.
    """
    is_bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    host = read_host(f"http://[{text}]/" if is_bare_ipv6 else f"http://{text}/")
    if not host or (":" in text and ":" not in host):  # a port
        raise invalid_host()
    return host


class TokenGuard:
    """A dependency that refuses requests without the operator's token, or all if the token is empty.

    The token travels in a header that no other site can make a browser send; the checks of origin are a second defence.
    An address that has sent FREE_TRIES wrong tokens has one more try every TRY_SECONDS.
    """

    def __init__(self, token: str) -> None:
        """Take the operator's token."""
        self._token = token
        self._tries_until: LRUCache[str, float] = LRUCache(MAX_ADDRESSES)  # when all tries are free again

    async def __call__(self, request: Request) -> None:
        """Check one request.

        Raises:
            ProblemError: it may not act.
        """
        if not self._token:
            raise ProblemError(Problem.READ_ONLY)
        _check_origin(request.headers)
        address, now = _address(request), asyncio.get_running_loop().time()
        used_until = max(now, self._tries_until.get(address, 0.0))
        late = used_until - now - TRY_SECONDS * (FREE_TRIES - 1)
        if late > 0:
            seconds = ceil(late)
            raise ProblemError(Problem.TOO_MANY_WRONG_TOKENS, {"retry-after": str(seconds)}, seconds=seconds)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return
        if given:
            self._tries_until[address] = used_until + TRY_SECONDS
        raise ProblemError(Problem.TOKEN_NEEDED, {"www-authenticate": "Bearer"})  # RFC 6750, section 3


def _check_origin(headers: Headers) -> None:
    """Refuse what a browser sends for another website (Fetch Metadata, section 2.4)."""
    origin, host = headers.get("origin"), headers.get("host", "")
    site = headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"} or (origin is not None and "://" not in origin):
        raise ProblemError(Problem.FOREIGN_SITE)
    if origin is not None and origin.partition("://")[2] != host:
        raise ProblemError(Problem.FOREIGN_ORIGIN, origin=origin, host=host)


def _address(request: Request) -> str:
    """Return the client's address; of IPv6 the network of 64 bits, any address of which is the client's to use."""
    client = request.client.host if request.client else ""
    return ":".join(client.split(":")[:4]) if ":" in client and "." not in client else client
