"""Reads a copy's file and says what is wrong with it. Nothing is changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from rehost.clock import Clock
from rehost.errors import StoreError, VisitError
from rehost.images.sniff import HEAD_BYTES, Other, sniff
from rehost.images.verifier import ImageVerifier
from rehost.ledger.copies import KnownCopy
from rehost.ledger.findings import Fault
from rehost.model import Copy, Format
from rehost.store.base import Store
from rehost.store.layout import Layout

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_SHAPELESS = {Other.UNKNOWN, Other.EMPTY, Other.TEXT}  # damaged bytes, not bytes of another format


@dataclass(frozen=True, slots=True)
class Seen:
    """What the file of a copy is."""

    fault: Fault | None = None
    evidence: str = ""
    size: int = 0  # bytes that were read
    digest: str = ""


class Pace:
    """Bounds how many bytes are read from the disk in a second."""

    def __init__(self, bytes_per_second: float | None, clock: Clock) -> None:
        """Take the rate; None is no limit."""
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
            await self._clock.sleep(at - now)


@dataclass(frozen=True, slots=True)
class Inspector:
    """Inspects the files of one source's copies."""

    store: Store
    layout: Layout
    verifier: ImageVerifier

    async def inspect(self, known: KnownCopy, *, is_read: bool = True) -> Seen:
        """Return what the file of a copy is; without `is_read`, only its size and its time of modification count.

        A file that was modified after its bytes were read last is read in any case.

        Raises:
            OperatorError: the pictures cannot be verified.
        """
        try:
            path = self.store.path(known.copy.key)
        except StoreError as error:
            return Seen(Fault.UNREADABLE, str(error))
        parsed = self.layout.parse(known.copy.key)
        seen = await asyncio.to_thread(_look, path, known, parsed and parsed[2].value, is_read=is_read)
        is_other = seen.size not in {0, known.copy.size}  # flipped bits keep the size
        if seen.fault not in {Fault.CUT, Fault.ALTERED} or not is_other:
            return seen
        try:
            image = await self.verifier.verify(path)
        except (VisitError, StoreError) as error:
            return replace(seen, evidence=f"{seen.evidence}; {error}")
        words = f"a whole picture, {image.width} x {image.height}, of {seen.size:,} bytes with the digest"
        return replace(seen, fault=Fault.REPLACED, evidence=f"{words} {seen.digest[:16]}, not {known.copy.digest[:16]}")

    async def is_there(self, known: KnownCopy) -> bool:
        """Return whether the copy has a regular file, whatever is in it."""
        return await asyncio.to_thread(os.path.isfile, self.store.path(known.copy.key))


def _look(path: Path, known: KnownCopy, extension: str | None, *, is_read: bool) -> Seen:
    """Return what a file is, as far as its first bytes and its digest tell."""
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            return Seen(Fault.NOT_A_FILE, _KINDS.get(stat.S_IFMT(state.st_mode), "a device"))
        if not is_read and state.st_size == known.copy.size and not _is_newer(state, known):
            return Seen()
        return _read(path, known.copy, extension)
    except (FileNotFoundError, NotADirectoryError):
        return Seen(Fault.MISSING, "a symbolic link to nothing" if path.is_symlink() else "there is no such file")
    except OSError as error:
        return Seen(Fault.UNREADABLE, error.strerror or str(error))


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
