"""One GET with its redirects, ranges and limits: a complete body on disk, or the reason why there is none.

`rehost.http` transfers the bytes; this module decides what one attempt at a link may do with them. Errors of HTTP
become ours, by `reasons.py`, where an attempt ends: in `_in_time` and `_robots_txt`.

A body is written to a file, bounded and hashed on the way, and never collected in memory. There is no write buffer,
because the pieces are large.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from rehost.clock import Clock
from rehost.errors import Permanent, SlowToAnswer, StoreError, Transient, VisitError, cause_of, shortage
from rehost.fetch import reasons, robots
from rehost.hosts.scheduler import RequestScheduler
from rehost.http import headers as fields
from rehost.http.address_policy import AddressPolicy
from rehost.http.body import codings_of, drain, read_decoded, read_prefix
from rehost.http.connection import Response
from rehost.http.dns import LookupCache, Resolver, SystemResolver
from rehost.http.errors import BodyTooLarge, HttpError
from rehost.http.pool import CONNECT_SECONDS, ConnectionPool, Connector, ConnectTo, Proxies
from rehost.http.url import REDIRECTS, RedirectChain, folder_of, origin_of
from rehost.model import Download, NotModified, Partial, Reason, Request, Validator

_READ_BYTES = 1 << 20
_FILE_MODE = 0o644  # less the umask: a verified image keeps it, and other servers read it


class Spool:
    """One file of untrusted bytes, which belongs to this object until it is handed over."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size = 0  # bytes
        self._max_bytes = max_bytes
        self._file = -1
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 of what has been written, in hexadecimal digits."""
        return self._hash.hexdigest()

    def take_over(self, other: Path) -> None:
        """Move the file of an earlier attempt here, unread."""
        with self.explained():
            other.rename(self.path)

    async def resume(self, size: int) -> bool:
        """Go on after the first `size` bytes of the file; return False, and change nothing, if it has fewer."""
        with self.explained():
            self._file = os.open(self.path, os.O_RDWR)
            if os.fstat(self._file).st_size < size:
                return False
            os.ftruncate(self._file, size)
            await asyncio.to_thread(self._rehash)
        self.size = size
        return True

    def start(self) -> None:
        """Start an empty file, in place of whatever was written so far."""
        self.close()
        with self.explained():
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
        self.size = 0
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes: a sink for `http.body.read_decoded`, to be called within `explained`.

        Raises:
            BodyTooLarge: they are more than the file may hold.
            OSError: the disk does not take them.
        """
        self.size += len(data)
        if self.size > self._max_bytes:
            raise BodyTooLarge(f"more than {self._max_bytes} bytes")
        self._hash.update(data)
        written = os.write(self._file, data)
        while written < len(data):  # a nearly full disk takes a part, then reports that it is full
            written += os.write(self._file, memoryview(data)[written:])

    def close(self) -> None:
        """Close the file, if it is open, and keep it."""
        if self._file >= 0:
            file, self._file = self._file, -1
            with self.explained():  # some file systems (NFS, quotas) report only here that they are full
                os.close(file)

    def remove(self) -> None:
        """Close and remove the file, if there is one."""
        self.close()
        with self.explained():
            self.path.unlink(missing_ok=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise an OSError as an OperatorError that says what to do: StoreError, or too many open files."""
        try:
            yield
        except OSError as error:
            raise shortage(error) or StoreError(
                "The spool {path} cannot be written: {cause}. Make room or repair the storage folder "
                "(IMAGE_STORAGE_DIR), then run again: what is held stays held.",
                path=self.path,
                cause=cause_of(error),
            ) from error

    def _rehash(self) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        while data := os.read(self._file, _READ_BYTES):
            self._hash.update(data)


def _is_whole(response: Response) -> bool:
    """Return whether a 206 that was not asked for brings the whole body, or does not say which part it brings."""
    if fields.media_type(response.headers) == "multipart/byteranges":  # RFC 9110, section 14.6
        return False
    return "Content-Range" not in response.headers or fields.size_of_whole(response.headers, 0, None) is not None


_ADDRESSES_SECONDS = 60.0  # for which the addresses of a name are remembered
_PARTIAL_CONTENT, _NOT_MODIFIED, _RANGE_NOT_SATISFIABLE = 206, 304, 416
_FIRST_CLIENT_ERROR, _FIRST_SERVER_ERROR = 400, 500


class _Hops:
    """The requests of one attempt, in order: at most the first one has a slot, all others are unscheduled."""

    def __init__(self, scheduler: RequestScheduler | None, *, has_slot: bool) -> None:
        self.url: str | None = None  # of the last request
        self._scheduler = scheduler
        self._has_slot = has_slot
        self._unscheduled: str | None = None  # the URL of an unscheduled request that has not ended

    @property
    def origin(self) -> str | None:
        """The origin of the last request."""
        return self.url and origin_of(self.url)

    async def begin(self, url: str) -> None:
        """Return when this URL may be requested; raises HostUnavailable."""
        if not self._has_slot:
            if self._scheduler is not None:
                await self._scheduler.unscheduled(url)
            self._unscheduled = url
        self.url, self._has_slot = url, False

    def end(self) -> None:
        """Report that the last request ended well; if it did not, the error names its origin instead."""
        url, self._unscheduled = self._unscheduled, None
        if url is not None and self._scheduler is not None:
            self._scheduler.unscheduled_succeeded(url)


@dataclass(slots=True)
class _Attempt:
    """What one attempt has on disk, and what allows a later one to go on from it."""

    spool: Spool
    hops: _Hops
    kept: Partial | None = None  # the beginning that an earlier attempt left, while it is not read
    validator: Validator | None = None  # a strong one, of the body that is being received
    whole_size: int | None = None  # bytes, where only the rest of a body is being received
    waited_seconds: float = 0.0  # until the response began

    def partial(self) -> Partial | None:
        """Return the beginning of a body that the next attempt may go on from."""
        if self.kept is not None:
            return self.kept
        if self.validator is not None and self.spool.size:
            return Partial(self.spool.path, self.spool.size, self.validator)
        return None


class Fetcher:
    """Fetches images; an async context manager, for one event loop."""

    def __init__(  # noqa: PLR0913 - each limit is a setting of its own, given by name
        self,
        address_policy: AddressPolicy,  # decides which addresses may be connected to
        *,
        clock: Clock,  # gives the time that a Retry-After date is relative to
        timeout_seconds: float,  # for one attempt, its redirects included
        max_bytes: int,  # of a body, after its coding is undone
        max_redirects: int,  # that one attempt follows
        user_agent: str,  # for all origins for which `headers_for` returns no other one
        concurrency: int,  # connections at once, idle ones included
        connect_to: Sequence[ConnectTo] = (),  # targets instead of those in URLs, without a proxy
        proxies: Proxies | None = None,
        headers_for: Callable[[str], Mapping[str, str]] = lambda _origin: {},  # for this origin alone
        obeys_robots: Callable[[str], bool] = lambda _origin: False,  # robots.txt and X-Robots-Tag of this origin
        resolver: Resolver | None = None,  # finds the addresses of names; None for the machine's own
        scheduler: RequestScheduler | None = None,
        connect_seconds: float = CONNECT_SECONDS,  # for each connection, so that an absent host is noticed soon
    ) -> None:
        """Take parts and limits; nothing is opened yet.

        The scheduler is asked before each request but the first one of `fetch`, for which the caller has a slot.
        """
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._headers = {"User-Agent": user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
        self._obeys_robots = obeys_robots
        self._scheduler = scheduler
        self._rules = LookupCache(
            self._robots_txt,
            robots.KEPT_SECONDS,
            clock.monotonic,
            failures=VisitError,
            places_of=lambda rules: rules.size,
        )
        addresses = LookupCache(resolver or SystemResolver(), _ADDRESSES_SECONDS, clock.monotonic)
        connector = Connector(address_policy, addresses, connect_to, proxies, connect_seconds)
        self._pool = ConnectionPool(connector, concurrency, headers_for)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._pool.__aexit__(*exception)

    async def fetch(self, request: Request) -> Download | NotModified:
        """Return a complete body in `request.spool`, or that nothing has changed.

        It never connects to an address that the policy refuses, never takes longer than one attempt may, and never
        writes more than the limit. On an error the spool is removed, unless the error carries it as its `partial`; if
        a redirect led to another origin, the error names that one as its `origin`.

        Raises:
            VisitError: whatever the origin did; Transient where a second try may cure it.
            StoreError: the spool cannot be written.
            OperatorError: no more files can be opened.
        """
        attempt = _Attempt(Spool(request.spool, self._max_bytes), _Hops(self._scheduler, has_slot=True))
        try:
            result = await self._in_time(request, attempt)
        except VisitError as error:
            attempt.spool.close()
            error.folder = folder_of(attempt.hops.url) if attempt.hops.url and error.origin is None else ""
            origin = error.origin or attempt.hops.origin
            error.origin = origin if origin != origin_of(request.url) else None
            error.partial = attempt.partial() if isinstance(error, Transient) else None
            if error.partial is None:
                attempt.spool.remove()
            raise
        except BaseException:
            attempt.spool.remove()
            raise
        attempt.hops.end()
        return result

    async def _in_time(self, request: Request, attempt: _Attempt) -> Download | NotModified:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._run(request, attempt)
        except HttpError as error:
            raise reasons.of_error(error) from error
        except TimeoutError as error:
            evidence = f"{attempt.spool.size} bytes in {self._timeout_seconds:g} s"
            raise Transient(Reason.TIMED_OUT, evidence) from error

    async def _run(self, request: Request, attempt: _Attempt) -> Download | NotModified:
        """Request what is missing; if the rest does not fit the beginning on disk, the whole at once."""
        if request.partial is not None:
            attempt.spool.take_over(request.partial.spool)
            attempt.kept = replace(request.partial, spool=request.spool)
        url, response = await self._first_response(request, attempt)
        async with response:
            if attempt.kept is None or response.status not in {_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE}:
                return await self._take(url, response, request, attempt)
            if await self._fits(response, attempt.kept, attempt):
                return await self._receive(url, response, attempt)
        attempt.kept, request = None, replace(request, partial=None)
        url, response = await self._response(request.url, self._headers_of(request), attempt.hops)
        async with response:
            return await self._take(url, response, request, attempt)

    async def _fits(self, response: Response, kept: Partial, attempt: _Attempt) -> bool:
        """Return whether the response is the rest of what is on disk; if so the spool is ready to take it."""
        if response.status != _PARTIAL_CONTENT:
            return False
        size = fields.size_of_whole(response.headers, kept.size, kept.validator.etag)
        if size is None or not await attempt.spool.resume(kept.size):
            return False
        attempt.kept, attempt.validator, attempt.whole_size = None, kept.validator, size
        return True

    async def _take(self, url: str, response: Response, request: Request, attempt: _Attempt) -> Download | NotModified:
        """Judge the status of a final response, and receive its body from the first byte on."""
        if response.status == _NOT_MODIFIED and request.validator is not None and request.partial is None:
            return NotModified(url, Validator(*fields.validators(response.headers)))
        if response.status == _NOT_MODIFIED or (response.status == _PARTIAL_CONTENT and not _is_whole(response)):
            raise Transient(Reason.MALFORMED, f"status {response.status}, which was not asked for")
        wait = reasons.retry_after_seconds(
            response.headers.get("Retry-After"), response.headers.get("Date"), self._clock.now()
        )
        error = reasons.of_status(response.status, wait) or self._tagged(url, response)
        if error is not None:
            await drain(response)
            raise error
        attempt.kept = None
        attempt.spool.start()
        return await self._receive(url, response, attempt)

    async def _receive(self, url: str, response: Response, attempt: _Attempt) -> Download:
        """Write the body to the spool as it arrives, to its end."""
        spool = attempt.spool
        validator = attempt.validator or Validator(*fields.validators(response.headers))
        if not codings_of(response.headers.joined("Content-Encoding")):  # ranges are of bytes before decoding
            if spool.size + (response.length or 0) > self._max_bytes:
                raise Permanent(Reason.TOO_LARGE, f"{response.length} bytes announced")
            attempt.validator = validator if fields.is_strong(validator.etag) else None
        try:
            with spool.explained():
                await read_decoded(response, spool.write)
        finally:
            if not response.is_exact:  # nothing is joined to what such a response brought
                attempt.validator = None
        if attempt.whole_size is not None and (spool.size > attempt.whole_size or not response.is_exact):
            attempt.validator = None
            raise Transient(Reason.MALFORMED, "the rest of a body, framed in an unusual way")
        if attempt.whole_size is not None and spool.size < attempt.whole_size:
            raise Transient(Reason.TRUNCATED, f"{spool.size} of {attempt.whole_size} bytes")
        if not spool.size:
            raise Permanent(Reason.EMPTY, "no bytes in the body")
        spool.close()
        kind, waited = fields.media_type(response.headers), attempt.waited_seconds
        return Download(spool.path, spool.size, spool.digest, url, validator, response.status, kind, waited)

    async def _first_response(self, request: Request, attempt: _Attempt) -> tuple[str, Response]:
        """Return what `_response` does if it begins within the time that the request allows for that."""
        began, limit = self._clock.monotonic(), asyncio.timeout(request.answer_seconds)
        try:
            async with limit:
                return await self._response(request.url, self._headers_of(request), attempt.hops)
        except TimeoutError as error:
            if limit.expired():
                raise SlowToAnswer(Reason.TIMED_OUT, f"no answer in {request.answer_seconds:.1f} s") from error
            raise
        finally:
            attempt.waited_seconds = self._clock.monotonic() - began

    async def _response(
        self, url: str, headers: Mapping[str, str], hops: _Hops, *, is_image: bool = True
    ) -> tuple[str, Response]:
        """Return the first response that is no redirect, which the caller closes, and the URL that it came from."""
        chain = RedirectChain(url, self._max_redirects)
        while True:
            hops.end()
            if is_image:
                await self._check_robots(chain.url)
            await hops.begin(chain.url)
            response = await self._pool.get(chain.url, chain.fit(headers))
            location = response.headers.get("Location") if response.status in REDIRECTS else None
            if not location:
                return chain.url, response
            async with response:
                await drain(response)
            chain.follow(location, response.headers.all("Set-Cookie"))

    def _headers_of(self, request: Request) -> Mapping[str, str]:
        headers = dict(self._headers)
        if request.partial is not None and request.partial.validator.etag is not None:
            headers |= fields.rest_range(request.partial.size, request.partial.validator.etag)
        elif request.validator is not None:
            headers |= fields.condition(request.validator.etag, request.validator.last_modified)
        if request.referer is not None:
            headers["Referer"] = request.referer
        return headers

    def _tagged(self, url: str, response: Response) -> Permanent | None:
        """Return the refusal that an X-Robots-Tag asks for, if such tags of this origin are obeyed."""
        forbids = self._obeys_robots(origin_of(url)) and robots.tag_forbids(response.headers.all("X-Robots-Tag"))
        return Permanent(Reason.ROBOTS_REFUSED, "X-Robots-Tag") if forbids else None

    async def _check_robots(self, url: str) -> None:
        """Raise an error if robots.txt is obeyed here and does not allow this URL, or cannot be read now."""
        origin = origin_of(url)
        if self._obeys_robots(origin) and not (await self._rules(origin)).allows(url):
            raise Permanent(Reason.ROBOTS_REFUSED, "robots.txt")

    async def _robots_txt(self, origin: str) -> robots.Rules:
        """Fetch the robots.txt of an origin, without a slot; no robots.txt forbids that."""
        hops = _Hops(self._scheduler, has_slot=False)
        try:
            _, response = await self._response(f"{origin}/robots.txt", self._headers, hops, is_image=False)
        except HttpError as error:
            meaning = reasons.of_error(error)
            if isinstance(meaning, VisitError):
                meaning.origin = hops.origin
            raise meaning from error
        except VisitError as error:
            error.origin = hops.origin
            raise
        async with response:
            if response.status >= _FIRST_CLIENT_ERROR:
                await drain(response)
                if response.status >= _FIRST_SERVER_ERROR:  # RFC 9309, section 2.3.1.4
                    raise Transient(Reason.ROBOTS_REFUSED, f"robots.txt: status {response.status}")
                return robots.Rules()  # section 2.3.1.3
            try:
                text = await read_prefix(response, robots.MAX_BYTES)
            except HttpError as error:
                raise Transient(Reason.ROBOTS_REFUSED, f"robots.txt: {error}") from error
        # Half a megabyte of escapes takes half a second.
        return await asyncio.to_thread(robots.parse, text.decode("utf-8", "surrogateescape"))
