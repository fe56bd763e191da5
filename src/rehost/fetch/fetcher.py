"""One GET, its redirects, ranges and limits: a complete body on disk, or the reason why there is none.

way.py leads from hop to hop. Here is what one attempt may do with the answer at its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from rehost.clock import Clock
from rehost.errors import Permanent, SlowToAnswer, Transient, VisitError
from rehost.fetch import robots
from rehost.fetch import status as verdict
from rehost.fetch.download_file import Spool
from rehost.fetch.ttl_cache import Remembered
from rehost.http import connect as dial
from rehost.http import ranges as condition
from rehost.http.address_policy import AddressPolicy
from rehost.http.body import beginning, drain, receive
from rehost.http.coding import is_coded
from rehost.http.dns import Detour, Detours, Resolver, SystemResolver
from rehost.http.pool import ConnectionPool
from rehost.http.proxy import Proxies
from rehost.http.redirects import Hops, RedirectChain
from rehost.http.response import Response
from rehost.http.url import host_of, origin_of
from rehost.model import Download, NotModified, Partial, Reason, Request, Validator

_NAMES_SECONDS = 60.0  # after this a name is looked up again
_PARTIAL_CONTENT, _NOT_MODIFIED, _RANGE_NOT_SATISFIABLE = 206, 304, 416


@dataclass(slots=True)
class _Body:
    """What this attempt has on disk, on which way it comes, and what allows a later one to go on from it."""

    spool: Spool
    way: RedirectChain
    kept: Partial | None = None  # an earlier attempt's, not read yet
    validator: Validator | None = None  # a strong one, of what is being received
    size: int | None = None  # of the whole, where its rest is being received
    waited_seconds: float = 0.0  # until its answer began

    def partial(self) -> Partial | None:
        """Return the beginning of a body that a next attempt may go on from."""
        if self.kept is not None:
            return self.kept
        if self.validator is not None and self.spool.size:
            return Partial(self.spool.path, self.spool.size, self.validator)
        return None


class Client:
    """Fetches, politely and safely. An async context manager, for one event loop."""

    def __init__(  # noqa: PLR0913 - each limit is a setting of its own, given by name
        self,
        guard: AddressPolicy,
        *,
        clock: Clock,
        timeout_seconds: float,
        max_bytes: int,
        max_redirects: int,
        user_agent: str,
        concurrency: int,
        connect_to: Sequence[Detour] = (),
        proxies: Proxies | None = None,
        headers_for: Callable[[str], Mapping[str, str]] | None = None,
        obeys_robots: Callable[[str], bool] | None = None,
        lookup: Resolver | None = None,
        hops: Hops | None = None,
        connect_seconds: float = dial.CONNECT_SECONDS,
    ) -> None:
        """Take parts and limits; nothing is opened yet.

        Args:
            guard: says which addresses may be connected to.
            clock: tells what a Retry-After date means.
            timeout_seconds: for one attempt in all, its redirects included.
            max_bytes: of a body, after its coding is undone.
            max_redirects: hops that are followed.
            user_agent: what we call ourselves.
            concurrency: connections at once, idle ones included.
            connect_to: host, port, address, port; a detour is taken directly, never through a proxy.
            proxies: what the environment says of them.
            headers_for: gives an origin's own header fields (User-Agent, Cookie, ...), which no other one gets to see.
            obeys_robots: says for which origins robots.txt and X-Robots-Tag are obeyed; for none if None.
            lookup: finds the addresses of names; the machine's resolver if None.
            hops: lets each request go but a fetch's first one: for that, whoever fetches has a turn.
            connect_seconds: for each connection: a host that is not there is known soon.
        """
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._fields = {"User-Agent": user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        self._obeys_robots = obeys_robots
        self._hops = hops
        self._robots = robots.Robots(self._robots_txt, clock)
        names = Remembered(lookup or SystemResolver(), _NAMES_SECONDS, clock)
        dialler = dial.Connector(guard, names, Detours(connect_to), proxies or Proxies(), connect_seconds)
        self._wire = ConnectionPool(dialler, headers_for, concurrency)

    async def __aenter__(self) -> Self:
        await self._wire.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._wire.__aexit__(*exception)

    async def fetch(self, request: Request) -> Download | NotModified:
        """Return a complete body in `request.spool`, or that nothing has changed.

        Never connects to an address that the policy refuses, never takes longer than one attempt may, never writes more
        than the caps allow. On an error the spool is removed, unless the error carries it as its `partial`; where a
        redirect led to another host, the error names it as its `host`.

        Raises:
            VisitError: whatever the origin did; Transient where a second try may cure it.
            StoreError: the spool cannot be written.
        """
        body = _Body(Spool(request.spool, self._max_bytes), self._way(has_turn=True))
        try:
            result = await self._bounded(request, body)
        except VisitError as error:
            body.spool.close()
            asked = error.host or body.way.host
            error.host = asked if asked != host_of(request.url) else None
            error.partial = body.partial() if isinstance(error, Transient) else None
            if error.partial is None:
                body.spool.remove()
            raise
        except BaseException:
            body.spool.remove()
            raise
        body.way.end()
        return result

    async def _bounded(self, request: Request, body: _Body) -> Download | NotModified:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._attempt(request, body)
        except TimeoutError as error:
            evidence = f"{body.spool.size} bytes in {self._timeout_seconds:g} s"
            raise Transient(Reason.TIMED_OUT, evidence) from error

    async def _attempt(self, request: Request, body: _Body) -> Download | NotModified:
        """Ask for what is missing; where the origin's rest does not fit what we have, for the whole, at once."""
        if request.partial is not None:
            body.spool.take_over(request.partial.spool)
            body.kept = replace(request.partial, spool=request.spool)
        url, answer = await self._answered(request, body)
        async with answer:
            if body.kept is None or answer.status not in {_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE}:
                return await self._take(url, answer, request, body)
            if await self._fits(answer, body.kept, body):
                return await self._receive(url, answer, body)
        body.kept, request = None, replace(request, partial=None)
        url, answer = await self._final(request, body)
        async with answer:
            return await self._take(url, answer, request, body)

    async def _fits(self, answer: Response, kept: Partial, body: _Body) -> bool:
        """Return whether the answer is the rest of what we have; if so the spool is ready to take it."""
        if answer.status != _PARTIAL_CONTENT:
            return False
        size = condition.whole_size(answer.headers, kept.size, kept.validator.etag)
        if size is None or not await body.spool.reread(kept.size):
            return False
        body.kept, body.validator, body.size = None, kept.validator, size
        return True

    async def _take(self, url: str, answer: Response, request: Request, body: _Body) -> Download | NotModified:
        """Judge a final answer and receive its body from the first byte on."""
        if answer.status == _NOT_MODIFIED and request.validator is not None and request.partial is None:
            return NotModified(url, condition.validator_of(answer.headers))
        if answer.status in {_PARTIAL_CONTENT, _NOT_MODIFIED}:
            raise Permanent(Reason.MALFORMED, f"status {answer.status}, which was not asked for")
        wait = verdict.retry_after_seconds(
            answer.headers.get("Retry-After"), answer.headers.get("Date"), self._clock.now()
        )
        error = verdict.of_status(answer.status, wait) or self._unwanted(url, answer)
        if error is not None:
            await drain(answer)
            raise error
        body.kept = None
        body.spool.start()
        return await self._receive(url, answer, body)

    async def _receive(self, url: str, answer: Response, body: _Body) -> Download:
        """Write the body, as it comes, to the end."""
        spool = body.spool
        validator = body.validator or condition.validator_of(answer.headers)
        if not is_coded(answer.headers.listed("Content-Encoding")):  # a range of it is one of the picture's bytes
            if spool.size + (answer.length or 0) > self._max_bytes:
                raise Permanent(Reason.TOO_LARGE, f"{answer.length} bytes announced")
            body.validator = validator if condition.is_strong(validator) else None
        await receive(answer, spool.write)
        if body.size is not None and spool.size > body.size:
            raise Permanent(Reason.MALFORMED, "more bytes than announced")
        if body.size is not None and spool.size < body.size:
            raise Transient(Reason.TRUNCATED, f"{spool.size} of {body.size} bytes")
        if not spool.size:
            raise Permanent(Reason.EMPTY, "no bytes in the body")
        spool.close()
        kind, waited = condition.media_type(answer.headers), body.waited_seconds
        return Download(spool.path, spool.size, spool.digest, url, validator, answer.status, kind, waited)

    async def _answered(self, request: Request, body: _Body) -> tuple[str, Response]:
        """Return what `_final` does, if the answer begins within the time that the request has for it."""
        began, limit = self._clock.monotonic(), asyncio.timeout(request.answer_seconds)
        try:
            async with limit:
                return await self._final(request, body)
        except TimeoutError as error:
            if limit.expired():
                raise SlowToAnswer(Reason.TIMED_OUT, f"no answer in {request.answer_seconds:.1f} s") from error
            raise
        finally:
            body.waited_seconds = self._clock.monotonic() - began

    async def _final(self, request: Request, body: _Body) -> tuple[str, Response]:
        """Return the answer to a request, which the caller closes, and the URL that it came from."""
        fields = self._fields | condition.fields_for(request)
        if request.referer is not None:
            fields["Referer"] = request.referer
        return await body.way.answer(request.url, fields)

    def _way(self, *, has_turn: bool) -> RedirectChain:
        """Return the way of an attempt at a picture, or of a robots.txt, for which nobody has a turn."""
        consent = self._consent if has_turn and self._obeys_robots else None
        return RedirectChain(self._wire, self._max_redirects, self._hops, has_turn=has_turn, consent=consent)

    def _unwanted(self, url: str, answer: Response) -> Permanent | None:
        if self._obeys_robots is None or not self._obeys_robots(origin_of(url)):
            return None
        if not robots.tag_forbids(answer.headers.all("X-Robots-Tag")):
            return None
        return Permanent(Reason.ROBOTS_REFUSED, "X-Robots-Tag")

    async def _consent(self, url: str) -> None:
        if self._obeys_robots is not None and self._obeys_robots(origin_of(url)):
            await self._robots.check(url)

    async def _robots_txt(self, url: str) -> tuple[int, bytes]:
        way = self._way(has_turn=False)
        try:
            _, answer = await way.answer(url, self._fields)
        except VisitError as error:
            error.host = way.host
            raise
        async with answer:
            if answer.status >= robots.FIRST_CLIENT_ERROR:
                await drain(answer)
                return answer.status, b""
            try:
                return answer.status, await beginning(answer, robots.MAX_BYTES)
            except VisitError as error:
                raise Transient(Reason.ROBOTS_REFUSED, f"robots.txt: {error.evidence}") from error
