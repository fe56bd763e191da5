"""Fetches and verifies one URL under one Referer, with a few attempts seconds apart where that can help.

Two kinds of retry are never mixed (invariant 6). The attempts made here belong to one visit and are seconds apart, or
the later ones come last in the run. Visits are minutes to weeks apart (retry.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from rehost.clock import Clock
from rehost.errors import RehostError, SlowToAnswer, Transient, VisitError
from rehost.fetch.fetcher import Fetcher
from rehost.hosts.pacing import LatencyTracker
from rehost.hosts.scheduler import RequestScheduler
from rehost.http.url import host_of, origin_of
from rehost.images.verifier import ImageVerifier
from rehost.model import Download, Image, NotModified, Partial, Request, Validator
from rehost.retry import attempt_wait
from rehost.store.base import Store


class Postponed(RehostError):  # noqa: N818 - not an error: other links come first
    """The first attempt failed for a passing cause; first attempts at other links come before the second one.

    Attributes:
        until: monotonic seconds before which the second attempt must not be made.
    """

    def __init__(self, until: float) -> None:
        super().__init__(f"until {until:.1f}")
        self.until = until


class CopyIsCurrent(RehostError):  # noqa: N818 - not an error: the visit has its answer
    """The origin answered a conditional request with 304: the copy that the link has is what it would send.

    Attributes:
        validator: the one that came with the answer, or that was sent.
        final_url: where the answer came from.
    """

    def __init__(self, validator: Validator, final_url: str) -> None:
        super().__init__(final_url)
        self.validator = validator
        self.final_url = final_url


class FetchedImage(NamedTuple):
    """A downloaded body and the image that it proved to be. The receiver removes its spool."""

    download: Download
    image: Image


@dataclass(slots=True)
class VisitLog:
    """The attempts of one visit so far: how many there were, and how many bytes were received."""

    host: str
    may_postpone: bool = False  # the first attempt may end the visit with Postponed
    postponed: Postponed | None = None  # the visit resumes after this; its first attempt is made already
    attempts: int = 0
    size: int = 0
    validator: Validator | None = None  # of the link's copy: makes the first request conditional
    digest: str | None = None  # of the same copy


@dataclass(frozen=True, slots=True)
class ImageFetcher:
    """Fetches and verifies images, each request in a slot of its host."""

    fetcher: Fetcher
    verifier: ImageVerifier
    store: Store
    scheduler: RequestScheduler
    clock: Clock
    random: Random
    attempts: int  # per URL and Referer, the first included; at least one
    latency: LatencyTracker = field(default_factory=LatencyTracker)

    async def fetch(self, url: str, referer: str | None, log: VisitLog, *, once: bool = False) -> FetchedImage:
        """Return the image at a normalised URL; a body that was cut resumes where it stopped.

        Updates the visit's log. `once` allows a single attempt only. With the validator of a copy in the log, the first
        request of the visit, which is for the link's own URL, asks for the picture only if it has changed: by
        If-None-Match and, for origins that know no ETag, If-Modified-Since (RFC 9110, section 13.1). A second attempt
        asks for all of it, so that an origin that errs about conditions is not believed twice.

        Raises:
            VisitError: there is no image.
            CopyIsCurrent: the copy is what the origin would send.
            Postponed: the visit is to resume later.
            HostPaused: the host is paused; nothing was sent.
            StoreError: the store cannot take the body.
        """
        most = 1 if once else self.attempts
        attempt = await self._resume(log)
        partial: Partial | None = None
        try:
            while True:
                attempt += 1
                log.attempts += 1
                may_postpone = log.may_postpone and log.attempts == 1 < most
                limit = self.latency.seconds(log.host) if may_postpone else None
                validator = log.validator if log.attempts == 1 else None
                request = Request(url, self.store.spool(), referer, validator, partial, limit)
                try:
                    return await self._attempt(request, log)
                except Transient as error:
                    partial = error.partial
                    wait = attempt_wait(attempt, error, self.random)
                    if attempt >= most or wait is None:
                        raise
                    if may_postpone and partial is None:
                        raise Postponed(self.clock.monotonic() + wait) from error
                    await self.clock.sleep(wait)
        except BaseException:  # no later attempt will use what has arrived
            if partial is not None:
                partial.spool.unlink(missing_ok=True)
            raise

    async def _resume(self, log: VisitLog) -> int:
        """Return how many attempts were made before the visit was postponed, once the wait after them is over."""
        if log.postponed is None:
            return 0
        wait, log.postponed, log.attempts = log.postponed.until - self.clock.monotonic(), None, 1
        if wait > 0:
            await self.clock.sleep(wait)
        return log.attempts

    async def _attempt(self, request: Request, log: VisitLog) -> FetchedImage:
        try:
            async with self.scheduler.slot(request.url):
                download = await self.fetcher.fetch(request)
        except SlowToAnswer:
            self.latency.gave_up(log.host)
            raise
        if isinstance(download, NotModified):
            known, fresh = request.validator or Validator(), download.validator
            validator = Validator(fresh.etag or known.etag, fresh.last_modified or known.last_modified)
            raise CopyIsCurrent(validator, download.final_url)
        self.latency.answered(log.host, download.waited_seconds)
        log.size += download.size
        try:
            image = await self.verifier.verify(download.spool, host_of(download.final_url))
            return FetchedImage(download, image)
        except BaseException as error:
            download.spool.unlink(missing_ok=True)
            if isinstance(error, VisitError) and (origin := origin_of(download.final_url)) != origin_of(request.url):
                error.origin = origin
            raise
