"""The extra requests that an origin may be sent while it is learned: counted in the ledger, over all workers and runs.

Who has taken the first has the origin to itself until it is through; the others wait for what it learns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rehost.clock import Clock
from rehost.errors import HostUnavailable
from rehost.hotlink.origin_state import EXTRA_REQUESTS, OriginState
from rehost.model import Reason
from rehost.ports import Origins, Spending

FRESH_SECONDS = 3600.0
"""After so long an origin that was doubted with nothing left to ask it is learned with a fresh budget."""

WAIT_SECONDS = 0.5
"""Between two looks at what another worker learns."""

MOST_WAIT_SECONDS = 600.0
"""After so long the links of an origin that another worker still learns are left for later."""


class LearnedElsewhere(Exception):  # noqa: N818 - no error: somebody else is at it
    """Another worker learns this origin just now, or has done so since the ledger was looked into."""


@dataclass(frozen=True, slots=True)
class ProbeBudget:
    """Takes extra requests. To be used by who holds the origin's lock."""

    origins: Origins
    clock: Clock

    async def spend(self, known: OriginState, *, keep: int = 0) -> bool:
        """Take one extra request if more than `keep` are left; return whether that was so.

        Raises:
            LearnedElsewhere: look into the ledger a little later.
        """
        if self.clock.monotonic() >= known.fresh_at:
            known.refresh()
        if known.budget <= keep:
            return False
        match await self.origins.spend(known.origin, EXTRA_REQUESTS - keep, known.seen):
            case Spending.ELSEWHERE:
                raise LearnedElsewhere
            case Spending.USED_UP:
                known.budget = keep
                known.fresh_at = self.clock.monotonic() + FRESH_SECONDS  # the ledger may say otherwise by then
                return False
            case Spending.GRANTED:
                known.budget -= 1
                known.is_ours = True
                return True

    async def spend_on_doubt(self, known: OriginState) -> bool:
        """Take one to ask whether an origin is as it was; where none is left, the doubt has to wait for fresh ones."""
        if await self.spend(known):
            return True
        if not known.is_in_doubt:
            known.is_in_doubt = True
            known.fresh_at = min(known.fresh_at, self.clock.monotonic() + FRESH_SECONDS)
            await self.origins.refresh_budget(known.origin, FRESH_SECONDS)
        return False

    @asynccontextmanager
    async def at(self, known: OriginState) -> AsyncIterator[None]:
        """Let the other workers learn the origin again at the end, if they had to wait for us.

        A visit that is cancelled leaves that to the worker's own end: it may not wait for a database.
        """
        try:
            yield
        except asyncio.CancelledError:
            raise
        except LearnedElsewhere:
            await self._end(known)
            raise
        except BaseException:
            known.awaited_since = None
            await self._end(known)
            raise
        known.awaited_since = None
        await self._end(known)

    async def wait(self, known: OriginState) -> None:
        """Wait a little for what another worker learns: all links of the origin together for a while at most.

        Raises:
            Withheld: that is over.
        """
        now = self.clock.monotonic()
        if known.awaited_since is None:
            known.awaited_since = now
        if now - known.awaited_since >= MOST_WAIT_SECONDS:
            minutes = MOST_WAIT_SECONDS / 60
            raise HostUnavailable(
                Reason.THROTTLED, f"another worker has been learning this origin for {minutes:.0f} minutes"
            )
        await self.clock.sleep(WAIT_SECONDS)

    async def _end(self, known: OriginState) -> None:
        if known.is_ours:
            known.is_ours = False
            await self.origins.learning_ended(known.origin)
