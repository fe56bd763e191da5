"""The inspector that the pipeline asks: a path in, a proven picture or the reason why not out."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rehost.clock import Clock
from rehost.errors import Permanent, StoreError, Transient, VisitError
from rehost.images.decoder_main import OUT_OF_MEMORY, SMALL_BYTES, Bounds, walk
from rehost.images.decoder_pool import Died, Pool
from rehost.images.decoder_protocol import Answer, Unreadable
from rehost.model import Image, Reason

# A picture is held to processor time, so that a busy machine judges as an idle one does; a decoder that makes no
# progress at all, on a disk that hangs, is ended by the clock.
_WALL_FACTOR = 4
_WALL_GRACE_SECONDS = 15

TINY_BYTES = 64 * 1024
LONG_SECONDS = 0.1
"""A walk of SMALL_BYTES takes under a millisecond, unless the file was made to take long: then most of a second."""


class ImageVerifier:
    """Proves pictures in processes of their own.

    Whatever can take long over untrusted bytes, or can be harmed by them, is done in those processes: this one passes
    paths on, and stays small. What it does itself, with `structure`, is to walk small files of those formats whose walk
    is bounded by their size: pure Python, and cheaper than to ask a process. After one that took long, whoever sent it,
    only tiny ones. An async context manager; no process is started before the first picture that needs one.

    Args:
        verify: "decode" has a decoder read every frame; "structure" only walks the container to its end.
        max_pixels: of one frame or page.
        max_frames: frames, pages or icon sizes.
        decode_memory_bytes: address space of each process, some 100 MB of Python and Pillow included.
        decode_seconds: processor time for one picture.
        processes: how many pictures are proven at once.
        clock: says how long a walk took.
    """

    def __init__(
        self,
        *,
        verify: Literal["decode", "structure"],
        max_pixels: int,
        max_frames: int,
        decode_memory_bytes: int,
        decode_seconds: float,
        processes: int,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._walked_bytes = 0 if verify == "decode" else SMALL_BYTES
        self._decode_seconds = decode_seconds
        self._bounds = Bounds(verify == "decode", max_pixels, max_frames, decode_memory_bytes, decode_seconds)
        self._pool = Pool(self._bounds, processes, decode_seconds * _WALL_FACTOR + _WALL_GRACE_SECONDS)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, traceback)

    async def inspect(self, path: Path) -> Image:
        """Return what the bytes at `path` proved to be; the file is only read.

        A process that dies is no verdict yet: an earlier picture may have hurt it. The picture is given to a fresh one,
        and what that does is held against the picture.

        Raises:
            VisitError: Permanent for bytes that are no whole picture within the limits; Transient(TRUNCATED) for a
                picture that is cut short.
            StoreError: the file cannot be read.
            OperatorError: no decoder process can be started.
        """
        if _size(path) < self._walked_bytes and (answer := self._walk(path)) is not None:
            return _image(path, answer)
        try:
            return await self._once(path)
        except Died as death:
            if death.status is None or death.status == -signal.SIGPROF:  # its time says nothing of earlier pictures
                raise self._verdict(death) from death
        try:
            return await self._once(path, fresh=True)
        except Died as death:
            raise self._verdict(death) from death

    def _walk(self, path: Path) -> Answer | None:
        """Walk a file here, where that is bounded; nothing else is done meanwhile."""
        began = self._clock.monotonic()
        answer = walk(os.fspath(path), self._bounds)
        if self._clock.monotonic() - began > LONG_SECONDS:
            self._walked_bytes = TINY_BYTES
        return answer

    async def _once(self, path: Path, *, fresh: bool = False) -> Image:
        return _image(path, await self._pool.ask(path, fresh=fresh))

    def _verdict(self, death: Died) -> VisitError:
        """Return what the death of a process says of the picture that it had."""
        match death.status:
            case None:
                return Transient(Reason.TOO_LARGE, "its decoder did not answer in time")
            case status if status == OUT_OF_MEMORY:
                return Permanent(Reason.TOO_LARGE, "more memory to decode than IMAGE_DECODE_MEMORY")
            case status if status == -signal.SIGPROF:
                return Permanent(Reason.TOO_LARGE, f"more than {self._decode_seconds:g} s to decode")
            case status if status == -signal.SIGKILL:  # our own kills have no status: this one is the kernel's
                return Permanent(Reason.TOO_LARGE, "its decoder was killed, probably for want of memory")
            case _:
                return Permanent(Reason.CORRUPT, f"its decoder died of it ({death})")


def _image(path: Path, answer: Answer) -> Image:
    """Return the picture that a proof found, or raise what it found instead."""
    if isinstance(answer, VisitError):
        raise answer
    if isinstance(answer, Unreadable):
        raise StoreError(f"{path} cannot be read: {answer.what}.")
    assert isinstance(answer, Image)  # nobody asked for a thumbnail
    return answer


def _size(path: Path) -> float:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - asked for every picture
    except OSError:
        return math.inf  # whoever opens it says why
