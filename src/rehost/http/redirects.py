"""The way of one attempt: a request and, where it is redirected, its hops, each consented to and guarded anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from rehost.errors import Permanent
from rehost.fetch import status as verdict
from rehost.http.body import drain
from rehost.http.pool import ConnectionPool
from rehost.http.response import Response
from rehost.http.url import host_of, next_hop
from rehost.model import Reason


class Hops(Protocol):
    """Who lets requests go for which no turn is taken: hops of redirects, robots.txt (hosts/scheduler.py)."""

    async def unscheduled(self, host: str) -> None:
        """Return as soon as one may be sent to this host; raises Withheld."""
        ...

    def unscheduled_succeeded(self, host: str) -> None:
        """Take it that one has ended well. Of one that did not, the error says so, by its `host`."""
        ...


class RedirectChain:
    """What one attempt asks for, one request after the other.

    Attributes:
        host: who was asked last; None as long as nobody was.
    """

    def __init__(
        self,
        wire: ConnectionPool,
        max_redirects: int,
        hops: Hops | None,
        *,
        has_turn: bool,
        consent: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Begin.

        Args:
            wire: sends each request.
            max_redirects: hops that are followed.
            hops: lets them go.
            has_turn: whether somebody has a turn for the first request; all others are hops.
            consent: is asked before each request, and raises VisitError where there is none.
        """
        self.host: str | None = None
        self._wire = wire
        self._max_redirects = max_redirects
        self._hops = hops
        self._has_turn = has_turn
        self._consent = consent
        self._hop: str | None = None  # to whom one is under way

    async def answer(self, url: str, fields: Mapping[str, str]) -> tuple[str, Response]:
        """Return the first answer that is no redirect, which the caller closes, and the URL that it came from."""
        link, seen = url, {url}
        while True:
            await self._begin(url)
            answer = await self._wire.get(url, _fit_for(url, link, fields))
            location = answer.headers.get("Location") if answer.status in verdict.REDIRECTS else None
            if not location:
                return url, answer
            async with answer:
                await drain(answer)
            url = next_hop(url, location)
            if url in seen:  # without cookies the same question gets the same answer
                raise Permanent(Reason.TOO_MANY_REDIRECTS, "a circle")
            if len(seen) > self._max_redirects:
                raise Permanent(Reason.TOO_MANY_REDIRECTS, f"more than {self._max_redirects}")
            seen.add(url)

    def end(self) -> None:
        """Take it that who was asked last has answered well."""
        hop, self._hop = self._hop, None
        if hop is not None and self._hops is not None:
            self._hops.unscheduled_succeeded(hop)

    async def _begin(self, url: str) -> None:
        """Return when this may be asked for."""
        self.end()
        if self._consent is not None:
            await self._consent(url)
        host = host_of(url)
        if not self._has_turn:
            if self._hops is not None:
                await self._hops.unscheduled(host)
            self._hop = host
        self.host, self._has_turn = host, False


def _fit_for(url: str, link: str, fields: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields that a hop may see: over http none that tells of a page of https (RFC 9110, section 10.1.3).

    Over http from the start, the Referer is one that was chosen for http.
    """
    goes_down = link.startswith("https:") and url.startswith("http:")
    if not goes_down or not fields.get("Referer", "").startswith("https:"):
        return fields
    return {name: value for name, value in fields.items() if name != "Referer"}
