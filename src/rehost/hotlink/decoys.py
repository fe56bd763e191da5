"""Whether bytes are a decoy: what proves it, at what cost (learn.py says when it is suspected)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import urlsplit

from rehost.errors import Transient, VisitError
from rehost.hotlink.origin_state import MOST_PATIENCE, OriginState
from rehost.hotlink.probe import Answer, LinkProbe, Sighting
from rehost.hotlink.probe_budget import FRESH_SECONDS, ProbeBudget
from rehost.model import Reason
from rehost.ports import KnownGoodLink, Origins


class SeenDigests(Protocol):
    """Who is suspected of being a decoy, and what could prove it (hotlink/seen_digests.py)."""

    def see(self, origin: str, digest: str, url: str, page_url: str | None) -> Sighting | None:
        """Return another link of the origin that gave the same bytes, unless they were found genuine."""
        ...

    def is_genuine(self, origin: str, digest: str) -> bool:
        """Return whether these bytes were examined."""
        ...

    def clear(self, origin: str, digest: str) -> None:
        """Remember that several links share this picture."""
        ...

    def doubt(self, origin: str) -> None:
        """Take back what was found genuine."""
        ...

    def controls(self, url: str) -> Sequence[str]:
        """Return URLs that cannot be this picture; all of them must give the same bytes to prove a decoy."""
        ...


@dataclass(frozen=True, slots=True)
class DecoyDetector:
    """Proves decoys, and remembers them for all workers. To be used by who holds the origin's lock."""

    origins: Origins
    suspicions: SeenDigests
    budget: ProbeBudget
    place: Callable[[str], tuple[str, str]]  # a link's origin, and the URL to ask for

    async def is_decoy(self, inquiry: LinkProbe, known: OriginState, rule: str, digest: str) -> bool:
        """Return whether the bytes that came for this link under this rule are proven to be a decoy."""
        if digest in known.decoys:
            return True
        if rule != known.rule and await self.is_given_for_anything(inquiry, known, rule, digest):
            return True
        other = self.suspicions.see(known.origin, digest, inquiry.url, inquiry.page_url)
        return other is not None and await self.is_shared_decoy(inquiry, known, rule, digest, other)

    async def is_given_for_anything(self, inquiry: LinkProbe, known: OriginState, rule: str, digest: str) -> bool:
        """Return whether URLs that cannot be this picture give the same bytes: then they are a decoy."""
        for url in self.suspicions.controls(inquiry.url):
            if not await self.budget.spend(known, keep=_kept(known)):
                # Another worker may have used it up on these very bytes since we looked.
                known.unmask(await self.origins.decoys(known.origin))
                return digest in known.decoys
            answer = await inquiry.ask_for(url, inquiry.page_url, rule)
            if isinstance(answer, Transient):
                return False  # says nothing of the URL, only of the moment
            known.controlled = rule
            if isinstance(answer, VisitError):
                return False
            if answer[0].digest != digest:
                await self._unmask(known, answer[0].digest, "comes for a path where nothing is")
                return False
        await self._unmask(known, digest, f"comes under {rule} for paths where nothing is")
        return True

    async def is_shared_decoy(
        self, inquiry: LinkProbe, known: OriginState, rule: str, digest: str, other: Sighting
    ) -> bool:
        """Return whether bytes that came under this link and another one are a decoy."""
        if not known.settled:
            await self.recall(known)
        # A control that was made when learning began, for the link before this one, need not be made again.
        if (known.settled or known.controlled != rule) and await self.is_given_for_anything(
            inquiry, known, rule, digest
        ):
            return True
        for another in inquiry.chain:
            if another in inquiry.answers or another == rule:
                continue
            if not await self.budget.spend(known, keep=_kept(known)):
                return await self._is_doubted_decoy(inquiry, known, digest)
            if await self._differ_under(another, inquiry, known, digest, other):
                await self._unmask(known, digest, f"two links give it under {rule}, and two pictures under {another}")
                return True
        if await self._has_replaced(inquiry, known, digest):
            return True
        self.suspicions.clear(known.origin, digest)
        known.settled = True
        return False

    async def _differ_under(
        self, rule: str, inquiry: LinkProbe, known: OriginState, digest: str, other: Sighting
    ) -> bool:
        """Return whether under this rule both links give pictures: others than those bytes, and not the same."""
        mine = await inquiry.try_under(rule)
        if isinstance(mine, VisitError) or mine[0].digest in known.decoys | {digest}:
            return False
        if not await self.budget.spend(known, keep=_kept(known)):
            return False
        url, page_url = other
        theirs = await inquiry.ask_for(url, page_url, rule)
        return not isinstance(theirs, VisitError) and theirs[0].digest not in {digest, mine[0].digest}

    async def _is_doubted_decoy(self, inquiry: LinkProbe, known: OriginState, digest: str) -> bool:
        """Count bytes that came again and cannot be examined; when they come often, ask whether the origin has changed.

        Raises:
            Transient: they come for so many links that they are not to be held before that could be asked.
        """
        known.settled = True
        known.repeats += not inquiry.is_repeated
        inquiry.is_repeated = True
        return known.has_repeated_many() and await self._has_replaced(inquiry, known, digest)

    async def _has_replaced(self, inquiry: LinkProbe, known: OriginState, digest: str) -> bool:
        """Return whether these bytes come now for a link that gave others before."""
        witness = known.witness(against=digest)
        if witness is None:
            return False
        answer = await self.ask_again(inquiry, known, witness)
        if answer is None:
            if known.repeats < MOST_PATIENCE:
                return False
            evidence = f"the same picture for {known.repeats} links in a row, and no extra request left to examine it"
            raise Transient(Reason.DECOY, evidence, retry_after=FRESH_SECONDS)
        if isinstance(answer, VisitError) or answer[0].digest != digest:
            known.reassure()
            return False
        await self._unmask(known, digest, "comes for a link that gave other bytes before")
        return True

    async def _unmask(self, known: OriginState, digest: str, evidence: str) -> None:
        if self.suspicions.is_genuine(known.origin, digest):
            return
        known.unmask({digest})
        await self.origins.add_decoy(known.origin, digest, evidence)

    async def recall(self, known: OriginState) -> None:
        """Remember, from the ledger, links of this origin that worked before this process began."""
        if known.is_recalled:
            return
        known.is_recalled = True
        held = await self.origins.witnesses(urlsplit(known.origin).hostname or "")
        asked = [(self.place(each.url), each) for each in held]
        known.recall(replace(each, url=url) for (origin, url), each in asked if origin == known.origin)

    async def ask_again(self, inquiry: LinkProbe, known: OriginState, witness: KnownGoodLink) -> Answer | None:
        """Ask for a link that worked, as it worked; None where no extra request is left for it."""
        if not await self.budget.spend_on_doubt(known):
            return None
        return await inquiry.ask_for(witness.url, witness.page_url, known.rule or inquiry.chain[0])


def _kept(known: OriginState) -> int:
    """Return how many extra requests to keep: once an origin gives pictures, one in case that it changes."""
    return 1 if known.settled else 0
