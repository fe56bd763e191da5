"""What bounds a run: how much it does at once, how long, and stores; what a stop interrupts, and a bug may cost."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rehost.attempt import Postponed
from rehost.clock import Clock
from rehost.errors import OperatorError, Permanent, Transient
from rehost.hosts.scheduler import HostPaused
from rehost.http.errors import InvalidUrl
from rehost.http.url import domain_of, normalise, origin_of, with_scheme_of
from rehost.ledger.results import ResultWriter
from rehost.model import Deferred, Link, Mark, Reason, Task, Tombstone
from rehost.retry import BUG_WAIT, QUOTA_WAIT
from rehost.run.stats import RunStats

T = TypeVar("T")
log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Amounts and times; seconds."""

    concurrency: int  # requests in flight to one host, across all workers
    requests: int  # requests in flight in this process
    visits: int  # visits in progress: requests, waits between attempts, verification
    ahead: int = 400  # links leased before their visits can begin
    batch: int = 100  # links of one host leased at a time: fewer are left to this worker when others have finished
    postponed: int = 400  # visits whose second attempt comes after all first ones
    group: int = 200  # outcomes recorded together
    group_seconds: float = 1.0  # how long a group may wait until it is full
    beat_seconds: float = BEAT_SECONDS  # between heartbeats
    recheck_seconds: float = 0.1  # until an idle worker checks again whether the others have finished
    recheck_growth: float = 1.25  # factor from one such wait to the next
    starved_seconds: float = 0.25  # between heartbeats while no host has a share left for this worker
    renew_seconds: float = 30.0  # between renewals of leases
    patience_seconds: float = 20.0  # a pause up to this long is waited out
    drain_seconds: float = 5.0  # for what is in flight after a stop


async def unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event, *, grace_seconds: float) -> T | None:
    """Return what `work` returns, or None if it had not ended `grace_seconds` after a stop; raises what it raises."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace_seconds)
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.wait({working, stopping})
    return None if working.cancelled() else working.result()


async def bug_to_outcome(what: str, tasks: Sequence[Task], work: Awaitable[T]) -> T | list[Deferred]:
    """Return what `work` returns; for a bug of ours, log it and return an outcome for each task instead.

    A bug in one visit must not end the run: this is the only place that catches every exception.

    Raises:
        OperatorError: from `work`, as are HostPaused and Postponed.
    """
    try:
        return await work
    except (HostPaused, Postponed, OperatorError):
        raise
    except Exception as error:
        log.exception("%s failed row=%r", what, ",".join(task.link.row_key for task in tasks) or "-")
        return [Deferred(task, Reason.BUG, type(error).__name__, BUG_WAIT) for task in tasks]


async def bug_to_none(what: str, work: Awaitable[T], stats: RunStats) -> T | None:
    """Return what `work` returns; for a bug of ours, log it, count it in `stats` and return None.

    Raises:
        OperatorError: from `work`.
    """
    result = await bug_to_outcome(what, [], work)
    if not isinstance(result, list):
        return result
    stats.add_bugs()
    return None


class TakedownCheck:
    """Says what was taken down: a URL or an origin before it is requested, a picture by its bytes.

    While nothing at all was taken down, the ledger is asked only every RELOAD_SECONDS.
    """

    RELOAD_SECONDS = 5.0

    def __init__(self, results: ResultWriter, clock: Clock) -> None:
        """Take what reads the ledger."""
        self._results = results
        self._clock = clock
        self._has_any = False
        self._read_at: float | None = None

    async def check(self, link: Link, *, digest: str | None = None, url: str | None = None) -> None:
        """Raise Permanent where `evidence` has something to say."""
        if (words := await self.evidence(link, digest=digest, url=url)) is not None:
            raise Permanent(Reason.TAKEN_DOWN, words)

    async def evidence(self, link: Link, *, digest: str | None = None, url: str | None = None) -> str | None:
        """Return by what a link was taken down, or bytes, or the URL that they came from; None if by nothing."""
        now = self._clock.monotonic()
        if self._read_at is None or now - self._read_at >= self.RELOAD_SECONDS:
            self._has_any = await self._results.has_tombstones()
            self._read_at = now
        if not self._has_any:
            return None
        named = {*tombstones_of(link.url, link.page_url), *tombstones_of(url or "")}
        found = await self._results.taken_down(named | ({(Mark.DIGEST, digest)} if digest else set()))
        return next(iter(found.values()), None)


def tombstones_of(url: str, page_url: str | None = None) -> list[Tombstone]:
    """Return by which tombstones a URL, as found in a row, is covered; none if it is no valid URL."""
    try:
        normal = normalise(with_scheme_of(url, page_url))
    except InvalidUrl:
        return []
    return [(Mark.URL, normal), (Mark.ORIGIN, origin_of(normal))]


class StorageQuota:
    """Bounds the bytes of the copies from each registrable domain, and of each source.

    What is held is read from the ledger at the first visit and every RELOAD_SECONDS; in between, this process adds what
    it has fetched. So several processes may exceed a quota together by what they fetch within that time.
    """

    RELOAD_SECONDS = 60.0

    def __init__(self, results: ResultWriter, clock: Clock, *, domain_bytes: int, source_bytes: int) -> None:
        """Take what reads the ledger, and the quotas in bytes; 0 is no limit."""
        self._results = results
        self._clock = clock
        self._limits = {"IMAGE_MAX_HOST_BYTES": domain_bytes, "IMAGE_MAX_SOURCE_BYTES": source_bytes}
        self._held: Counter[tuple[str, str]] = Counter()  # setting, and domain or source -> bytes
        self._read_at: float | None = None
        self._reading = asyncio.Lock()

    async def check(self, task: Task) -> None:
        """Raise Transient if a quota is used up, so that nothing is requested for this link."""
        if not any(self._limits.values()):
            return
        async with self._reading:
            now = self._clock.monotonic()
            if self._read_at is None or now - self._read_at >= self.RELOAD_SECONDS:
                await self._results.sizes(self._add, self._held.clear)
                self._read_at = now
        for setting, name in self._names(task.link.source, task.host):
            if 0 < self._limits[setting] <= self._held[setting, name]:
                raise self._used_up(setting, name)

    def take(self, task: Task, size: int) -> None:
        """Count a picture that was fetched; raise Transient if it does not fit, and let no more be fetched for now."""
        grown = size - (task.copy.size if task.copy else 0)
        for setting, name in self._names(task.link.source, task.host):
            if 0 < self._limits[setting] < self._held[setting, name] + grown:
                self._held[setting, name] = self._limits[setting]
                raise self._used_up(setting, name)
        self._add(task.link.source, task.host, grown)

    def _add(self, source: str, host: str, size: int) -> None:
        self._held.update(dict.fromkeys(self._names(source, host), size))

    def _names(self, source: str, host: str) -> list[tuple[str, str]]:
        names = [("IMAGE_MAX_SOURCE_BYTES", source)] if self._limits["IMAGE_MAX_SOURCE_BYTES"] else []
        return [*names, ("IMAGE_MAX_HOST_BYTES", domain_of(host))] if self._limits["IMAGE_MAX_HOST_BYTES"] else names

    def _used_up(self, setting: str, name: str) -> Transient:
        evidence = f"the copies of {name} take up what {setting}={self._limits[setting]} allows"
        return Transient(Reason.QUOTA_REACHED, evidence, retry_after=QUOTA_WAIT)
