"""The Referer headers to try for a link, from the least revealing to the row's own page.

Two opposite families of origins are common: one refuses a foreign Referer but takes none, one demands a page of its
own site. The chain tries what reveals least first; hotlink/learner.py walks it.

LinkProbe is one link that is requested under one Referer after another: the answer to each request, and the spools.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from rehost.attempt import FetchedImage, ImageFetcher, VisitLog
from rehost.errors import Permanent, VisitError
from rehost.hotlink.origin_state import OriginState
from rehost.hotlink.repository import KnownGoodLink
from rehost.http.errors import InvalidUrl
from rehost.http.url import (
    FirstMatch,
    OriginPattern,
    domain_of,
    folder_of,
    host_of,
    normalise,
    origin_of,
    registrable_domain,
)
from rehost.model import REFUSALS, Download, Reason, Referer

AUTO = "auto"
_OF_EVERY_LINK = frozenset({Referer.NONE.value, Referer.ORIGIN.value})  # rules that are in the chain of each


class Referers:
    """The rules for each link: those to try, or the one that the operator has set."""

    def __init__(self, default: str = AUTO, patterns: Sequence[tuple[str, str]] = ()) -> None:
        """Take the operator's settings.

        Args:
            default: auto, a Referer's value, or a fixed URL, for every origin that no pattern names.
            patterns: (pattern, rule); a pattern is a host such as `*.example.com`, or `scheme://host[:port]`. The
                first that matches wins.
        """
        self._rules = FirstMatch([(OriginPattern(pattern), rule) for pattern, rule in patterns], default)

    def forced(self, url: str) -> str | None:
        """Return the rule that the operator has set for this URL's origin; None if it must be learned."""
        rule = self._rules.of_origin(origin_of(url))
        return None if rule == AUTO else rule

    def chain(self, url: str, page_url: str | None) -> tuple[str, ...]:
        """Return the rules to try for this link, in order; never empty, and no two of them send the same header."""
        forced = self.forced(url)
        if forced is not None:
            return (forced,)
        headers: dict[str | None, str] = {None: Referer.NONE.value}
        for rule in (Referer.ORIGIN, Referer.SITE, Referer.PAGE):
            headers.setdefault(self.header(rule, url, page_url), rule.value)
        return tuple(headers.values())

    def withholds_page(self, url: str, page_url: str | None) -> bool:
        """Return whether the page is a rule of this link, but is not sent because the link leads from https to http.

        RFC 9110, section 10.1.3; Referrer Policy, section 3.2, no-referrer-when-downgrade.
        """
        page = _clean(page_url) if page_url and self.forced(url) in {None, Referer.PAGE} else None
        return page is not None and page.startswith("https:") and url.startswith("http:")

    def header(self, rule: str, url: str, page_url: str | None) -> str | None:
        """Return the Referer to send for a normalised URL under a rule; None for no header.

        Without fragment and credentials (RFC 9110, section 10.1.3). The address of an https page is never sent over
        http (`withholds_page`).
        """
        match rule:
            case Referer.NONE:
                return None
            case Referer.ORIGIN:
                return f"{origin_of(url)}/"
            case Referer.SITE:
                domain = registrable_domain(host_of(url))
                return f"https://www.{domain}/" if domain else None
            case Referer.PAGE:
                page = _clean(page_url) if page_url else None
                return None if page and page.startswith("https:") and url.startswith("http:") else page
            case _:
                return _clean(rule)


def _clean(page_url: str) -> str | None:
    """Return a page's URL as it may be sent; None if it is not a URL."""
    try:
        return normalise(page_url)
    except InvalidUrl:
        return None


Answer = FetchedImage | VisitError
"""An image, or why none came."""


class Target(NamedTuple):
    """A URL to request, and the page that shows it."""

    url: str  # normalised
    page_url: str | None


def is_away(url: str, host: str) -> bool:
    """Return whether a host belongs to another site than a URL: to another registrable domain."""
    return host != host_of(url) and domain_of(host) != domain_of(host_of(url))


def place_of(url: str, final_url: str) -> str:
    """Return where an answer belongs: the folder of the URL and, if a redirect led to another site, that site.

    The author of a redirect chooses its target, and so the answer. Such an answer says nothing about the answers that
    the folder itself gives, and the other way round.
    """
    host = host_of(final_url)
    return f"{folder_of(url)} {domain_of(host)}" if is_away(url, host) else folder_of(url)


@dataclass(slots=True)
class LinkProbe:
    """The requests for one link. Use it as a context manager: at its end it removes the spools that were not taken."""

    target: Target
    origin: OriginState
    referers: Referers
    images: ImageFetcher
    log: VisitLog
    answers: dict[str, Answer] = field(default_factory=dict)  # by rule
    decoys: set[str] = field(default_factory=set)  # rules under which a decoy came
    is_refusal_counted: bool = False  # once per link, however often the link is tried
    is_repeat_counted: bool = False
    controlled: set[str] = field(default_factory=set)  # rules under which a control for this link was answered
    _downloads: list[Download] = field(default_factory=list)
    _chain: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for download in self._downloads:
            download.spool.unlink(missing_ok=True)

    @property
    def chain(self) -> tuple[str, ...]:
        """The rules to try, in order."""
        self._chain = self._chain or self.referers.chain(*self.target)
        return self._chain

    def first_rule(self) -> str:
        """Return the rule to try first: the origin's, or the one nearest to it that this link has."""
        rule = self.origin.rule
        is_common = rule in _OF_EVERY_LINK and self.referers.forced(self.target.url) is None
        if rule is not None and (is_common or rule in self.chain):
            return rule
        return self.chain[-1 if rule == Referer.PAGE else 0]

    def order(self) -> Iterator[str]:
        """Yield the rules to try; what follows a rule depends on the answer under it."""
        first = self.first_rule()
        yield first
        if (away := self.away_rule()) is not None:
            yield away
        yield from (rule for rule in self.chain if rule != first)

    def away_rule(self) -> str | None:
        """Return the rule that another site wants, if the first request was answered by another site."""
        rule, first = self.origin.away_rule, self.first_rule()
        return rule if rule in self.chain and rule != first and first in self.answers and self.is_away(first) else None

    def is_away(self, rule: str) -> bool:
        """Return whether the answer under a rule came from another site, across a redirect."""
        answer = self.answers[rule]
        url = answer.origin if isinstance(answer, VisitError) else answer.download.final_url
        return url is not None and is_away(self.target.url, host_of(url))

    def place(self, rule: str) -> str:
        """Return the place of the image under a rule; of one that was not requested now, the link's folder."""
        answer = self.answers.get(rule)
        image = None if isinstance(answer, VisitError) else answer
        return place_of(self.target.url, image.download.final_url if image else self.target.url)

    def take(self, rule: str) -> FetchedImage:
        """Return the image that came under a rule; removing its spool is up to the caller now."""
        image = self.answers[rule]
        assert not isinstance(image, VisitError)
        self._downloads.remove(image.download)
        return image

    async def ask(self, rule: str, *, extra: bool) -> Answer:
        """Request the link under a rule, in a single attempt if the request is an extra one.

        Raises:
            VisitError: no other Referer would cure it.
        """
        answer = await self.try_rule(rule, extra=extra)
        if isinstance(answer, VisitError) and not is_refusal(answer):
            raise answer
        return answer

    async def try_rule(self, rule: str, *, extra: bool = True) -> Answer:
        """Request the link under a rule; an image or a refusal is kept as the answer under that rule."""
        answer = await self.ask_for(self.target, rule, extra=extra)
        if not isinstance(answer, VisitError) or is_refusal(answer):
            self.answers[rule] = answer
        return answer

    async def ask_for(self, target: Target, rule: str, *, extra: bool = True) -> Answer:
        """Request any URL of the origin under a rule."""
        try:
            image = await self.images.fetch(target.url, self.referers.header(rule, *target), self.log, once=extra)
        except VisitError as error:
            return error
        self._downloads.append(image.download)
        return image

    async def spend(self, *, keep: int | None = None) -> bool:
        """Take one of the origin's extra requests, if more than `keep` are left.

        By default one is kept, once the origin is settled, to recognise that it has changed.

        Raises:
            LearnedElsewhere: another worker learns the origin.
        """
        keep = int(self.origin.is_settled) if keep is None else keep
        is_unknown = self.origin.rule is None and self.referers.forced(self.target.url) is None
        return await self.origin.budget.spend(folder_of(self.target.url) if is_unknown else "", keep=keep)

    async def ask_extra(self, target: Target, rule: str) -> Answer | None:
        """Request any URL of the origin with an extra request; None if none is left for it."""
        return await self.ask_for(target, rule) if await self.spend() else None

    async def check(self, link: KnownGoodLink) -> Answer | None:
        """Request a link that worked, under the rule that worked; None if no extra request is left for it."""
        if not await self.origin.budget.spend_on_check():
            return None
        return await self.ask_for(Target(link.url, link.page_url), self.origin.rule or self.chain[0])

    def failure(self) -> Permanent:
        """Return why the link has no image: the most telling of all the answers, and the rules that were not tried."""
        refusals = [answer for answer in self.answers.values() if isinstance(answer, VisitError)]
        reasons = {error.reason for error in refusals} | ({Reason.DECOY} if self.decoys else set())
        reason = next(each for each in (Reason.DECOY, Reason.HOTLINK_REFUSED, Reason.NOT_AN_IMAGE) if each in reasons)
        notes = [self.evidence()]
        if untried := self.untried():
            notes.append(f"not tried: {', '.join(untried)}, because no extra request is left")
        if self.referers.withholds_page(*self.target):
            notes.append("page: not tried, because an https page sends no Referer to http")
        return Permanent(reason, "; ".join(notes))

    def untried(self) -> list[str]:
        """Return the rules that the link was not requested under."""
        return [rule for rule in self.chain if rule not in self.answers]

    def evidence(self) -> str:
        """Return the answer under each rule, in one line."""
        return "; ".join(
            f"{'no Referer' if rule == 'none' else rule}: {self._described(rule, answer)}"
            for rule, answer in self.answers.items()
        )

    def _described(self, rule: str, answer: Answer) -> str:
        if isinstance(answer, VisitError):
            return answer.evidence or str(answer.reason)
        return f"decoy ({answer.download.digest[:12]})" if rule in self.decoys else "picture"


def is_refusal(error: VisitError) -> bool:
    """Return whether the origin might have answered otherwise under another Referer."""
    return error.reason in REFUSALS
