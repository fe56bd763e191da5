"""The Referer headers to try for a link, from the least revealing to the row's own page. Pure.

Two opposite families of origins are common: one refuses a foreign Referer but takes none, one demands a page of its
own site. The chain tries what reveals least first; hotlink/learner.py walks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

from rehost.http.errors import InvalidUrl
from rehost.http.url import OriginPattern, host_of, normalise, origin_of
from rehost.model import Referer

AUTO = "auto"
_HOSTS_AT_HAND = 4096


class Referers:
    """The rules for each link: those to try, or the one that the operator has set."""

    def __init__(self, default: str = AUTO, patterns: Sequence[tuple[str, str]] = ()) -> None:
        """Take the operator's settings.

        Args:
            default: auto, a Referer's value, or a fixed URL, for every origin that no pattern names.
            patterns: (pattern, rule); a pattern is a host such as `*.example.com`, or `scheme://host[:port]`. The
                first that fits wins.
        """
        self._default = default
        self._patterns = tuple((OriginPattern(pattern), rule) for pattern, rule in patterns)

    def forced(self, url: str) -> str | None:
        """Return the rule that the operator has set for this URL's origin; None if it must be learned."""
        rule = next((rule for pattern, rule in self._patterns if pattern.matches(url)), self._default)
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

    def header(self, rule: str, url: str, page_url: str | None) -> str | None:
        """Return the Referer to send for a normalised URL under a rule; None for no header.

        Without fragment and credentials (RFC 9110, section 10.1.3). The address of an https page is never sent over
        http (same section).
        """
        match rule:
            case Referer.NONE:
                return None
            case Referer.ORIGIN:
                return f"{origin_of(url)}/"
            case Referer.SITE:
                domain = self.registrable(host_of(url))
                return f"https://www.{domain}/" if domain else None
            case Referer.PAGE:
                page = _clean(page_url) if page_url else None
                return None if page and page.startswith("https:") and url.startswith("http:") else page
            case _:
                return _clean(rule)

    def registrable(self, host: str) -> str | None:
        """Return the registrable domain of a host (Public Suffix List, both sections); None for an address."""
        labels = host.rstrip(".").split(".")
        if len(labels) == 1 or labels[-1].isdigit():  # WHATWG: a host that ends in a number is an IPv4 address
            return None
        found = self._suffixes(host.rstrip("."))
        return ".".join(labels[-found - 1 :]) if len(labels) > found else None

    @cached_property
    def _suffixes(self) -> Callable[[str], int]:
        """The number of labels in a host's public suffix, by the list that comes with tldextract: no network."""
        import tldextract  # noqa: PLC0415 - takes 0.2 s, and most commands never need it

        extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)

        @lru_cache(_HOSTS_AT_HAND)
        def count(host: str) -> int:
            suffix = extract.extract_str(host).suffix
            # publicsuffix.org/list, "Formal Algorithm", step 2: where no rule matches, the rule is `*`.
            return suffix.count(".") + 1 if suffix else 1

        return count


def _clean(page_url: str) -> str | None:
    """Return a page's URL as it may be sent; None if it is not a URL."""
    try:
        return normalise(page_url)
    except InvalidUrl:
        return None
