"""One visit of a link: a file that is in the store already is adopted, or the image is fetched. Read this first.

A visit ends in an Outcome, whatever the origin does: a VisitError becomes one here and nowhere else. It writes nothing
but its own spool; run/recorder.py makes outcomes durable.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from rehost.attempt import CopyIsCurrent, Postponed, VisitLog
from rehost.clock import Clock
from rehost.errors import StoreError, Transient, VisitError
from rehost.events import Visited
from rehost.hotlink.learner import Learner
from rehost.hotlink.repository import CONFIRM_SECONDS, Evidence
from rehost.images.verifier import ImageVerifier
from rehost.model import Copy, Deferred, Image, Outcome, Reason, Refused, Stored, Task, Unchanged
from rehost.retry import UNREADABLE_WAIT, visit_wait
from rehost.run.limits import StorageQuota, TakedownCheck
from rehost.store.base import Store
from rehost.store.layout import Layout

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Visits links, one call each; keeps nothing between calls."""

    learner: Learner
    verifier: ImageVerifier
    store: Store
    layout: Layout
    clock: Clock
    random: Random
    quota: StorageQuota
    takedowns: TakedownCheck

    async def visit(self, task: Task, *, may_postpone: bool = False, postponed: Postponed | None = None) -> Visited:
        """Return the outcome of one visit, and what it cost.

        Args:
            task: the link.
            may_postpone: if the first attempt fails, the visit may end with Postponed.
            postponed: resume a visit that ended with this.

        Raises:
            Postponed: call again, with this, after the first attempts at the other links.
            HostPaused: the host is paused; the link was not requested.
            StoreError: the store cannot take a spool.
        """
        started = self.clock.monotonic()
        log = VisitLog(task.host, may_postpone, postponed)
        suspect = task.copy if task.held_url else None
        try:
            self.layout.check(task.link)  # no request for a copy that could not be named
            await self.takedowns.check(task.link)
            found = await self._found(task)
            if found is not None and await self.learner.is_decoy(task.link, found[0].digest):
                suspect, found = found[0], None  # a row may point at it: it stays until it is confirmed to be a decoy
            outcome: Outcome = (found and await self._adopt(task, *found)) or await self._fetch(task, log)
        except VisitError as error:
            outcome = await self._failed(task, error, suspect, log)
        return Visited(outcome, task.host, log.size, self.clock.monotonic() - started, log.attempts)

    async def _found(self, task: Task) -> tuple[Copy, Image] | None:
        """Return the file that is at the link's place already, if it is verified as an image.

        Raises:
            Transient: it cannot be read. It stays, so that the others go on: to replace it could end the run.
        """
        if task.found is None or not await self.store.claim(task.found):
            return None
        try:
            async with self.store.as_file(task.found) as path:
                image = await self.verifier.verify(path, task.host)
                digest, size = await asyncio.to_thread(digest_of, path)
        except (VisitError, FileNotFoundError):
            return None
        except (StoreError, OSError) as error:
            logger.warning("file not read row=%r error=%r", task.link.row_key, str(error))
            raise Transient(Reason.FILE_UNREADABLE, str(error), retry_after=UNREADABLE_WAIT) from error
        return Copy(self.layout.key(task.link, image.format, digest), digest, size), image

    async def _adopt(self, task: Task, copy: Copy, image: Image) -> Stored | Refused | None:
        """Return a verified file at the link's place as the link's copy; no request is sent.

        One that was taken down is refused, and leaves its place.
        """
        if (words := await self.takedowns.evidence(task.link, digest=copy.digest)) is not None:
            return Refused(task, Reason.TAKEN_DOWN, words, 0.0, task.found)
        if task.pending is not None and copy.digest != task.pending:
            return None  # a run died before the new bytes got the name: these belong to the former link
        if copy.key == task.found:
            return Stored(task, copy, image, None)
        assert task.found is not None
        spool = await self.store.spool_copy(task.found)  # .jpeg becomes .jpg
        return Stored(task, copy, image, spool) if spool else None

    async def _fetch(self, task: Task, log: VisitLog) -> Stored | Unchanged:
        """Return the image as the origin gives it now, in a spool."""
        await self.quota.check(task)
        if task.has_own_copy and task.copy is not None and task.validator is not None:
            log.validator, log.digest = task.validator, task.copy.digest
        try:
            download, image = await self.learner.obtain(task.link, log)
        except CopyIsCurrent as current:
            return Unchanged(task, current.validator)
        if task.has_own_copy and task.copy is not None and task.copy.digest == download.digest:
            download.spool.unlink(missing_ok=True)
            return Unchanged(task, download.validator)
        try:
            await self.takedowns.check(task.link, digest=download.digest, url=download.final_url)
            key = self.layout.key(task.link, image.format, download.digest)
            copy = Copy(key, download.digest, download.size)
            self.quota.take(task, download.size)
        except VisitError:
            download.spool.unlink(missing_ok=True)
            raise
        return Stored(task, copy, image, download.spool, download.final_url, download.validator)

    async def _failed(self, task: Task, error: VisitError, suspect: Copy | None, log: VisitLog) -> Outcome:
        """Return the outcome of a visit without an image; a copy goes only if it is confirmed to be a decoy."""
        kind = Deferred if isinstance(error, Transient) else Refused
        wait = visit_wait(task.attempt, error, self.random)
        evidence = Evidence.NONE
        if suspect is not None and error.reason is not Reason.TAKEN_DOWN:  # of which nothing is requested
            url = task.held_url if task.held_url and suspect == task.copy else task.link.url
            evidence = await self.learner.examine_copy(replace(task.link, url=url), suspect.digest, log)
        if evidence is Evidence.CONFIRMED and suspect is not None:
            return kind(task, error.reason, error.evidence, wait, suspect.key)
        if evidence is not Evidence.NONE:
            words = f"{error.evidence}; the copy may be a decoy, and stays until a second control agrees"
            return Deferred(task, error.reason, words, CONFIRM_SECONDS * self.random.uniform(1.0, 1.25))
        if task.has_own_copy:
            return Unchanged(task, reason=error.reason, evidence=error.evidence)
        return kind(task, error.reason, error.evidence, wait)


def digest_of(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size, in bytes, of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()
