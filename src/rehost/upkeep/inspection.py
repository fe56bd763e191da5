"""Reads a copy's file and says what is wrong with it. Nothing is changed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
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
from rehost.store.base import FileState, Store
from rehost.store.layout import Layout, is_key

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
_NO_KEY = Seen(Fault.UNREADABLE, "the ledger has a name for it that is none: something else has written that")


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
        named = [each for each in copies if is_key(each.copy.key)]
        states = {} if is_read else await self.store.states([each.copy.key for each in named])
        unread = [each for each in named if not _is_right(states.get(each.copy.key), each)]
        seen = {each.entry: _RIGHT for each in named}
        async with AsyncExitStack() as stack:
            files = (stack.enter_async_context(self.store.as_file(each.copy.key)) for each in unread)
            paths = await asyncio.gather(*files)
            for known, path, each in zip(
                unread, paths, await asyncio.to_thread(self._look_at, unread, paths), strict=True
            ):
                is_another = each.fault in _DAMAGED and each.size not in {0, known.copy.size}
                seen[known.entry] = await self._proven(known, path, each) if is_another else each
        return [seen.get(each.entry, _NO_KEY) for each in copies]

    def _look_at(self, copies: Sequence[KnownCopy], paths: Sequence[Path]) -> list[Seen]:
        return [self._look(known, path) for known, path in zip(copies, paths, strict=True)]

    def _look(self, known: KnownCopy, path: Path) -> Seen:
        """Return what a file is, as far as its first bytes and its digest tell."""
        try:
            state = os.stat(path)  # noqa: PTH116 - of a million files
            if not stat.S_ISREG(state.st_mode):
                return Seen(Fault.NOT_A_FILE, _KINDS.get(stat.S_IFMT(state.st_mode), "a device"))
            parsed = self.layout.parse(known.copy.key)
            return _read(path, known.copy, parsed and parsed[2].value)
        except (FileNotFoundError, NotADirectoryError):
            return Seen(Fault.MISSING, "a symbolic link to nothing" if path.is_symlink() else "there is no such file")
        except OSError as error:
            return Seen(Fault.UNREADABLE, error.strerror or str(error))

    async def _proven(self, known: KnownCopy, path: Path, seen: Seen) -> Seen:
        """Return whether damaged bytes are another whole picture."""
        try:
            image = await self.verifier.verify(path)
        except (VisitError, StoreError) as error:
            return replace(seen, evidence=f"{seen.evidence}; {error}")
        words = f"a whole picture, {image.width} x {image.height}, of {seen.size:,} bytes with the digest"
        return replace(seen, fault=Fault.REPLACED, evidence=f"{words} {seen.digest[:16]}, not {known.copy.digest[:16]}")

    async def is_there(self, known: KnownCopy) -> bool:
        """Return whether the copy has a regular file, whatever is in it."""
        return bool(await self.store.states([known.copy.key]))


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


def _is_right(state: FileState | None, known: KnownCopy) -> bool:
    """Return whether a file has the copy's size and was not modified since its bytes were read last."""
    read_at = max(filter(None, (known.verified_at, known.held_at)), default=None)
    if state is None or read_at is None:
        return False
    return state.size == known.copy.size and state.modified <= read_at.timestamp()
