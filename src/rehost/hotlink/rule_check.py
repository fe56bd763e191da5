"""Whether an origin that worked has changed, or refuses single links for what is wrong with them (learn.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from rehost.clock import Clock
from rehost.errors import Permanent, Transient, VisitError
from rehost.hosts.pacing import Pause
from rehost.hotlink.decoys import DecoyDetector
from rehost.hotlink.origin_state import MOST_PATIENCE, OriginState
from rehost.hotlink.probe import LinkProbe, is_refusal
from rehost.ports import Origins

_CHANGED = "it worked, and refuses everything now"
_UNASKED = f"{MOST_PATIENCE} links in a row are refused, and no extra request is left to find out why"


@dataclass(frozen=True, slots=True)
class RuleChecker:
    """Doubts origins. To be used by who holds the origin's lock."""

    origins: Origins
    unmasker: DecoyDetector
    clock: Clock
    pause: Callable[[Pause], None]

    async def settle(self, inquiry: LinkProbe, known: OriginState, failure: Permanent) -> None:
        """Count that this link was refused, and return if the origin works no more as it did.

        Raises:
            VisitError: it does, or that is not to be found out now: why this link has no picture.
        """
        known.refusals += not inquiry.is_refused
        inquiry.is_refused = True
        if known.has_refused_many() and known.witness() is None:
            await self.unmasker.recall(known)
        # The first may be alone in this; should the next ones be the origin's doing, they must not wait for weeks.
        waits = Transient(failure.reason, failure.evidence)
        if not known.is_doubtful():
            raise failure if known.trusted or known.refusals == 1 else waits
        witness = known.witness()
        if witness is None:
            return
        answer = await self.unmasker.ask_again(inquiry, known, witness)
        if answer is None:
            if known.trusted:
                raise failure
            raise await self.leave_alone(known, failure, _UNASKED) if known.refusals >= MOST_PATIENCE else waits
        if not is_refusal(answer) if isinstance(answer, VisitError) else answer[0].digest == witness.digest:
            known.reassure()
            raise failure

    async def leave_alone(self, known: OriginState, failure: VisitError, why: str = _CHANGED) -> Transient:
        """Pause an origin that worked; its links wait for it. Who was in flight meanwhile does not prolong that."""
        evidence = f"{why}: {failure.evidence}"
        now = self.clock.monotonic()
        if now < known.resting_until:
            return Transient(failure.reason, evidence, retry_after=known.resting_until - now)
        seconds = known.pause()
        known.resting_until = now + seconds
        await self.origins.refresh_budget(known.origin, seconds)
        self.pause(Pause(urlsplit(known.origin).hostname or "", seconds, evidence, failure.reason))
        return Transient(failure.reason, evidence, retry_after=seconds)
