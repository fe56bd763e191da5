"""Whether bytes are a decoy: what proves it, at what cost (learn.py says when it is suspected)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rehost.errors import Transient, VisitError
from rehost.pipeline.budget import Budget
from rehost.pipeline.inquiry import Answer, Inquiry, Place
from rehost.pipeline.known import Known, Witness
from rehost.ports import Origins


class Suspicions(Protocol):
    """Who is suspected of being a decoy, and what could prove it (inspector/decoy.py)."""

    def see(self, origin: str, digest: str, url: str, page_url: str | None) -> Place | None:
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
class Unmasker:
    """Proves decoys, and remembers them for all workers. To be used by who holds the origin's lock."""

    origins: Origins
    suspicions: Suspicions
    budget: Budget

    async def is_decoy(self, inquiry: Inquiry, known: Known, rule: str, digest: str) -> bool:
        """Return whether the bytes that came for this link under this rule are proven to be a decoy."""
        if digest in known.decoys:
            return True
        if rule != known.rule and await self.is_given_for_anything(inquiry, known, rule, digest):
            return True
        other = self.suspicions.see(known.origin, digest, inquiry.url, inquiry.page_url)
        return other is not None and await self.is_shared_decoy(inquiry, known, rule, digest, other)

    async def is_given_for_anything(self, inquiry: Inquiry, known: Known, rule: str, digest: str) -> bool:
        """Return whether URLs that cannot be this picture give the same bytes: then they are a decoy."""
        for url in self.suspicions.controls(inquiry.url):
            if not await self.budget.spend(known):
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

    async def is_shared_decoy(self, inquiry: Inquiry, known: Known, rule: str, digest: str, other: Place) -> bool:
        """Return whether bytes that came under this link and another one are a decoy."""
        # A control that was made when learning began, for the link before this one, need not be made again.
        if (known.settled or known.controlled != rule) and await self.is_given_for_anything(
            inquiry, known, rule, digest
        ):
            return True
        for another in inquiry.chain:
            if another in inquiry.answers or another == rule:
                continue
            if not await self.budget.spend(known):
                return await self._has_replaced(inquiry, known, digest)
            if await self._differ_under(another, inquiry, known, digest, other):
                await self._unmask(known, digest, f"two links give it under {rule}, and two pictures under {another}")
                return True
        self.suspicions.clear(known.origin, digest)
        known.settled = True
        return False

    async def _differ_under(self, rule: str, inquiry: Inquiry, known: Known, digest: str, other: Place) -> bool:
        """Return whether under this rule both links give pictures: others than those bytes, and not the same."""
        mine = await inquiry.try_under(rule)
        if isinstance(mine, VisitError) or mine[0].digest in known.decoys | {digest}:
            return False
        if not await self.budget.spend(known):
            return False
        url, page_url = other
        theirs = await inquiry.ask_for(url, page_url, rule)
        return not isinstance(theirs, VisitError) and theirs[0].digest not in {digest, mine[0].digest}

    async def _has_replaced(self, inquiry: Inquiry, known: Known, digest: str) -> bool:
        """Return whether these bytes come now for a link that gave others before; asked when they come often."""
        witness = known.witness(against=digest)
        if witness is None or not known.repeat():
            known.settled = True
            return False
        answer = await ask_again(inquiry, known, witness)
        if isinstance(answer, VisitError) or answer[0].digest != digest:
            known.reassure()
            return False
        await self._unmask(known, digest, "comes for a link that gave other bytes before")
        return True

    async def _unmask(self, known: Known, digest: str, evidence: str) -> None:
        if self.suspicions.is_genuine(known.origin, digest):
            return
        known.unmask({digest})
        await self.origins.add_decoy(known.origin, digest, evidence)


async def ask_again(inquiry: Inquiry, known: Known, witness: Witness) -> Answer:
    """Ask for a link that worked, as it worked; the one request beyond the budget, each time an origin is doubted."""
    return await inquiry.ask_for(witness.url, witness.page_url, known.rule or inquiry.chain[0])
