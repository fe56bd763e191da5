"""Reads a copy's file and says what is wrong with it. Nothing is changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rehost.clock import Clock
from rehost.errors import StoreError, VisitError
from rehost.images.sniff import HEAD_BYTES, Other, sniff
from rehost.images.verifier import ImageVerifier
from rehost.ledger.copies import KnownCopy
from rehost.ledger.findings import Fault
from rehost.model import Copy, Format
from rehost.run.limits import unless_stopped
from rehost.store.base import Store
from rehost.store.layout import Layout

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_DAMAGED = {Fault.CUT, Fault.ALTERED}
_SHAPELESS = {Other.UNKNOWN, Other.EMPTY, Other.TEXT}  # damaged bytes, not bytes of another format


@dataclass(frozen=True, slots=True)
class Seen:
    """What the file of a copy is."""

    fault: Fault | None = None
    evidence: str = ""
    size: int = 0  # bytes that were read
    digest: str = ""


_RIGHT = Seen()


class Pace:
    """Bounds how many bytes are read from the disk in a second."""

    def __init__(self, bytes_per_second: float | None, clock: Clock, stop: asyncio.Event) -> None:
        """Take the rate, None for no limit, and what ends every wait."""
        self._stop = stop
        self._rate = bytes_per_second
        self._clock = clock
        self._free_at = clock.monotonic()

    async def take(self, size: int) -> None:
        """Wait until so many bytes may be read."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        at = max(now, self._free_at)
        self._free_at = at + size / self._rate
        if at > now:
            await unless_stopped(self._clock.sleep(at - now), self._stop, grace_seconds=0.0)


@dataclass(frozen=True, slots=True)
class Inspector:
    """Inspects the files of one source's copies."""

    store: Store
    layout: Layout
    verifier: ImageVerifier

    async def inspect(self, known: KnownCopy) -> Seen:
        """Return what the file of a copy is.

        Raises:
            OperatorError: the pictures cannot be verified.
        """
        [seen] = await self.inspect_all([known], is_read=True)
        return seen

    async def inspect_all(self, copies: Sequence[KnownCopy], *, is_read: bool) -> Sequence[Seen]:
        """Return what the files of these copies are, one after the other, in their order.

        Without `is_read`, only size and time of modification count, and a file that was modified after its bytes were
        read last is read. Bytes of the copy's own size count as its own, altered: flipped bits keep the size. Raises
        what `inspect` raises.
        """
        seen = await asyncio.to_thread(self._look_at, copies, is_read=is_read)
        return [
            await self._proven(known, each)
            if each.fault in _DAMAGED and each.size not in {0, known.copy.size}
            else each
            for known, each in zip(copies, seen, strict=True)
        ]

    def _look_at(self, copies: Sequence[KnownCopy], *, is_read: bool) -> list[Seen]:
        return [self._look(known, is_read=is_read) for known in copies]

    def _look(self, known: KnownCopy, *, is_read: bool) -> Seen:
        """Return what a file is, as far as its first bytes and its digest tell."""
        path = None
        try:
            path = self.store.path(known.copy.key)
            state = os.stat(path)  # noqa: PTH116 - of a million files
            if not stat.S_ISREG(state.st_mode):
                return Seen(Fault.NOT_A_FILE, _KINDS.get(stat.S_IFMT(state.st_mode), "a device"))
            if not is_read and state.st_size == known.copy.size and not _is_newer(state, known):
                return _RIGHT
            parsed = self.layout.parse(known.copy.key)
            return _read(path, known.copy, parsed and parsed[2].value)
        except (FileNotFoundError, NotADirectoryError):
            is_link = path is not None and path.is_symlink()
            return Seen(Fault.MISSING, "a symbolic link to nothing" if is_link else "there is no such file")
        except (OSError, StoreError) as error:
            return Seen(Fault.UNREADABLE, getattr(error, "strerror", None) or str(error))

    async def _proven(self, known: KnownCopy, seen: Seen) -> Seen:
        """Return whether damaged bytes are another whole picture."""
        try:
            image = await self.verifier.verify(self.store.path(known.copy.key))
        except (VisitError, StoreError) as error:
            return replace(seen, evidence=f"{seen.evidence}; {error}")
        words = f"a whole picture, {image.width} x {image.height}, of {seen.size:,} bytes with the digest"
        return replace(seen, fault=Fault.REPLACED, evidence=f"{words} {seen.digest[:16]}, not {known.copy.digest[:16]}")

    async def is_there(self, known: KnownCopy) -> bool:
        """Return whether the copy has a regular file, whatever is in it."""
        return await asyncio.to_thread(os.path.isfile, self.store.path(known.copy.key))


def _read(path: Path, copy: Copy, extension: str | None) -> Seen:
    """Return what a regular file is; CUT or ALTERED may be another whole picture."""
    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    kind, seen = sniff(head), Seen(size=size, digest=digest)
    if digest == copy.digest:
        return seen
    if kind not in _SHAPELESS and kind.value != extension:
        return replace(seen, fault=Fault.WRONG_TYPE, evidence=f"{_words(kind)} in a file of the type {extension}")
    if size < copy.size:
        return replace(seen, fault=Fault.CUT, evidence=f"{size:,} of {copy.size:,} bytes")
    words = f"{size:,} bytes with the digest {digest[:16]}, not {copy.size:,} with {copy.digest[:16]}"
    return replace(seen, fault=Fault.ALTERED, evidence=words)


def _words(kind: Format | Other) -> str:
    return kind.value if isinstance(kind, Other) else f"a picture of the type {kind}"


def _is_newer(state: os.stat_result, known: KnownCopy) -> bool:
    """Return whether a file was modified after its bytes were read last."""
    read_at = max(filter(None, (known.verified_at, known.held_at)), default=None)
    return read_at is None or state.st_mtime > read_at.timestamp()
