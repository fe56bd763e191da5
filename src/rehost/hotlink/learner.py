"""What each origin wants to see before it gives a picture, and whether what it gives is one. Why rehost exists.

**The rule.** Origins refuse hot-linking: by 403, by an HTML page, by a notice picture (a decoy). Which Referer they
want is learned, per origin (scheme, host, port): the chain from no Referer to the row's own page is tried until a
picture comes that is proven to be no decoy. That rule is kept in the ledger and used from then on. Only refusals go on
along the chain; what no Referer can cure (404, a time-out) is said of the link and teaches nothing.

**What is suspected.** Every picture while a rule is being learned; bytes that came under several links of one origin.

**What proves a decoy.** Nothing but one of these; a foreign Referer on the same link proves nothing by itself:

1. a control: URLs that cannot be that picture (hotlink/seen_digests.py) give the same bytes under the same Referer;
2. comparison: two links gave the same bytes, and under another Referer they give two different pictures;
3. change: a link that gave its own bytes before gives these bytes now.

A picture that a control gives is what the origin shows where there is none: it is remembered as a decoy too. Shared
bytes that nothing proves to be a decoy are a picture that several links share; they are examined once.

**What it costs.** At most EXTRA_REQUESTS per origin and learning: tries, controls, and asking for a link that worked.
One is kept for a control, and one, once the origin gives pictures, for that; afterwards refused links are refused with
the one request of their own. Until two links gave different pictures, an origin's links are asked for one at a time, so
that what is learned from the first is known to the second.

**When an origin changes.** After several refusals in a row a link that worked, in this process or of old, is asked for
again. If it works, those links are refused. If not, the rule is forgotten and learned anew with a fresh budget; where
nothing works any more, the origin is left alone for an hour and more, and its links wait. What is held stays. Where no
request is left to ask, there are fresh ones an hour later; until then refused links wait, and after MOST_PATIENCE in a
row the whole origin does.

**Many workers.** What is learned and what it has cost stand in the ledger (budget.py): one worker at a time learns an
origin, and the budget is one over all workers and runs.

Not recognised: a decoy under the only link of an origin that answers 404 for impossible paths; a notice that is drawn
anew for each link.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from rehost.clock import Clock
from rehost.errors import VisitError
from rehost.events import Listener, OriginChanged, OriginLearned
from rehost.hosts.pacing import Pause
from rehost.hotlink.decoys import DecoyDetector, SeenDigests
from rehost.hotlink.origin_state import OriginState
from rehost.hotlink.probe import LinkProbe, Proven, Sighting
from rehost.hotlink.probe_budget import LearnedElsewhere, ProbeBudget
from rehost.hotlink.rule_check import RuleChecker
from rehost.model import Link, Referer, Rule
from rehost.ports import KnownGoodLink, Origins
from rehost.run.visitor import Prove

MOST_ORIGINS = 20_000
"""Known at once; those that were asked longest ago are forgotten first (the ledger remembers)."""

LOOK_SECONDS = 15.0
"""How old what the ledger said may be: other workers learn too."""


class Referers(Protocol):
    """The Referer headers there are for a link (hotlink/referers.py)."""

    def origin(self, url: str) -> str:
        """Return scheme://host[:port]."""
        ...

    def forced(self, url: str) -> str | None:
        """Return the rule that the operator laid down, if so."""
        ...

    def chain(self, url: str, page_url: str | None) -> tuple[str, ...]:
        """Return the rules to try, in order; never empty."""
        ...

    def header(self, rule: str, url: str, page_url: str | None) -> str | None:
        """Return the header under a rule."""
        ...


class Learner:
    """Obtains pictures from origins whatever they want to see (visit.Hotlinks)."""

    def __init__(
        self,
        origins: Origins,
        referers: Referers,
        suspicions: SeenDigests,
        *,
        normalise: Callable[[str], str],
        clock: Clock,
        listen: Listener,
        pause: Callable[[Pause], None],
    ) -> None:
        """Take the parts.

        Args:
            origins: the memory that all workers share.
            referers: the chain of rules.
            suspicions: the memory of this process for bytes.
            normalise: link -> URL to ask for; raises VisitError.
            clock: says how old what we know is.
            listen: is told of rules that were learned, and of those that hold no more.
            pause: is told of hosts that are to be left alone; must have this worker do so at once.
        """
        self._origins = origins
        self._referers = referers
        self._suspicions = suspicions
        self._budget = ProbeBudget(origins, clock)
        self._unmasker = DecoyDetector(origins, suspicions, self._budget, self._place)
        self._doubts = RuleChecker(origins, self._unmasker, clock, pause)
        self._normalise = normalise
        self._clock = clock
        self._listen = listen
        self._known: OrderedDict[str, OriginState] = OrderedDict()

    async def obtain(self, link: Link, prove: Prove) -> Proven:
        """Return a proven picture that is no decoy; its spool is the caller's.

        Raises:
            VisitError: there is none.
        """
        known, inquiry = self._begin(link, prove)
        await self._look(known)
        with inquiry:
            while True:
                if known.settled and not inquiry.answers:
                    rule = await self._ask_plainly(inquiry, known)
                    if rule is not None:
                        return inquiry.take(rule)
                async with known.lock:
                    if inquiry.answers or not known.settled:  # who has waited for what others learned goes plainly
                        return await self._learn(inquiry, known)

    async def examine(self, links: Sequence[Link], digest: str, prove: Prove) -> bool:
        """Return whether these bytes, which at least two links of one origin gave, are a decoy of that origin.

        Costs what is left of the origin's extra requests at most; a decoy is remembered, and so is a shared picture.
        """
        known, inquiry = self._begin(links[0], prove)
        other: Sighting = self._normalise(links[1].url), links[1].page_url
        await self._look(known)
        with inquiry:
            async with known.lock:
                if digest in known.decoys:
                    return True
                if self._suspicions.is_genuine(known.origin, digest):
                    return False
                rule = self._first_rule(inquiry, known)
                with suppress(LearnedElsewhere):  # the next group that shares these bytes asks again
                    async with self._budget.at(known):
                        return await self._unmasker.is_shared_decoy(inquiry, known, rule, digest, other)
                return False

    def take_unmasked(self, link: Link, digest: str | None) -> set[str]:
        """Return the decoys of the link's origin that may be held: those that became known since this was asked last.

        The digest that the link has come to hold is among them if it became known as a decoy in the meantime.
        """
        try:
            known = self._known.get(self._place(link.url)[0])
        except VisitError:
            return set()
        if known is None:
            return set()
        return known.take_unmasked() | ({digest} if digest in known.decoys else set())

    async def is_decoy(self, link: Link, digest: str) -> bool:
        """Return whether these bytes are known as a decoy of the link's origin."""
        with suppress(VisitError):
            await self._look(known := self._of(self._normalise(link.url)))
            return digest in known.decoys
        return False

    # --- one link

    async def _ask_plainly(self, inquiry: LinkProbe, known: OriginState) -> str | None:
        """Return the origin's rule if it gave a picture that nothing speaks against: nearly always."""
        rule = self._first_rule(inquiry, known)
        answer = await inquiry.ask(rule, extra=False)
        if isinstance(answer, VisitError) or answer[0].digest in known.decoys or not known.settled:
            return None
        if self._suspicions.see(known.origin, answer[0].digest, inquiry.url, inquiry.page_url):
            return None
        known.accept(KnownGoodLink(inquiry.url, inquiry.page_url, answer[0].digest))
        return rule

    async def _learn(self, inquiry: LinkProbe, known: OriginState) -> Proven:
        """Return the picture under the first rule that gives one, and keep that rule; alone at this origin."""
        while True:
            await self._look(known, at_once=True)
            with suppress(LearnedElsewhere):
                async with self._budget.at(known):
                    return await self._walk(inquiry, known) or await self._refuse(inquiry, known)
            await self._budget.wait(known)

    async def _walk(self, inquiry: LinkProbe, known: OriginState) -> Proven | None:
        """Try the origin's rule, then the chain, as far as the budget goes; what was tried already is not again."""
        first = self._first_rule(inquiry, known)
        for rule in dict.fromkeys((first, *inquiry.chain)):
            answer = inquiry.answers.get(rule)
            if answer is None:
                # A link's first request is its own; so is one under a rule that was learned since.
                extra = bool(inquiry.answers) and (known.rule is None or rule != first)
                # What comes must be held against a control, unless another rule gave the decoy that it differs from.
                if extra and not await self._budget.spend(known, keep=0 if inquiry.decoys else 1):
                    break
                answer = await inquiry.ask(rule, extra=extra)
            if isinstance(answer, VisitError):
                continue
            if not await self._unmasker.is_decoy(inquiry, known, rule, answer[0].digest):
                await self._accept(inquiry, known, rule, answer)
                return inquiry.take(rule)
            inquiry.decoys.add(rule)
        return None

    async def _accept(self, inquiry: LinkProbe, known: OriginState, rule: str, answer: Proven) -> None:
        known.accept(KnownGoodLink(inquiry.url, inquiry.page_url, answer[0].digest))
        if rule == known.rule:
            return
        known.rule = rule
        if self._referers.forced(inquiry.url) is None:
            evidence = inquiry.evidence()
            known.seen = rule
            await self._origins.learned(Rule(known.origin, rule, evidence, self._clock.now()))
            self._listen(OriginLearned(known.origin, rule, evidence))

    # --- refusals and change

    async def _refuse(self, inquiry: LinkProbe, known: OriginState) -> Proven:
        """Say why the link has no picture; or find that the origin has changed, and learn it anew."""
        failure = inquiry.failure()
        if known.rule is None:
            raise await self._doubts.leave_alone(known, failure) if known.pauses else failure
        await self._doubts.settle(inquiry, known, failure)
        evidence = f"{known.refusals} links in a row are refused under {known.rule}: {failure.evidence}"
        doubted = known.rule
        known.forget()
        self._suspicions.doubt(known.origin)
        if await self._origins.forget_rule(known.origin, doubted):
            self._listen(OriginChanged(known.origin, doubted, evidence))
        await self._look(known, at_once=True)  # another worker may have found it out before us, and learned
        proven = await self._walk(inquiry, known)
        if proven is None:
            raise await self._doubts.leave_alone(known, inquiry.failure())
        return proven

    # --- what is known

    def _begin(self, link: Link, prove: Prove) -> tuple[OriginState, LinkProbe]:
        """Return what is known of the link's origin, and the asking about the link."""
        url = self._normalise(link.url)
        chain = self._referers.chain(url, link.page_url)
        return self._of(url), LinkProbe(url, link.page_url, chain, self._referers.header, prove)

    def _of(self, url: str) -> OriginState:
        known = self._known.setdefault(origin := self._referers.origin(url), OriginState(origin))
        self._known.move_to_end(origin)
        if len(self._known) > MOST_ORIGINS:
            self._known.popitem(last=False)
        return known

    def _place(self, url: str) -> tuple[str, str]:
        """Return the origin of a link, and the URL to ask for."""
        asked = self._normalise(url)
        return self._referers.origin(asked), asked

    async def _look(self, known: OriginState, *, at_once: bool = False) -> None:
        """See what the ledger has of the origin: other workers learn too."""
        now = self._clock.monotonic()
        if not at_once and known.looked_at is not None and now - known.looked_at < LOOK_SECONDS:
            return
        known.looked_at = now
        known.unmask(await self._origins.decoys(known.origin))
        rule = await self._origins.rule(known.origin)
        known.seen = rule.referer if rule else None
        if self._referers.forced(f"{known.origin}/") is None:
            known.take(known.seen)

    def _first_rule(self, inquiry: LinkProbe, known: OriginState) -> str:
        """Return the rule to ask under first: the origin's, or the nearest to it that this link has."""
        if known.rule in inquiry.chain:
            return known.rule or ""
        return inquiry.chain[-1 if known.rule == Referer.PAGE else 0]
