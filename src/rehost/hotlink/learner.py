"""Learns which Referer each origin requires, and whether what it sends is the image. This is why rehost exists.

**The rule.** Origins refuse hot-linking: by 403, by an HTML page, by a notice in place of the image (a decoy). Per
origin (scheme, host, port) the chain of Referers, from none to the row's own page, is tried until an image comes that
is not a decoy; that rule is stored and used from then on. Only refusals lead further along the chain: what no Referer
can cure (404, a timeout) belongs to the link and teaches nothing.

**Decoys.** Suspect is every image while a rule is being learned, and bytes that came under several links of one origin.
Only one of these proves a decoy; a foreign Referer on the same link proves nothing by itself:

1. a control: URLs that cannot be that image (decoys.control_urls) give the same bytes under the same Referer;
2. a comparison: two links of one folder gave the same bytes, and under another Referer two different images;
3. a change: a link that gave its own bytes before gives these bytes now.

An image that a control gives is what the origin shows where nothing is: a decoy too. Shared bytes that nothing proves
to be a decoy are an image that several links share; they are examined once.

A proof holds for the folder of the link (decoys.py), because anyone may answer for another folder of the same host. In
another folder the same bytes need a control of their own. An answer that a redirect brought from another site teaches
nothing about the origin: the author of the link may choose the target.

**Cost.** At most EXTRA_REQUESTS per origin and learning for tries, controls and checks, across all workers and runs
(repository.py). While no rule is known, links of one folder get no more than that, and those of all folders
MOST_EXTRA_REQUESTS: a link that gets none because of other folders is deferred, not refused. While the chain is tried
one is kept for a control; once the origin is settled, one to recognise a change. One worker at a time learns an origin.

**Change.** After several refusals in a row a link that worked is asked for again. If it works, those links are refused.
If not, the rule is forgotten and learned again with a fresh budget; where nothing works any more, the origin is left
alone for an hour and longer, and its links wait. If no request is left for the check, refused links wait for the fresh
ones, and after MOST_PATIENCE in a row the whole origin does. Held copies stay.

Not recognised: a decoy under the only link of an origin that answers 404 for impossible paths; a notice that is drawn
anew for each link.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from random import Random
from weakref import WeakValueDictionary

from cachetools import LRUCache

from rehost.attempt import CopyIsCurrent, FetchedImage, ImageFetcher, VisitLog
from rehost.clock import Clock
from rehost.errors import Permanent, Transient, VisitError
from rehost.events import Listener, OriginChanged, OriginLearned
from rehost.fetch.reasons import other_url, request_url
from rehost.hosts.pacing import Pause
from rehost.hosts.scheduler import RequestScheduler
from rehost.hotlink.decoys import DecoyDetector, SeenDigests, scope
from rehost.hotlink.origin_state import (
    FRESH_SECONDS,
    MOST_PATIENCE,
    REFUSALS_IN_A_ROW,
    LearnedElsewhere,
    OriginState,
    OriginTrust,
    ProbeBudget,
)
from rehost.hotlink.referers import LinkProbe, Referers, Target, is_away, is_refusal
from rehost.hotlink.repository import Evidence, KnownGoodLink, OriginRepository
from rehost.http.url import folder_of, has_no_scheme, host_of, origin_of
from rehost.model import Link, Rule

MOST_ORIGINS = 20_000
"""In memory at once; the one used longest ago is dropped first (the ledger keeps what was learned)."""

LEDGER_SECONDS = 15.0
"""How old what was read from the ledger may be: other workers learn too."""

_CHANGED = "it worked, and refuses everything now"
_UNCHECKED = f"{MOST_PATIENCE} links in a row are refused, and no extra request is left to find out why"


class Learner:
    """Obtains images from origins, whichever Referer they require."""

    def __init__(
        self,
        repository: OriginRepository,
        referers: Referers,
        images: ImageFetcher,
        scheduler: RequestScheduler,
        random: Random,
        clock: Clock,
        listen: Listener,
    ) -> None:
        """Take the parts; `listen` gets OriginLearned and OriginChanged."""
        self._repository = repository
        self._referers = referers
        self._images = images
        self._scheduler = scheduler
        self._clock = clock
        self._listen = listen
        self._seen = SeenDigests()
        self._decoys = DecoyDetector(repository, self._seen, random)
        self._origins: LRUCache[str, OriginState] = LRUCache(MOST_ORIGINS)
        # Also one that was dropped while a visit holds its lock: another visit must wait for that very lock.
        self._in_use: WeakValueDictionary[str, OriginState] = WeakValueDictionary()
        self._schemes: LRUCache[str, str] = LRUCache(MOST_ORIGINS)  # of hosts that cannot be reached by the other one

    async def obtain(self, link: Link, log: VisitLog) -> FetchedImage:
        """Return a proven image that is no decoy; removing its spool is up to the caller.

        Raises:
            VisitError: there is none.
            CopyIsCurrent, Postponed, HostPaused, StoreError: as ImageFetcher.fetch.
        """
        target = self._target(link)
        try:
            return await self._obtain(target, log)
        except VisitError as error:
            url = other_url(link.url, target.url, error)
            if url is None:
                raise
            with suppress(VisitError):
                image = await self._obtain(Target(url, link.page_url), log)
                if has_no_scheme(link.url):
                    self._schemes[host_of(url)] = url.partition(":")[0]
                return image
            raise

    async def _obtain(self, target: Target, log: VisitLog) -> FetchedImage:
        probe = self._probe(target, log)
        origin = probe.origin
        await self._read_ledger(origin)
        with probe:
            try:
                while True:
                    if origin.may_ask_together() and not probe.answers:
                        rule = await self._ask_under_rule(probe)
                        if rule is not None:
                            return probe.take(rule)
                    async with origin.lock:
                        # A link that waited while another one was learning is requested under the rule now.
                        if probe.answers or not origin.may_ask_together():
                            return await self._learn(probe)
            except CopyIsCurrent as current:  # as if it had sent the bytes of the copy
                if is_away(target.url, host_of(current.final_url)):
                    origin.away_rule = probe.first_rule()
                elif origin.rule is not None and log.digest is not None:
                    origin.accept(KnownGoodLink(*target, log.digest))
                raise

    async def examine(self, links: Sequence[Link], digest: str, host: str) -> bool:
        """Return whether these bytes, which at least two links of one host gave, are a decoy beside the first of them.

        Costs at most what is left of the origin's extra requests, sent in slots of `host`; either finding is
        remembered.

        Raises:
            VisitError: a link is malformed, or the bytes must wait.
            HostPaused, StoreError: as ImageFetcher.fetch.
        """
        probe, other = self._probe(self._target(links[0]), VisitLog(host)), self._target(links[1])
        origin = probe.origin
        await self._read_ledger(origin)
        with probe:
            async with origin.lock:
                folder = folder_of(probe.target.url)
                if origin.is_decoy_at(folder, digest):
                    return True
                if any(self._seen.is_genuine(origin.origin + each, digest) for each in ("", folder)):
                    return False
                with suppress(LearnedElsewhere):  # the next group that shares these bytes asks again
                    async with origin.budget.learning():
                        return await self._decoys.is_shared_decoy(probe, probe.first_rule(), digest, other)
                return False

    def new_decoys(self, link: Link, digests: set[str]) -> set[str]:
        """Return the decoys of the link's origin that may be held: those that became known since the last call.

        Includes those of these digests, the link's own, that are known decoys of any folder.
        """
        try:
            origin = self._origins.get(origin_of(self._target(link).url))
        except VisitError:
            return set()
        if origin is None:
            return set()
        return origin.new_decoys() | (digests & origin.decoys.keys())

    async def is_decoy(self, link: Link, digest: str) -> bool:
        """Return whether these bytes are a known decoy of the link's folder."""
        try:
            url = self._target(link).url
        except VisitError:
            return False
        origin = self._origin(url)
        await self._read_ledger(origin)
        return origin.is_decoy_at(folder_of(url), digest)

    async def examine_copy(self, link: Link, digest: str, log: VisitLog, *, again: bool = True) -> Evidence:
        """Return the evidence that a copy of a link is a decoy, by what comes beside that very link.

        Requires a control beside it if there is no evidence yet or, with `again`, if what there is can be confirmed
        now. Without a decoy of these bytes at the origin, no request is sent.

        Raises:
            HostPaused, StoreError: as ImageFetcher.fetch.
        """
        try:
            probe = self._probe(self._target(link), log)
        except VisitError:
            return Evidence.NONE
        origin = probe.origin
        await self._read_ledger(origin)
        if digest not in origin.decoys:
            return Evidence.NONE
        with probe:
            async with origin.lock:
                known = await self._repository.evidence(origin.origin, folder_of(probe.target.url), digest)
                if known is not Evidence.NONE and not again:
                    return known
                return await self._decoys.examine_copy(probe, digest)

    # --- one link

    async def _ask_under_rule(self, probe: LinkProbe) -> str | None:
        """Request the link under the origin's rule; return the rule if it gave an image that is not suspect."""
        origin, rule = probe.origin, probe.first_rule()
        answer = await probe.ask(rule, extra=False)
        if isinstance(answer, VisitError) or not (origin.is_settled or probe.is_away(rule)):
            return None
        digest = answer.download.digest
        if self._decoys.is_known_elsewhere(probe, rule, digest):
            return None
        if self._seen.add(scope(origin.origin, probe.place(rule)), digest, probe.target):
            return None
        self._trust(probe, rule, digest)
        return rule

    async def _learn(self, probe: LinkProbe) -> FetchedImage:
        """Return the image under the first rule that gives one, and keep that rule; one worker at a time."""
        origin = probe.origin
        while True:
            await self._read_ledger(origin, at_once=True)
            with suppress(LearnedElsewhere):
                async with origin.budget.learning():
                    return await self._try_chain(probe) or await self._refuse(probe)
            await origin.budget.wait_for_other_worker()

    async def _try_chain(self, probe: LinkProbe) -> FetchedImage | None:
        """Try the origin's rule, then the chain, until the budget is used up; no rule is tried twice."""
        origin, first = probe.origin, probe.first_rule()
        for rule in probe.order():
            answer = probe.answers.get(rule)
            if answer is None:
                # A link's first request is its own; so is one under a rule that was learned since.
                extra = bool(probe.answers) and rule != probe.away_rule() and (origin.rule is None or rule != first)
                # The answer needs a control, unless another rule gave the decoy that it differs from.
                if extra and not await probe.spend(keep=0 if probe.decoys else 1):
                    break
                answer = await probe.ask(rule, extra=extra)
            if isinstance(answer, VisitError):
                continue
            if not await self._decoys.is_decoy(probe, rule, answer.download.digest):
                await self._accept(probe, rule, answer.download.digest)
                return probe.take(rule)
            probe.decoys.add(rule)
        return None

    async def _accept(self, probe: LinkProbe, rule: str, digest: str) -> None:
        origin = probe.origin
        if not self._trust(probe, rule, digest) or rule == origin.rule:
            return
        origin.rule = rule
        if self._referers.forced(probe.target.url) is None:
            evidence = probe.evidence()
            origin.budget.believed = rule
            await self._repository.save_rule(Rule(origin.origin, rule, evidence, self._clock.now()))
            self._listen(OriginLearned(origin.origin, rule, evidence))

    @staticmethod
    def _trust(probe: LinkProbe, rule: str, digest: str) -> bool:
        """Remember that the link gave an image; return False, and trust its origin no more, if another site gave it."""
        if probe.is_away(rule):
            probe.origin.away_rule = rule
            return False
        probe.origin.accept(KnownGoodLink(*probe.target, digest))
        return True

    # --- refusals and change

    async def _refuse(self, probe: LinkProbe) -> FetchedImage:
        """Raise why the link has no image; or, if the origin has changed, learn it again."""
        origin, failure = probe.origin, probe.failure()
        if all(map(probe.is_away, probe.answers)):
            raise failure  # other sites refused, across redirects: that says nothing about the origin
        if origin.rule is None:
            if origin.trust is OriginTrust.RESTING:
                raise await self._leave_alone(origin, failure)
            raise await self._put_off(probe, failure)
        error = await self._check_rule(probe, failure)
        if error is not None:
            raise error
        evidence = f"{origin.refusals} links in a row are refused under {origin.rule}: {failure.evidence}"
        doubted = origin.rule
        origin.forget()
        self._seen.forget_genuine(origin.origin)
        if await self._repository.forget_rule(origin.origin, doubted):
            self._listen(OriginChanged(origin.origin, doubted, evidence))
        await self._read_ledger(origin, at_once=True)  # another worker may have learned the origin again already
        image = await self._try_chain(probe)
        if image is None:
            raise await self._leave_alone(origin, probe.failure())
        return image

    @staticmethod
    async def _put_off(probe: LinkProbe, failure: Permanent) -> VisitError:
        """Return the failure of a link of an unknown origin: one that passes if other folders used up its requests."""
        budget = probe.origin.budget
        if not (budget.is_crowded and probe.untried()):
            return failure
        await budget.request_renewal()
        return Transient(failure.reason, failure.evidence, retry_after=FRESH_SECONDS)

    async def _check_rule(self, probe: LinkProbe, failure: Permanent) -> VisitError | None:
        """Count that this link was refused; return its error, or None if the origin has changed."""
        origin = probe.origin
        if not probe.is_refusal_counted:
            probe.is_refusal_counted = True
            origin.refuse()
        if origin.refusals >= REFUSALS_IN_A_ROW and origin.good_link() is None:
            await self._decoys.load_good_links(origin)
        is_confirmed = origin.trust is OriginTrust.CONFIRMED
        # The first refused link may be at fault alone. If the origin is, the next ones must not wait for weeks.
        waits = Transient(failure.reason, failure.evidence)
        if not origin.needs_check():
            return failure if is_confirmed or origin.refusals == 1 else waits
        link = origin.good_link()
        if link is None:
            return None
        answer = await probe.check(link)
        if answer is None:
            if is_confirmed:
                return failure
            return await self._leave_alone(origin, failure, _UNCHECKED) if origin.refusals >= MOST_PATIENCE else waits
        if not is_refusal(answer) if isinstance(answer, VisitError) else answer.download.digest == link.digest:
            origin.confirm_rule()
            return failure
        return None

    async def _leave_alone(self, origin: OriginState, failure: VisitError, why: str = _CHANGED) -> Transient:
        """Pause an origin that worked; return the error of a link that waits for it.

        Links that were in flight meanwhile do not make the pause longer.
        """
        evidence = f"{why}: {failure.evidence}"
        now = self._clock.monotonic()
        if now < origin.resting_until:
            return Transient(failure.reason, evidence, retry_after=origin.resting_until - now)
        seconds = origin.rest(now)
        await self._repository.renew_budget(origin.origin, seconds)
        self._scheduler.pause(Pause(host_of(origin.origin), seconds, evidence, failure.reason))
        return Transient(failure.reason, evidence, retry_after=seconds)

    # --- what is known

    def _target(self, link: Link) -> Target:
        url = request_url(link.url, link.page_url)
        if has_no_scheme(link.url):
            scheme = self._schemes.get(host_of(url), url.partition(":")[0])
            url = f"{scheme}:{url.partition(':')[2]}"
        return Target(url, link.page_url)

    def _probe(self, target: Target, log: VisitLog) -> LinkProbe:
        return LinkProbe(target, self._origin(target.url), self._referers, self._images, log)

    def _origin(self, url: str) -> OriginState:
        name = origin_of(url)
        origin = self._origins.get(name)
        if origin is None:
            origin = self._in_use.get(name) or OriginState(name, ProbeBudget(name, self._repository, self._clock))
            self._origins[name] = self._in_use[name] = origin
        return origin

    async def _read_ledger(self, origin: OriginState, *, at_once: bool = False) -> None:
        """Read the origin's decoys and rule, unless that was done within LEDGER_SECONDS."""
        now = self._clock.monotonic()
        if not at_once and origin.ledger_read_at is not None and now - origin.ledger_read_at < LEDGER_SECONDS:
            return
        origin.ledger_read_at = now
        origin.add_decoys(await self._repository.decoys(origin.origin))
        rule = await self._repository.rule(origin.origin)
        origin.budget.believed = rule.referer if rule else None
        if self._referers.forced(f"{origin.origin}/") is None:
            origin.take_rule(origin.budget.believed)
