"""Puts bytes back from the store's trash: for `rehost undo`, and where an origin is frozen.

A link's own copy is put back as a picture of a run is recorded: under the lease, verified, file, ledger and row
together. A file of no held link gets its key back if no other file has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehost.errors import VisitError
from rehost.images.verifier import ImageVerifier
from rehost.ledger.history import RowChange
from rehost.model import Copy, Image, Stored, Task
from rehost.run.recorder import Recorder
from rehost.run.visitor import digest_of
from rehost.store.base import Placement

GROUP = 50  # files at once: all are verified within a lease


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of files that were to be put back; numbers of files."""

    back: int = 0
    left: int = 0  # their links or rows have changed since, or another file has their key
    gone: int = 0  # of `left`: their bytes are not in the trash any more, or not whole there
    refused: int = 0  # back, but the database refuses to write their rows

    def __add__(self, other: Returned) -> Returned:
        """Return the sums."""
        return Returned(
            self.back + other.back, self.left + other.left, self.gone + other.gone, self.refused + other.refused
        )


@dataclass(frozen=True, slots=True)
class PutBack:
    """Puts files of one source back."""

    recorder: Recorder
    verifier: ImageVerifier

    async def put_back(self, run: int, changes: Sequence[RowChange]) -> Returned:
        """Give links the copies back that these changes replaced, where link, copy and row are as they left them.

        Args:
            run: the run that records it.
            changes: those with `is_replaced`, of this source; each of another link.

        Raises:
            OperatorError: the database or the store cannot be used.
        """
        returned = Returned()
        for start in range(0, len(changes), GROUP):
            returned += await self._put_back(run, changes[start : start + GROUP])
        return returned

    async def _put_back(self, run: int, changes: Sequence[RowChange]) -> Returned:
        leases = self.recorder.ledger.leases
        held = {each.entry: each for each in changes if each.entry is not None}
        tasks = await leases.lease_held(list(held))
        rows = await self.recorder.catalogue.local_urls([task.link for task in tasks])
        wanted = [task for task in tasks if _is_as_left(task, held[task.entry], rows.get(task.link))]
        found = await asyncio.gather(*(self._proven(task, held[task.entry].before_digest or "") for task in wanted))
        stored = [each for each in found if each is not None]
        proven = {each.task.entry for each in stored}
        await leases.release([task for task in tasks if task.entry not in proven])
        recorded = await self.recorder.record(run, stored)
        back, gone = recorded.held + recorded.refused, len(wanted) - len(stored)
        return Returned(back, len(changes) - back, gone, recorded.refused)

    async def _proven(self, task: Task, digest: str) -> Stored | None:
        """Return the bytes of a digest from the trash as the link's copy; None if they are not a whole picture there.

        Raises:
            StoreError: the store cannot be used.
        """
        spool = await self.recorder.store.spool_from_trash(digest)
        if spool is None:
            return None
        image: Image | None = None
        try:
            image = await self.verifier.verify(spool, task.host)
            key = self.recorder.layout.key(task.link, image.format, digest)
            found, size = await asyncio.to_thread(digest_of, spool)
        except VisitError:
            found = ""
        if image is None or found != digest:
            spool.unlink(missing_ok=True)
            return None
        return Stored(task, Copy(key, digest, size), image, spool)

    async def put_files(self, changes: Sequence[RowChange]) -> Returned:
        """Give files without a held link their keys back where these are free.

        Args:
            changes: those with `is_removed`.

        Raises:
            StoreError: the store cannot be used.
        """
        returned = Returned()
        for start in range(0, len(changes), GROUP):
            returned += await self._put_files(changes[start : start + GROUP])
        return returned

    async def _put_files(self, changes: Sequence[RowChange]) -> Returned:
        store = self.recorder.store
        digests = {each.before_key: each.before_digest for each in changes if each.before_key and each.before_digest}
        taken = await store.file_ids(digests)
        free = {key: digest for key, digest in digests.items() if key not in taken}
        spools = {key: await self._whole(digest) for key, digest in free.items()}
        placements = [Placement(spool, key) for key, spool in spools.items() if spool is not None]
        await store.sync([each.spool for each in placements])
        placed = await store.place_free(placements)
        for each in placements:
            each.spool.unlink(missing_ok=True)
        return Returned(len(placed), len(changes) - len(placed), len(free) - len(placements))

    async def _whole(self, digest: str) -> Path | None:
        """Return a spool with the bytes of a digest from the trash, if they still have it."""
        spool = await self.recorder.store.spool_from_trash(digest)
        if spool is None or (await asyncio.to_thread(digest_of, spool))[0] == digest:
            return spool
        spool.unlink(missing_ok=True)
        return None


def _is_as_left(task: Task, change: RowChange, local_url: str | None) -> bool:
    """Return whether a leased link has the copy, and its row the local URL, that the change left."""
    is_same = task.has_own_copy and task.copy is not None and task.copy.digest == change.after_digest
    return is_same and local_url in {change.after, task.link.local_url}
