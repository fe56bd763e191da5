"""Whether bytes are a decoy: when they are suspect, and what proves it (hotlink/learner.py lists the proofs).

A decoy is a notice ("this picture is from elsewhere") that an origin sends, with status 200, in place of the image: the
same bytes for every link. The same bytes alone prove nothing: shops show one logo under many links.

What is proven holds for the place of the link (`referers.place_of`), because anyone may rule over another folder of the
same host, or over the target of a redirect. The forms of a place, in the ledger's column `folder`:

    /a/b/               pictures in this folder
    /a/*                pictures in this folder and all below: a made-up folder of it gave the bytes too
    /a/b/ other.test    answers that a redirect from this folder brought from that site
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from posixpath import commonpath
from random import Random
from urllib.parse import urlsplit, urlunsplit

from cachetools import LRUCache

from rehost.errors import Transient, VisitError
from rehost.fetch.reasons import request_url
from rehost.hotlink.origin_state import FRESH_SECONDS, MOST_PATIENCE, OriginState
from rehost.hotlink.referers import LinkProbe, Target, is_away, place_of
from rehost.hotlink.repository import Evidence, OriginRepository
from rehost.http.url import folder_of, host_of, origin_of
from rehost.model import Reason

MOST_REMEMBERED = 20_000
"""Digests; at some 500 bytes each, 10 MB."""

# The ending of a picture's name, and whatever follows it (`.jpg!w300`); a number before it belongs to the name.
_ENDING = re.compile(
    r"\.(?:jpe?g?|png|gif|webp|avif|bmp|tiff?|ico|jp2|hei[cf])(?![a-z0-9]).*|\.[a-z][a-z0-9]{0,4}$", re.IGNORECASE
)
_ID = re.compile(r"(?<==)(?=[^&=]*\d)[\w.~-]+(?=&|$)", re.ASCII)  # a value in a query that may name a picture

SHORTEST_NAME = 18
"""Characters; no picture has a name of so many random ones by chance, and as a number it fits in 64 bits."""


class SeenDigests:
    """The last digests received, with the first link of each, and those that were found to be shared images."""

    def __init__(self, *, most: int = MOST_REMEMBERED) -> None:
        """Remember at most so many digests; the one used longest ago is forgotten first."""
        self._first: LRUCache[tuple[str, str], Target] = LRUCache(most)  # by scope and digest
        self._near: LRUCache[tuple[str, str, str], Target] = LRUCache(most)  # by scope, folder and digest
        self._genuine: LRUCache[tuple[str, str], None] = LRUCache(most)

    def add(self, scope: str, digest: str, target: Target) -> Target | None:
        """Remember that this URL gave these bytes; return another link that gave them, if any: one beside it, if any.

        None for bytes that were found genuine. The same URL in several rows is one link. The scope is an origin, or an
        origin and the site to which its redirects led.
        """
        folder = folder_of(target.url)
        if self.is_genuine(scope, digest) or self.is_genuine(scope + folder, digest):
            return None
        first = self._first.setdefault((scope, digest), target)
        near = self._near.setdefault((scope, folder, digest), target)
        return next((each for each in (near, first) if each.url != target.url), None)

    def is_genuine(self, scope: str, digest: str) -> bool:
        """Return whether these bytes were examined and found to be an image; a folder may follow the scope."""
        return (scope, digest) in self._genuine

    def add_genuine(self, scope: str, digest: str) -> None:
        """Remember that these bytes are an image that several links may share; a folder may follow the scope."""
        self._genuine[scope, digest] = None

    def forget_genuine(self, origin: str) -> None:
        """Suspect again what was found genuine, because the origin has changed."""
        for key in [
            key for key in self._genuine if key[0] == origin or key[0].startswith((f"{origin}/", f"{origin} "))
        ]:
            del self._genuine[key]


def control_urls(url: str, random: Random) -> list[str]:
    """Return URLs that cannot be this image; bytes that come under all of them come for anything.

    The first has a random name of the same shape in the same folder, so that the origin treats it by the same rules.
    But an origin may ignore the name: it is a title for search engines (`/photo/ID/title.jpg`), or a size
    (`/mmbiz_png/ID/640`, qpic.cn), or the query names the image. So where anything else may name an image, a second
    URL replaces that too: the longest folder with a digit in it, and what has a digit in the query.
    """
    parts = urlsplit(url)
    segments = parts.path.split("/")
    segments[-1] = _other_name(segments[-1], random)
    near = (parts.scheme, parts.netloc, "/".join(segments), parts.query, "")
    ids = [index for index, segment in enumerate(segments[:-1]) if re.search(r"\d", segment)]
    if ids:
        longest = max(ids, key=lambda index: len(segments[index]))
        segments[longest] = _other_name(segments[longest], random)
    query = _ID.sub(lambda value: _other_name(value[0], random), parts.query)
    far = (parts.scheme, parts.netloc, "/".join(segments), query, "")
    return [urlunsplit(each) for each in dict.fromkeys((near, far))]


def _other_name(name: str, random: Random) -> str:
    """Return a name of the same kind of characters with the same ending; never a short one."""
    ending = _ENDING.search(name)
    stem = name[: ending.start()] if ending else name
    letters = string.ascii_lowercase + string.digits
    if stem.isdigit():
        letters = string.digits
    elif stem and not set(stem.lower()) - set(string.hexdigits):
        letters = "0123456789abcdef"
    length = max(SHORTEST_NAME, len(stem)) if letters != string.digits else SHORTEST_NAME
    first = random.choice(letters[1:])  # a number begins with no 0
    other = first + "".join(random.choices(letters, k=length - 1))
    return (other.upper() if stem.isupper() else other) + (ending[0] if ending else "")


def _place_with(control: str, url: str, final_url: str) -> str:
    """Return the place that a control stands for: what it and the link have in common."""
    mine, other = folder_of(url), folder_of(control)
    if mine == other or is_away(control, host_of(final_url)):
        return place_of(url, final_url)
    return f"{commonpath((mine, other)).rstrip('/')}/*"


@dataclass(frozen=True, slots=True)
class DecoyDetector:
    """Proves decoys, and stores them for all workers. The caller holds the origin's lock."""

    repository: OriginRepository
    seen: SeenDigests
    random: Random

    async def is_decoy(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Return whether the bytes that this link gave under this rule are proven to be a decoy.

        Raises:
            Transient: the bytes must not be held before they are examined.
            LearnedElsewhere: another worker learns the origin.
        """
        origin, place = probe.origin, probe.place(rule)
        if origin.is_decoy_at(place, digest):
            return True
        is_known = self.is_known_elsewhere(probe, rule, digest)
        if is_known and await self._comes_here_too(probe, rule, digest):
            return True
        if not is_known and rule != origin.rule and await self._comes_for_anything(probe, rule, digest):
            return True
        other = self.seen.add(scope(origin.origin, place), digest, probe.target)
        return other is not None and await self.is_shared_decoy(probe, rule, digest, other)

    def is_known_elsewhere(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Return whether these bytes are a decoy of some place of the origin, and not examined at this link's yet."""
        origin = probe.origin
        return digest in origin.decoys and not self.seen.is_genuine(origin.origin + probe.place(rule), digest)

    async def is_shared_decoy(self, probe: LinkProbe, rule: str, digest: str, other: Target) -> bool:
        """Return whether bytes that this link and another one gave are a decoy; raises as `is_decoy` does."""
        origin, place = probe.origin, probe.place(rule)
        if not origin.is_settled:
            await self.load_good_links(origin)
        # While the origin is being learned, a control that was made for the link before serves for this one.
        needs_control = rule not in probe.controlled and (origin.is_settled or origin.controlled_rule != rule)
        if needs_control and await self._comes_for_anything(probe, rule, digest):
            return True
        is_beside = folder_of(other.url) == folder_of(probe.target.url)
        for another in probe.chain if is_beside else ():
            if another in probe.answers or another == rule:
                continue
            if not await probe.spend():
                return await self._is_decoy_unexamined(probe, rule, digest)
            if await self._differ_under(another, probe, digest, other):
                await self._add(origin, place, digest, f"two links give it under {rule}, two pictures under {another}")
                return True
        if await self._has_replaced_image(probe, rule, digest):
            return True
        self.seen.add_genuine(scope(origin.origin, place) if is_beside else origin.origin + place, digest)
        origin.is_settled = True
        return False

    async def examine_copy(self, probe: LinkProbe, digest: str) -> Evidence:
        """Return the evidence that a copy of this link is a decoy, after a control beside the link if that adds to it.

        A control counts only if no redirect led it to another site. Without evidence the copy stays as it is.
        """
        origin, folder = probe.origin, folder_of(probe.target.url)
        known = await self.repository.evidence(origin.origin, folder, digest)
        if known in {Evidence.FIRST, Evidence.CONFIRMED}:
            return known
        agrees = await self._gives_for_anything(probe, digest)
        if agrees is None:
            return known
        if not agrees:
            return Evidence.NONE
        if known is Evidence.NONE:
            await self._store(origin, folder, digest, "comes beside a copy for paths where nothing is")
            return Evidence.FIRST
        await self.repository.confirm_decoy(origin.origin, folder, digest)
        return Evidence.CONFIRMED

    async def _gives_for_anything(self, probe: LinkProbe, digest: str) -> bool | None:
        """Return whether URLs beside the link that cannot be it give these bytes; None if that cannot be said now."""
        is_certain = True
        for rule in dict.fromkeys((probe.first_rule(), probe.chain[0])):
            for url in control_urls(probe.target.url, self.random):
                answer = await probe.ask_for(Target(url, probe.target.page_url), rule)
                is_certain = is_certain and not isinstance(answer, Transient)
                if isinstance(answer, VisitError) or answer.download.digest != digest:
                    break
                if is_away(url, host_of(answer.download.final_url)):
                    break
            else:
                return True
        return False if is_certain else None

    async def load_good_links(self, origin: OriginState) -> None:
        """Load, once, links of this origin that worked before this process began."""
        if origin.has_loaded_good_links:
            return
        held = await self.repository.good_links(host_of(origin.origin))
        normalised = [link._replace(url=request_url(link.url, link.page_url)) for link in held]
        origin.load_good_links(link for link in normalised if origin_of(link.url) == origin.origin)

    async def _comes_for_anything(self, probe: LinkProbe, rule: str, digest: str, *, extra: bool = True) -> bool | None:
        """Return whether URLs that cannot be this image give the same bytes (proof 1); None if that cannot be said."""
        origin, place = probe.origin, probe.place(rule)
        places = []
        for url in control_urls(probe.target.url, self.random):
            control = Target(url, probe.target.page_url)
            answer = await (probe.ask_extra(control, rule) if extra else probe.ask_for(control, rule))
            if answer is None:
                # Another worker may have spent the extra requests on these very bytes since the ledger was read.
                origin.add_decoys(await self.repository.decoys(origin.origin))
                return origin.is_decoy_at(place, digest) or None
            if isinstance(answer, Transient):
                return None  # says nothing about the URL, only about the moment
            origin.controlled_rule = rule
            probe.controlled.add(rule)
            if isinstance(answer, VisitError):
                return False
            found = _place_with(url, probe.target.url, answer.download.final_url)
            is_other_site = scope(origin.origin, found) != scope(origin.origin, place)
            if answer.download.digest != digest or is_other_site:
                await self._add(origin, found, answer.download.digest, "comes for a path where nothing is")
                return False
            places.append(found)
        for found in places:
            await self._add(origin, found, digest, f"comes under {rule} for paths where nothing is")
        return True

    async def _differ_under(self, rule: str, probe: LinkProbe, digest: str, other: Target) -> bool:
        """Return whether under this rule both links give images, other than those bytes and not the same (proof 2).

        None of them across a redirect to another site.
        """
        mine = await probe.try_rule(rule)
        if isinstance(mine, VisitError) or mine.download.digest in probe.origin.decoys.keys() | {digest}:
            return False
        theirs = await probe.ask_extra(other, rule)
        if theirs is None or isinstance(theirs, VisitError):
            return False
        if probe.is_away(rule) or is_away(other.url, host_of(theirs.download.final_url)):
            return False
        return theirs.download.digest not in {digest, mine.download.digest}

    async def _is_decoy_unexamined(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Count repeated bytes that cannot be examined; after many, check whether the origin has changed.

        Raises:
            Transient: so many links give them that they must not be held before that could be checked.
        """
        origin = probe.origin
        origin.is_settled = True
        origin.repeats += not probe.is_repeat_counted
        probe.is_repeat_counted = True
        return origin.has_repeated_many() and await self._has_replaced_image(probe, rule, digest)

    async def _has_replaced_image(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Return whether a link that gave other bytes before gives these now (proof 3).

        Where that link is in another folder, a control has to agree.
        """
        origin = probe.origin
        link = origin.good_link(other_than=digest, beside=folder_of(probe.target.url))
        if link is None:
            return False
        answer = await probe.check(link)
        if answer is None:
            if origin.repeats < MOST_PATIENCE:
                return False
            evidence = f"the same picture for {origin.repeats} links in a row, and no extra request left to examine it"
            raise Transient(Reason.DECOY, evidence, retry_after=FRESH_SECONDS)
        if isinstance(answer, VisitError) or answer.download.digest != digest:
            origin.confirm_rule()
            return False
        place = place_of(link.url, answer.download.final_url)
        await self._add(origin, place, digest, "comes for a link that gave other bytes before")
        if place == probe.place(rule):
            return True
        return await self._comes_here_too(probe, rule, digest)

    async def _comes_here_too(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Return whether bytes that are a decoy elsewhere at the origin come for anything beside this link.

        The controls are the link's own, at most two: if they came out of the origin's extra requests, a stranger could
        spend those, and have images refused, or decoys accepted, in folders of others.

        Raises:
            Transient: the controls failed for a passing cause.
        """
        is_decoy = await self._comes_for_anything(probe, rule, digest, extra=False)
        if is_decoy is None:
            raise Transient(Reason.DECOY, "the bytes are a decoy of another folder, and no control was answered here")
        if not is_decoy:
            self.seen.add_genuine(probe.origin.origin + probe.place(rule), digest)
        return is_decoy

    async def _add(self, origin: OriginState, place: str, digest: str, evidence: str) -> None:
        if not self.seen.is_genuine(scope(origin.origin, place), digest):
            await self._store(origin, place, digest, evidence)

    async def _store(self, origin: OriginState, place: str, digest: str, evidence: str) -> None:
        origin.add_decoys({digest: {place}})
        await self.repository.add_decoy(origin.origin, place, digest, evidence)


def scope(origin: str, place: str) -> str:
    """Return the scope of SeenDigests for an answer of a place: the origin and, if it came from there, another site."""
    return origin + "".join(place.partition(" ")[1:])
