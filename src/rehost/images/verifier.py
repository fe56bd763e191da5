"""Verifies pictures for a run: a path goes in, a whole picture or the reason against it comes out."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Literal, Self

from rehost.clock import Clock
from rehost.errors import Permanent, StoreError, Transient, VisitError
from rehost.images.decoder_main import OUT_OF_MEMORY, SMALL_BYTES, Answer, Bounds, Unreadable, walk
from rehost.images.decoder_pool import DecoderDied, DecoderPool
from rehost.model import Image, Reason

# A picture's limit is processor time, so that a busy machine judges as an idle one does. The clock only ends a decoder
# that makes no progress at all, because its disk hangs.
_TIMEOUT_FACTOR = 4
_TIMEOUT_GRACE_SECONDS = 15

TINY_BYTES = 64 * 1024
LONG_WALK_SECONDS = 0.1
"""Walking SMALL_BYTES takes less than a millisecond, unless the file was made to take long: then most of a second."""


class ImageVerifier:
    """Verifies pictures in decoder processes.

    Everything that untrusted bytes can slow down or harm happens in those processes: this one only passes paths, and
    stays small. The exception, with `verify` "structure", are small files of formats whose walk takes time in
    proportion to their size: it is pure Python, and cheaper than asking a process. After one walk that took long, only
    tiny files are walked here. An async context manager; the first picture that needs one starts the first process.

    Args:
        verify: "decode" has a decoder read every frame; "structure" only walks the container to its end.
        max_pixels: of one frame or page.
        max_frames: frames, pages or icon sizes.
        decode_memory_bytes: address space of each process, including some 100 MB for Python and Pillow.
        decode_seconds: processor time for one picture.
        processes: how many pictures are verified at once.
        clock: measures how long a walk takes.
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
        self._pool = DecoderPool(self._bounds, processes, decode_seconds * _TIMEOUT_FACTOR + _TIMEOUT_GRACE_SECONDS)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    async def verify(self, path: Path) -> Image:
        """Return which picture the bytes at `path` are; the file is only read.

        If the process dies, an earlier picture may have damaged it. So a new process gets the picture, and only its
        death counts against the picture.

        Raises:
            VisitError: Permanent for bytes that are no whole picture within the limits; Transient(TRUNCATED) for a
                picture that is truncated.
            StoreError: the file cannot be read.
            OperatorError: no decoder process can be started.
        """
        if _size(path) < self._walked_bytes and (answer := self._walk(path)) is not None:
            return _image(path, answer)
        try:
            return _image(path, await self._pool.ask(path))
        except DecoderDied as death:
            if death.status is None or death.status == -signal.SIGPROF:  # a timeout is not due to earlier pictures
                raise visit_error(death, self._decode_seconds) from death
        try:
            return _image(path, await self._pool.ask(path, fresh=True))
        except DecoderDied as death:
            raise visit_error(death, self._decode_seconds) from death

    def _walk(self, path: Path) -> Answer | None:
        """Walk a file in this process if its format allows; nothing else happens meanwhile."""
        began = self._clock.monotonic()
        answer = walk(os.fspath(path), self._bounds)
        if self._clock.monotonic() - began > LONG_WALK_SECONDS:
            self._walked_bytes = TINY_BYTES
        return answer


def visit_error(death: DecoderDied, decode_seconds: float) -> VisitError:
    """Return what the death of a decoder process says about its picture, which had `decode_seconds` of CPU time."""
    match death.status:
        case None:
            return Transient(Reason.TOO_LARGE, "its decoder did not answer in time")
        case status if status == OUT_OF_MEMORY:
            return Permanent(Reason.TOO_LARGE, "needs more memory to decode than IMAGE_DECODE_MEMORY")
        case status if status == -signal.SIGPROF:
            return Permanent(Reason.TOO_LARGE, f"more than {decode_seconds:g} s to decode")
        case status if status == -signal.SIGKILL:  # our own kills have no status: this one is the kernel's
            return Permanent(Reason.TOO_LARGE, "its decoder was killed, probably for lack of memory")
        case _:
            return Permanent(Reason.CORRUPT, f"its decoder crashed ({death})")


def _image(path: Path, answer: Answer) -> Image:
    """Return the picture in an answer, or raise the error in it."""
    if isinstance(answer, VisitError):
        raise answer
    if isinstance(answer, Unreadable):
        raise StoreError(f"{path} cannot be read: {answer.cause}.")
    assert isinstance(answer, Image)  # no thumbnail was asked for
    return answer


def _size(path: Path) -> float:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - called for every picture
    except OSError:
        return math.inf  # the process that opens it reports why
