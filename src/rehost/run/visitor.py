"""ONE image: fetch -> inspect -> stored. Read this first.

A visit is one link's turn. It ends in an Outcome, whatever the origin did; here, and nowhere else, a VisitError becomes
one. It changes nothing but its own spool: record.py makes outcomes durable.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from rehost.clock import Clock
from rehost.errors import RehostError, SlowToAnswer, Transient, VisitError
from rehost.events import Visited
from rehost.hosts.latency import LatencyTracker
from rehost.model import (
    Copy,
    Deferred,
    Download,
    Format,
    Image,
    Link,
    NotModified,
    Outcome,
    Partial,
    Refused,
    Request,
    Stored,
    Task,
)
from rehost.ports import Fetcher, Inspector
from rehost.run import retry as backoff
from rehost.store.base import Store


class Turns(Protocol):
    """Who says when a request may be sent (gate.py)."""

    def slot(self, host: str) -> AbstractAsyncContextManager[None]:
        """Wait for a turn and hold it for one request."""
        ...


class Prove(Protocol):
    """Fetches a URL with one Referer and proves what came: a few attempts (`once`: a single one), one picture."""

    async def __call__(self, url: str, referer: str | None, *, once: bool = False) -> tuple[Download, Image]:
        """Return the body and what it proved to be; the body's spool is the caller's to remove."""
        ...


class Hotlinks(Protocol):
    """Who knows what each origin wants to see before it gives a picture (learn.py)."""

    async def obtain(self, link: Link, prove: Prove) -> tuple[Download, Image]:
        """Return a proven picture that is no decoy; raises VisitError."""
        ...

    async def is_decoy(self, link: Link, digest: str) -> bool:
        """Return whether these bytes are known as a decoy of the link's origin."""
        ...


class Naming(Protocol):
    """What a copy is called (store/layout.py)."""

    def key(self, link: Link, format: Format) -> str:  # noqa: A002 - the field's word
        """Return the copy's name in the store."""
        ...


class Postponed(RehostError):  # noqa: N818 - no error: others come first
    """The first attempt brought nothing, for a cause that passes; others of its host come before the next one.

    Attributes:
        until: monotonic seconds before which it is not to be made.
    """

    def __init__(self, until: float) -> None:
        super().__init__(f"until {until:.1f}")
        self.until = until


@dataclass(slots=True)
class _Trail:
    """What a visit has cost so far."""

    origin: str
    attempts: int = 0
    size: int = 0
    may_set_aside: bool = False
    aside: Postponed | None = None  # this goes on with a visit that was set aside after its first attempt
    decoy: str | None = None  # key of a known decoy that lies at the link's place


@dataclass(frozen=True, slots=True)
class Visitor:
    """Visits links, one call each; holds nothing between calls."""

    fetcher: Fetcher
    inspector: Inspector
    store: Store
    naming: Naming
    hotlinks: Hotlinks
    turns: Turns
    clock: Clock
    random: Random
    attempts: int  # in all, at least one
    habits: LatencyTracker = field(default_factory=LatencyTracker)

    async def visit(self, task: Task, *, may_set_aside: bool = False, aside: Postponed | None = None) -> Visited:
        """Return what came of this link's turn.

        Args:
            task: the link.
            may_set_aside: should the first attempt bring nothing, the others of its host come first.
            aside: go on where an earlier call ended with this.

        Raises:
            SetAside: call again, with this, when those are made.
            HostPaused: the host is to be left alone; the link was not asked for.
            StoreError: the store cannot take a spool.
        """
        started = self.clock.monotonic()
        trail = _Trail(task.host, may_set_aside=may_set_aside, aside=aside)
        try:
            outcome: Outcome = await self._adopt(task, trail) or await self._fetch(task, trail)
        except VisitError as error:
            outcome = self._failure(task, error, trail.decoy)
        return Visited(outcome, trail.origin, trail.size, self.clock.monotonic() - started, trail.attempts)

    def prover(self, host: str) -> Prove:
        """Return what fetches and proves at this host, outside of a visit."""
        return self._prover(host, _Trail(host))

    async def _adopt(self, task: Task, trail: _Trail) -> Stored | None:
        """Return a file that lies at the link's place already, if it proves to be a picture; no request is sent.

        A known decoy stays where it is, for a row may point at it, until the visit has come to something else.
        """
        if task.found is None or not await self.store.claim(task.found):
            return None
        path = self.store.path(task.found)
        try:
            image = await self.inspector.inspect(path)
            digest, size = await asyncio.to_thread(_digest, path)
        except (VisitError, FileNotFoundError):
            return None
        if await self.hotlinks.is_decoy(task.link, digest):
            trail.decoy = task.found
            return None
        if task.pending is not None and digest != task.pending:
            return None  # a run died before the new bytes had the name: these are of the former link
        key = self.naming.key(task.link, image.format)
        spool = None if key == task.found else await self.store.spool_copy(task.found)  # .jpeg becomes .jpg
        return Stored(task, Copy(key, digest, size), image, spool) if spool or key == task.found else None

    async def _fetch(self, task: Task, trail: _Trail) -> Stored:
        """Return the picture as the origin gives it now, in a spool."""
        download, image = await self.hotlinks.obtain(task.link, self._prover(task.host, trail))
        copy = Copy(self.naming.key(task.link, image.format), download.digest, download.size)
        return Stored(task, copy, image, download.spool, download.final_url, download.validator)

    def _prover(self, host: str, trail: _Trail) -> Prove:
        async def prove(url: str, referer: str | None, *, once: bool = False) -> tuple[Download, Image]:
            return await self._prove(host, url, referer, trail, attempts=1 if once else self.attempts)

        return prove

    async def _prove(
        self, host: str, url: str, referer: str | None, trail: _Trail, *, attempts: int
    ) -> tuple[Download, Image]:
        """Fetch and inspect, again within seconds where that can help; a cut body goes on where it stopped."""
        partial: Partial | None = None
        attempt = await self._take_up(trail)
        try:
            while True:
                attempt += 1
                trail.attempts += 1
                is_first = trail.may_set_aside and trail.attempts == 1 < attempts
                patience = self.habits.seconds(host) if is_first else None
                request = Request(url, self.store.spool(), referer, partial=partial, answer_seconds=patience)
                try:
                    return await self._attempt(host, request, trail)
                except Transient as error:
                    partial = error.partial
                    wait = backoff.attempt_wait(attempt, error, self.random)
                    if attempt >= attempts or wait is None:
                        raise
                    if is_first and partial is None:
                        raise Postponed(self.clock.monotonic() + wait) from error
                    await self.clock.sleep(wait)
        except BaseException:  # the host is paused, the visit called off: nobody goes on from what has arrived
            if partial is not None:
                partial.spool.unlink(missing_ok=True)
            raise

    async def _take_up(self, trail: _Trail) -> int:
        """Return how many attempts were made before the visit was set aside, once the wait after them is over."""
        if trail.aside is None:
            return 0
        wait, trail.aside, trail.attempts = trail.aside.until - self.clock.monotonic(), None, 1
        if wait > 0:
            await self.clock.sleep(wait)
        return trail.attempts

    async def _attempt(self, host: str, request: Request, trail: _Trail) -> tuple[Download, Image]:
        try:
            async with self.turns.slot(host):
                download = await self.fetcher.fetch(request)
        except SlowToAnswer:
            self.habits.gave_up(host)
            raise
        assert not isinstance(download, NotModified)  # nothing here makes a request conditional
        self.habits.answered(host, download.waited_seconds)
        trail.size += download.size
        try:
            return download, await self.inspector.inspect(download.spool)
        except BaseException:
            download.spool.unlink(missing_ok=True)
            raise

    def _failure(self, task: Task, error: VisitError, decoy: str | None) -> Outcome:
        wait = backoff.visit_wait(task.attempt, error, self.random)
        kind = Deferred if isinstance(error, Transient) else Refused
        return kind(task, error.reason, error.evidence, wait, decoy)


def _digest(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
