"""Finds a picture elsewhere that its origin does not have any more: another row's copy, the other scheme, an archive.

Every source is used as a visit uses an origin: through the same fetcher, with the same guard, proof and limits. What is
found is recorded with where it came from, and gives way to the origin's own picture once that comes again.

A dead link is leased only when its picture has been found. So a search that is killed leaves nothing behind but that
the links it was at wait for a search a day later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from rehost.attempt import FetchedImage, VisitLog
from rehost.errors import OperatorError, VisitError
from rehost.events import RunEnded
from rehost.fetch.reasons import request_url
from rehost.hosts.scheduler import HostPaused
from rehost.http.url import host_of
from rehost.ledger.rescues import Twin
from rehost.model import Copy, Image, Stored, Task
from rehost.run.limits import Limits, bug_to_none
from rehost.run.run import Components
from rehost.run.stats import RunStats
from rehost.run.visitor import digest_of
from rehost.upkeep.journal import Journal

HTTPS = "https"  # how `rescued` names the other scheme
HTTP = "http"
_AT_ONCE = 16  # searches: an archive takes seconds for an answer


@dataclass(frozen=True, slots=True)
class Rescuer:
    """Searches for the picture of one link of a source."""

    parts: Components
    archive: str = ""  # URL with {url} and {date}; empty for none

    async def rescue(self, task: Task, log: VisitLog) -> Stored | None:
        """Return the picture of a link as found elsewhere, in a spool, with its provenance; None if there is none.

        The task need not be leased. Adds the requests to the log.

        Raises:
            StoreError: the store cannot take a spool.
        """
        with suppress(HostPaused):
            same_url = await self.parts.ledger.rescues.same_url([task])
            return await self.search(task, log, same_url.get(task.link.url, ()))
        return None

    async def search(self, task: Task, log: VisitLog, same_url: Sequence[Twin]) -> Stored | None:
        """Do what `rescue` does with links of the same URL, but raise HostPaused if a host cannot be asked now."""
        if await self.parts.visitor.takedowns.evidence(task.link) is not None:
            return None
        known = await self.parts.ledger.rescues.known(task.entry)
        digests = {*known.digests, *([task.copy.digest] if task.copy and task.has_own_copy else [])}
        same_bytes = await self.parts.ledger.rescues.same_bytes(task, digests)
        twins = [*same_bytes, *(each for each in same_url if _is_same(task, each))]
        found = await self._from_twins(task, twins) or await self._from_trash(task, known.digests)
        if found is not None:
            return found
        paused: HostPaused | None = None
        for url, provenance in self._elsewhere(task, f"{known.since:%Y%m%d}"):
            try:
                if (image := await self._fetched(task, url, log)) is not None:
                    return await self._stored(task, image, provenance)
            except HostPaused as caught:
                paused = caught
        if paused is not None:
            raise paused
        return None

    # --- what the store has

    async def _from_twins(self, task: Task, twins: Sequence[Twin]) -> Stored | None:
        """Return the bytes of another link's copy."""
        for twin in twins:
            spool = await self.parts.store.spool_copy(twin.key)
            words = f"row {twin.row_key} of {twin.source}"
            if spool is not None and (stored := await self._proven(task, spool, twin.digest, words)) is not None:
                return stored
        return None

    async def _from_trash(self, task: Task, digests: Sequence[str]) -> Stored | None:
        """Return a picture that this very link gave before, from the trash."""
        for digest in digests:
            spool = await self.parts.store.spool_from_trash(digest)
            if spool is not None and (stored := await self._proven(task, spool, digest, "trash")) is not None:
                return stored
        return None

    async def _proven(self, task: Task, spool: Path, digest: str, provenance: str) -> Stored | None:
        """Return what a spool holds if these are the bytes of the digest, a whole picture and no decoy."""
        visitor = self.parts.visitor
        with suppress(VisitError, FileNotFoundError):
            image = await visitor.verifier.verify(spool, task.host)
            found, size = await asyncio.to_thread(digest_of, spool)
            if found == digest and not await visitor.learner.is_decoy(task.link, digest):
                await visitor.takedowns.check(task.link, digest=digest)
                return self._as_copy(task, spool, Copy("", digest, size), image, provenance)
        await asyncio.to_thread(spool.unlink, missing_ok=True)
        return None

    # --- what others have

    def _elsewhere(self, task: Task, date: str) -> list[tuple[str, str]]:
        """Return URLs that may have the picture, each with its provenance; an archive's is the capture's own URL."""
        try:
            url = request_url(task.link.url, task.link.page_url)
        except VisitError:
            return []
        scheme, _, rest = url.partition(":")
        places = []
        if urlsplit(url).port is None:
            other = HTTP if scheme == HTTPS else HTTPS
            places.append((f"{other}:{rest}", other))
        if self.archive:
            places.append((self.archive.replace("{date}", date).replace("{url}", url), ""))
        return places

    async def _fetched(self, task: Task, url: str, log: VisitLog) -> FetchedImage | None:
        """Return the picture at a URL, if it is one and no decoy."""
        visitor, own = self.parts.visitor, VisitLog(host_of(url))
        try:
            await visitor.quota.check(task)
            image = await visitor.learner.obtain(replace(task.link, url=url), own)
        except VisitError:
            return None
        finally:
            log.attempts += own.attempts
            log.size += own.size
        digest, final_url = image.download.digest, image.download.final_url
        is_decoy = await visitor.learner.is_decoy(task.link, digest)  # captured while the origin refused
        if is_decoy or await visitor.takedowns.evidence(task.link, digest=digest, url=final_url) is not None:
            image.download.spool.unlink(missing_ok=True)
            return None
        return image

    async def _stored(self, task: Task, fetched: FetchedImage, provenance: str) -> Stored | None:
        download = fetched.download
        copy = Copy("", download.digest, download.size)
        try:
            stored = self._as_copy(task, download.spool, copy, fetched.image, provenance or download.final_url)
        except VisitError:
            download.spool.unlink(missing_ok=True)
            return None
        return replace(stored, final_url=download.final_url)

    def _as_copy(self, task: Task, spool: Path, copy: Copy, image: Image, provenance: str) -> Stored:
        """Return the outcome for bytes in a spool; `copy` lacks its key.

        Raises:
            VisitError: the copy cannot be named, or a quota is used up.
        """
        visitor = self.parts.visitor
        named = replace(copy, key=visitor.layout.key(task.link, image.format, copy.digest))
        visitor.quota.take(task, copy.size)
        return Stored(task, named, image, spool, rescued=provenance)


def _is_same(task: Task, twin: Twin) -> bool:
    """Return whether both links stand for the same absolute URL."""
    with suppress(VisitError):
        return request_url(task.link.url, task.link.page_url) == request_url(twin.url, twin.page_url)
    return False


# --- all dead links


@dataclass(slots=True)
class Rescued:
    """What a search for the pictures of dead links has found."""

    tried: int = 0
    rescued: Counter[str] = field(default_factory=Counter)  # links by source
    dead: int = 0  # that have no picture still
    run: int | None = None  # that `rehost undo` takes back


class DeadLinks:
    """Rescues the dead links of several sources, all of them or until it is stopped."""

    def __init__(
        self,
        sources: Sequence[Components],
        limits: Limits,
        archive: str,
        stop: asyncio.Event,
        listen: Callable[[Rescued], None] = lambda _so_far: None,
    ) -> None:
        """Take the parts of each source.

        Args:
            sources: at least one.
            limits: those of a run.
            archive: as Rescuer's.
            stop: when it is set, nothing more is begun.
            listen: gets what was done so far, after each link.
        """
        self._sources = sources
        self._limits = limits
        self._archive = archive
        self._stop = stop
        self._listen = listen
        self._ledger = sources[0].ledger
        self._journal = Journal(self._ledger.runs, "rescue")
        self._done = Rescued()
        self._stats = RunStats()
        self._postponed: list[int] = []  # entries whose search has not ended
        self._recording = asyncio.Lock()

    async def rescue(self) -> Rescued:
        """Search for the pictures of all dead links that are due for it, and record what is found.

        Raises:
            OperatorError: the database or the store cannot be used. What is recorded stays.
        """
        failed: list[OperatorError] = []
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self._beat()), group.create_task(self._stop.wait())]
                for parts in self._sources:
                    await self._rescue(group, parts, others[1])
                for each in others:
                    each.cancel()
            await self._sources[0].heartbeat.stop()
        except* OperatorError as caught:
            failed += [each for each in caught.exceptions if isinstance(each, OperatorError)]
        if failed:
            raise failed[0]  # Python before 3.11.4 wraps what is raised within `except*`
        await self._ledger.rescues.unclaim(self._postponed)
        held = self._done.rescued
        await self._journal.end({name: RunEnded(name, held[name], unchanged=0, adopted=0) for name in held})
        self._done.run = self._journal.run
        self._done.dead = sum([await self._ledger.rescues.dead(_name(each)) for each in self._sources])
        return self._done

    async def _rescue(self, group: asyncio.TaskGroup, parts: Components, stopping: asyncio.Task[object]) -> None:
        """Rescue the dead links of one source."""
        rescuer, working = Rescuer(parts, self._archive), set[asyncio.Task[None]]()
        while not self._stop.is_set() and (tasks := await self._ledger.rescues.claim(_name(parts))):
            same_url = await self._ledger.rescues.same_url(tasks)
            for task in tasks:
                while len(working) >= _AT_ONCE and not self._stop.is_set():
                    await asyncio.wait({*working, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    self._postponed.append(task.entry)
                    continue
                search = group.create_task(self._search(rescuer, task, same_url.get(task.link.url, ())))
                working.add(search)
                search.add_done_callback(working.discard)
        while working and not self._stop.is_set():
            await asyncio.wait({*working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working:
            _, late = await asyncio.wait(working, timeout=self._limits.drain_seconds)
            for search in late:
                search.cancel()

    async def _search(self, rescuer: Rescuer, task: Task, same_url: Sequence[Twin]) -> None:
        """Search for the picture of one link, and record it."""
        self._postponed.append(task.entry)
        try:
            search = rescuer.search(task, VisitLog(task.host), same_url)
            stored = await bug_to_none("rescue", search, self._stats)
        except HostPaused:
            return
        await self._ledger.rescues.searched(task.entry)
        self._postponed.remove(task.entry)
        self._done.tried += 1
        if stored is not None:
            async with self._recording:
                await self._record(rescuer.parts, stored)
        self._listen(self._done)

    async def _record(self, parts: Components, stored: Stored) -> None:
        """Record a picture, unless the link has changed or another worker has it."""
        leased = await self._ledger.leases.lease_held([stored.task.entry], failed=True)
        same = [task for task in leased if task.link.url == stored.task.link.url]
        if not same:
            await self._ledger.leases.release(leased)
            assert stored.spool is not None
            stored.spool.unlink(missing_ok=True)
            return
        source = _name(parts)
        recorded = await parts.recorder.record(await self._journal.begin(source), [replace(stored, task=same[0])])
        self._done.rescued[source] += recorded.held

    async def _beat(self) -> None:
        """Send heartbeats until cancelled: without them no host may be asked."""
        heartbeat, scheduler = self._sources[0].heartbeat, self._sources[0].scheduler
        while True:
            await heartbeat.send()
            scheduler.refresh()
            is_starved = scheduler.is_starved()
            await heartbeat.wait(self._limits.starved_seconds if is_starved else self._limits.beat_seconds)


def _name(parts: Components) -> str:
    return parts.planner.catalogue.name
