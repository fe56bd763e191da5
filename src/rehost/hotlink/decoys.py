"""Whether bytes are a decoy: when they are suspect, and what proves it (hotlink/learner.py lists the proofs).

A decoy is a notice ("this picture is from elsewhere") that an origin sends, with status 200, in place of the image: the
same bytes for every link. The same bytes alone prove nothing: shops show one logo under many links.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit, urlunsplit

from cachetools import LRUCache

from rehost.errors import Transient, VisitError
from rehost.fetch.reasons import request_url
from rehost.hotlink.origin_state import FRESH_SECONDS, MOST_PATIENCE, OriginState
from rehost.hotlink.referers import LinkProbe, Target
from rehost.hotlink.repository import OriginRepository
from rehost.http.url import host_of, origin_of
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
        self._first: LRUCache[tuple[str, str], Target] = LRUCache(most)  # by origin and digest
        self._genuine: LRUCache[tuple[str, str], None] = LRUCache(most)

    def add(self, origin: str, digest: str, target: Target) -> Target | None:
        """Remember that this URL gave these bytes; return another link of the origin that gave them, if any.

        None for bytes that were found genuine. The same URL in several rows is one link.
        """
        if self.is_genuine(origin, digest):
            return None
        first = self._first.setdefault((origin, digest), target)
        return None if first.url == target.url else first

    def is_genuine(self, origin: str, digest: str) -> bool:
        """Return whether these bytes were examined and found to be an image that several links share."""
        return (origin, digest) in self._genuine

    def add_genuine(self, origin: str, digest: str) -> None:
        """Remember that these bytes are an image that several links share."""
        self._genuine[origin, digest] = None

    def forget_genuine(self, origin: str) -> None:
        """Suspect again what was found genuine, because the origin has changed."""
        for key in [key for key in self._genuine if key[0] == origin]:
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


@dataclass(frozen=True, slots=True)
class DecoyDetector:
    """Proves decoys, and stores them for all workers. The caller holds the origin's lock."""

    repository: OriginRepository
    seen: SeenDigests
    random: Random

    async def is_decoy(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Return whether the bytes that this link gave under this rule are proven to be a decoy.

        Raises:
            Transient: so many links give them that they must not be held before they are examined.
            LearnedElsewhere: another worker learns the origin.
        """
        origin = probe.origin
        if digest in origin.decoys:
            return True
        if rule != origin.rule and await self._comes_for_anything(probe, rule, digest):
            return True
        other = self.seen.add(origin.origin, digest, probe.target)
        return other is not None and await self.is_shared_decoy(probe, rule, digest, other)

    async def is_shared_decoy(self, probe: LinkProbe, rule: str, digest: str, other: Target) -> bool:
        """Return whether bytes that this link and another one gave are a decoy; raises as `is_decoy` does."""
        origin = probe.origin
        if not origin.is_settled:
            await self.load_good_links(origin)
        # While the origin is being learned, a control that was made for the link before serves for this one.
        needs_control = origin.is_settled or origin.controlled_rule != rule
        if needs_control and await self._comes_for_anything(probe, rule, digest):
            return True
        for another in probe.chain:
            if another in probe.answers or another == rule:
                continue
            if not await probe.spend():
                return await self._is_decoy_unexamined(probe, digest)
            if await self._differ_under(another, probe, digest, other):
                await self._add(origin, digest, f"two links give it under {rule}, and two pictures under {another}")
                return True
        if await self._has_replaced_image(probe, digest):
            return True
        self.seen.add_genuine(origin.origin, digest)
        origin.is_settled = True
        return False

    async def load_good_links(self, origin: OriginState) -> None:
        """Load, once, links of this origin that worked before this process began."""
        if origin.has_loaded_good_links:
            return
        held = await self.repository.good_links(host_of(origin.origin))
        normalised = [link._replace(url=request_url(link.url)) for link in held]
        origin.load_good_links(link for link in normalised if origin_of(link.url) == origin.origin)

    async def _comes_for_anything(self, probe: LinkProbe, rule: str, digest: str) -> bool:
        """Return whether URLs that cannot be this image give the same bytes (proof 1)."""
        origin = probe.origin
        for url in control_urls(probe.target.url, self.random):
            answer = await probe.ask_extra(Target(url, probe.target.page_url), rule)
            if answer is None:
                # Another worker may have spent the extra requests on these very bytes since the ledger was read.
                origin.add_decoys(await self.repository.decoys(origin.origin))
                return digest in origin.decoys
            if isinstance(answer, Transient):
                return False  # says nothing about the URL, only about the moment
            origin.controlled_rule = rule
            if isinstance(answer, VisitError):
                return False
            if answer.download.digest != digest:
                await self._add(origin, answer.download.digest, "comes for a path where nothing is")
                return False
        await self._add(origin, digest, f"comes under {rule} for paths where nothing is")
        return True

    async def _differ_under(self, rule: str, probe: LinkProbe, digest: str, other: Target) -> bool:
        """Return whether under this rule both links give images, other than those bytes and not the same (proof 2)."""
        mine = await probe.try_rule(rule)
        if isinstance(mine, VisitError) or mine.download.digest in probe.origin.decoys | {digest}:
            return False
        theirs = await probe.ask_extra(other, rule)
        if theirs is None or isinstance(theirs, VisitError):
            return False
        return theirs.download.digest not in {digest, mine.download.digest}

    async def _is_decoy_unexamined(self, probe: LinkProbe, digest: str) -> bool:
        """Count repeated bytes that cannot be examined; after many, check whether the origin has changed.

        Raises:
            Transient: so many links give them that they must not be held before that could be checked.
        """
        origin = probe.origin
        origin.is_settled = True
        origin.repeats += not probe.is_repeat_counted
        probe.is_repeat_counted = True
        return origin.has_repeated_many() and await self._has_replaced_image(probe, digest)

    async def _has_replaced_image(self, probe: LinkProbe, digest: str) -> bool:
        """Return whether a link that gave other bytes before gives these now (proof 3)."""
        origin = probe.origin
        link = origin.good_link(other_than=digest)
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
        await self._add(origin, digest, "comes for a link that gave other bytes before")
        return True

    async def _add(self, origin: OriginState, digest: str, evidence: str) -> None:
        if not self.seen.is_genuine(origin.origin, digest):
            origin.add_decoys({digest})
            await self.repository.add_decoy(origin.origin, digest, evidence)
