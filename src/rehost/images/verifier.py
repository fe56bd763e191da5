"""Verifies pictures for a run: a file goes in, a whole picture or the reason against it comes out.

Decoder processes start when they are needed, decode one picture at a time each, and are killed and replaced when they
exceed a limit: no executor of the standard library can end one worker that hangs in C code without losing the others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

from cachetools import LRUCache

from rehost.clock import Clock
from rehost.errors import OperatorError, Permanent, StoreError, Transient, VisitError, cause_of
from rehost.http.url import domain_of
from rehost.images.decoder_main import (
    MAX_LINE_BYTES,
    OUT_OF_MEMORY,
    SMALL_BYTES,
    Answer,
    Bounds,
    NeedsHeic,
    Thumbnail,
    Unreadable,
    from_line,
    open_file,
    walk,
)
from rehost.language import Message
from rehost.model import Image, Reason
from rehost.process_identity import hide_memory

log = logging.getLogger(__name__)

_START_TIMEOUT_SECONDS = 60  # for Python and Pillow, on a machine that is busy with other work
_THUMBNAIL_TIMEOUT_SECONDS = 20.0
_THUMBNAIL_CPU_SECONDS = 5.0


class DecoderDied(Exception):  # noqa: N818 -- an event between the pool and its callers
    """The process ended, or was killed, before it had answered."""

    def __init__(self, status: int | None, how: str) -> None:
        super().__init__(how)
        self.status = status  # negative for the signal that ended the process; None if the pool killed it


class FairQueue:
    """Shares a number of slots between domains: the domain that has used the least time gets the next slot.

    Every picture of a domain can take as long as is allowed, so pictures wait per domain. A domain that is alone gets
    all slots. Time used counts half after HALF_LIFE_SECONDS, and that of pictures in progress counts as well.
    """

    HALF_LIFE_SECONDS = 60.0
    MOST_DOMAINS = 4096
    """Domains whose time is remembered; the least recently active one is forgotten."""

    def __init__(self, slots: int, clock: Clock) -> None:
        self._free = slots
        self._clock = clock
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._began: dict[str, list[float]] = {}  # domain -> since when it has its slots
        self._used: LRUCache[str, tuple[float, float]] = LRUCache(self.MOST_DOMAINS)  # domain -> seconds, at what time

    @asynccontextmanager
    async def slot(self, domain: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it within the block."""
        if self._free:
            self._free -= 1
        else:
            await self._turn(domain)
        began = self._clock.monotonic()
        self._began.setdefault(domain, []).append(began)
        try:
            yield
        finally:
            now = self._clock.monotonic()
            self._used[domain] = self._past_seconds(domain, now) + now - began, now
            self._began[domain].remove(began)
            if not self._began[domain]:
                del self._began[domain]
            self._pass_on()

    def seconds(self, domain: str) -> float:
        """Return how much time a domain has used, by what it counts now."""
        now = self._clock.monotonic()
        return self._past_seconds(domain, now) + sum(now - began for began in self._began.get(domain, ()))

    def _past_seconds(self, domain: str, now: float) -> float:
        used, at = self._used.get(domain, (0.0, now))
        return used * math.exp2((at - now) / self.HALF_LIFE_SECONDS)

    async def _turn(self, domain: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(domain, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot came at the same time
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give the slot that has become free to the next picture, if one is waiting."""
        while self._waiting:
            domain = min(self._waiting, key=lambda each: (self.seconds(each), len(self._began.get(each, ()))))
            turns = self._waiting.pop(domain)
            turn = turns.popleft()
            if turns:
                self._waiting[domain] = turns  # at the end: domains with equal times take turns
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class DecoderPool:
    """Up to `processes` decoder processes with these bounds; an async context manager that leaves none behind.

    A process that has not answered after `timeout_seconds` is killed: its own timer counts only processor time.
    """

    def __init__(self, bounds: Bounds, processes: int, timeout_seconds: float, clock: Clock) -> None:
        self._bounds = bounds
        self._timeout_seconds = timeout_seconds
        self._queue = FairQueue(processes, clock)
        self._idle: list[_Decoder] = []  # last in, first out, so that a quiet run starts few
        self._all: set[_Decoder] = set()
        self._closed = False
        self._warned = False

    async def __aenter__(self) -> Self:
        hide_memory()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await asyncio.gather(*(decoder.end() for decoder in self._all))

    async def ask(self, path: Path, domain: str = "", *, fresh: bool = False, side: int = 0) -> Answer:
        """Return what a decoder process says about the file at `path`. A cancelled call ends the process.

        Args:
            path: it is only read.
            domain: where the picture comes from; decoder time is shared fairly between domains.
            fresh: ask a new process.
            side: ask for a thumbnail of at most this width and height in pixels; 0 to have the picture verified.

        Raises:
            DecoderDied: the process ended; the next call starts another.
            OperatorError: no process can be started.
        """
        async with self._queue.slot(domain):
            if self._closed:
                raise OperatorError("The decoder processes were stopped before every picture was verified.")
            file = open_file(os.fspath(path))
            if not isinstance(file, int):
                return file
            try:
                answer = await self._ask(file, side, fresh=fresh)
                if isinstance(answer, NeedsHeic):
                    self._bounds = replace(self._bounds, heic=True)
                    answer = await self._ask(file, side, fresh=True)
                return answer
            finally:
                os.close(file)

    async def _ask(self, file: int, side: int, *, fresh: bool) -> Answer:
        decoder = self._idle.pop() if self._idle else None
        if decoder is not None and fresh:
            await self._end(decoder)
            decoder = None
        if decoder is None:
            decoder = await _Decoder.start(self._bounds, self._timeout_seconds)
            self._all.add(decoder)
            if decoder.missing and not self._warned:
                self._warned = True
                log.warning("decoders are not confined by %s", ", ".join(decoder.missing))
        try:
            answer = await decoder.ask(file, side)
        except BaseException:
            await self._end(decoder)
            raise
        self._idle.append(decoder)
        return answer

    async def _end(self, decoder: _Decoder) -> None:
        self._all.discard(decoder)
        await decoder.end()


class Thumbnailer:
    """Makes thumbnails of copies in decoder processes, so that a server never decodes untrusted bytes itself.

    An async context manager; the first thumbnail starts the first process.
    """

    def __init__(
        self, *, max_pixels: int, max_frames: int, max_total_pixels: int, decode_memory_bytes: int, processes: int
    ) -> None:
        """Take the limits of a picture, the memory of each process, and how many processes there may be."""
        bounds = Bounds(
            True,  # noqa: FBT003 - decode
            max_pixels,
            max_frames,
            max_total_pixels,
            decode_memory_bytes,
            _THUMBNAIL_CPU_SECONDS,
        )
        self._pool = DecoderPool(bounds, processes, _THUMBNAIL_TIMEOUT_SECONDS, Clock())

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    async def make(self, path: Path, side: int) -> bytes | None:
        """Return a WebP of at most `side` by `side` pixels, or None if none can be made within the limits.

        Raises:
            OperatorError: no decoder process can be started.
        """
        try:
            answer = await self._pool.ask(path, side=side)
        except DecoderDied:
            return None
        return answer.content if isinstance(answer, Thumbnail) else None


class _Decoder:
    """One decoder process, seen from its parent.

    Attributes:
        missing: what the system lacks to confine it.
    """

    def __init__(self, process: Process, channel: socket.socket, timeout_seconds: float) -> None:
        self._process = process
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self.missing: list[str] = []

    @classmethod
    async def start(cls, bounds: Bounds, timeout_seconds: float) -> Self:
        """Start a process and wait until it is ready; raise OperatorError if that is impossible."""
        # The process finds the modules that we find, and gets nothing else of our environment: no database password is
        # within reach of a decoder. With one arena, malloc's reservations do not count against RLIMIT_AS.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "1"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        command = (sys.executable, "-P", "-m", "rehost.images.decoder_main", bounds.to_text())
        channel, its_end = socket.socketpair()
        channel.settimeout(0)  # it only ever holds one question
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=its_end.fileno(),
                stdout=PIPE,
                stderr=DEVNULL,
                env=environment,
                start_new_session=True,  # only the parent handles a terminal's Ctrl-C
                limit=MAX_LINE_BYTES,
            )
        except BaseException as error:
            channel.close()
            if not isinstance(error, OSError):
                raise
            raise OperatorError("No decoder process can be started: {cause}.", cause=cause_of(error)) from error
        finally:
            its_end.close()
        decoder = cls(process, channel, timeout_seconds)
        try:
            async with asyncio.timeout(_START_TIMEOUT_SECONDS):
                decoder.missing = json.loads(await decoder._line())
        except (DecoderDied, TimeoutError):
            await decoder.end()
            megabytes = bounds.memory_bytes >> 20
            raise OperatorError(
                "A decoder process ended before it was ready: is IMAGE_DECODE_MEMORY ({megabytes} MiB) enough, and "
                "does `{python} -m PIL` work?",
                megabytes=megabytes,
                python=sys.executable,
            ) from None
        except BaseException:
            await decoder.end()
            raise
        return decoder

    async def ask(self, file: int, side: int) -> Answer:
        """Return the answer of the process; raise DecoderDied if it ends, or if its answer is late or invalid."""
        with suppress(OSError):  # the process has ended: how, its output says
            socket.send_fds(self._channel, [b"%d" % side], [file])
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return from_line(await self._line())
        except TimeoutError:
            raise DecoderDied(None, "no answer in time") from None
        except (
            ValueError,
            KeyError,
            RecursionError,
        ) as error:  # a picture that has taken control of the decoder can write anything
            raise DecoderDied(0, "an invalid answer") from error

    async def end(self) -> None:
        """Kill the process and wait until it has ended."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._channel.close()
        await self._process.wait()

    async def _line(self) -> bytes:
        """Return the next line that the process writes."""
        stdout = self._process.stdout
        assert stdout is not None
        line = await stdout.readline()
        if line.endswith(b"\n"):
            return line
        status = await self._process.wait()
        raise DecoderDied(status, signal.Signals(-status).name if status < 0 else f"exit status {status}")


# A picture's limit is processor time, so that a busy machine judges as an idle one does. The clock only ends a decoder
# that makes no progress at all, because its disk hangs.
_TIMEOUT_FACTOR = 4
_TIMEOUT_GRACE_SECONDS = 15

TINY_BYTES = 64 * 1024
LONG_WALK_SECONDS = 0.1
"""Walking SMALL_BYTES takes less than a millisecond; a file that was made to take long takes most of a second."""


class ImageVerifier:
    """Verifies pictures in decoder processes.

    Everything that untrusted bytes can slow down or harm happens in those processes: this one only passes open files,
    and stays small. The exception, with `verify` "structure", are small files of formats whose walk takes time in
    proportion to their size: it is pure Python, and cheaper than asking a process. After one walk that took long, only
    tiny files are walked here. An async context manager; the first picture that needs one starts the first process.

    Args:
        verify: "decode" has a decoder read every frame; "structure" only walks the container to its end.
        max_pixels: of one frame or page.
        max_frames: frames, pages or icon sizes.
        max_total_pixels: of all frames, pages or icon sizes together.
        decode_memory_bytes: address space of each process, including some 100 MB for Python and Pillow.
        decode_seconds: processor time for one picture.
        processes: how many pictures are verified at once.
        clock: measures how long a walk takes, and how long decoders work for a domain.
    """

    def __init__(
        self,
        *,
        verify: Literal["decode", "structure"],
        max_pixels: int,
        max_frames: int,
        max_total_pixels: int,
        decode_memory_bytes: int,
        decode_seconds: float,
        processes: int,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._walked_bytes = 0 if verify == "decode" else SMALL_BYTES
        self._decode_seconds = decode_seconds
        self._bounds = Bounds(
            verify == "decode", max_pixels, max_frames, max_total_pixels, decode_memory_bytes, decode_seconds
        )
        timeout_seconds = decode_seconds * _TIMEOUT_FACTOR + _TIMEOUT_GRACE_SECONDS
        self._pool = DecoderPool(self._bounds, processes, timeout_seconds, clock)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    async def verify(self, path: Path, host: str = "") -> Image:
        """Return what picture the file at `path` is; the file is only read.

        Decoder time is shared fairly between the registrable domains of the hosts that pictures come from.

        If the process dies, an earlier picture may have damaged it. So a new process gets the picture, and only its
        death counts against the picture.

        Raises:
            VisitError: Permanent for bytes that are no whole picture within the limits; Transient(TRUNCATED) for a
                picture that is truncated.
            StoreError: the file cannot be read.
            OperatorError: no decoder process can be started.
        """
        try:
            answer = self._walk(path) or await self._pool.ask(path, domain_of(host))
        except DecoderDied as death:
            if death.status in {None, -signal.SIGPROF}:  # a timeout is not due to earlier pictures
                raise visit_error(death, self._decode_seconds) from death
            try:
                answer = await self._pool.ask(path, domain_of(host), fresh=True)
            except DecoderDied as second:
                raise visit_error(second, self._decode_seconds) from second
        if isinstance(answer, VisitError):
            raise answer
        if isinstance(answer, Unreadable):
            await asyncio.to_thread(_read, path, answer.cause)  # a decoder's word alone does not stop a run
        if not isinstance(answer, Image):  # a picture that has taken control of the decoder can answer anything
            raise Permanent(Reason.CORRUPT, "its decoder gave an impossible answer")
        return answer

    def _walk(self, path: Path) -> Answer | None:
        """Walk a file in this process if its size and format allow; nothing else happens meanwhile."""
        try:
            if os.stat(path).st_size >= self._walked_bytes:  # noqa: PTH116 - called for every picture
                return None
        except OSError:
            return None  # the process that opens it reports why
        began = self._clock.processor_time()
        answer = walk(os.fspath(path), self._bounds)
        if self._clock.processor_time() - began > LONG_WALK_SECONDS:
            self._walked_bytes = TINY_BYTES
        return answer


def _read(path: Path, cause: str) -> None:
    """Read a file to its end; raise StoreError, with the cause that a decoder gave, if that is impossible."""
    try:
        with path.open("rb", buffering=0) as file:
            while file.read(SMALL_BYTES):
                pass
    except OSError as error:
        raise StoreError("{path} cannot be read: {cause}.", path=path, cause=Message(cause)) from error


def visit_error(death: DecoderDied, decode_seconds: float) -> VisitError:
    """Return what the death of a decoder process says about its picture, which had `decode_seconds` of CPU time."""
    match death.status:
        case None:
            return Transient(Reason.TOO_LARGE, "its decoder did not answer in time")
        case status if status == OUT_OF_MEMORY:
            return Permanent(Reason.TOO_LARGE, "needs more memory to decode than IMAGE_DECODE_MEMORY")
        case status if status == -signal.SIGPROF:
            return Permanent(Reason.TOO_LARGE, f"more than {decode_seconds:g} s to decode")
        case status if status == -signal.SIGSYS:
            return Permanent(Reason.CORRUPT, "its decoder tried what the sandbox of decoders forbids (SIGSYS)")
        case status if status == -signal.SIGKILL:  # our own kills have no status: this one is the kernel's
            return Permanent(Reason.TOO_LARGE, "its decoder was killed, probably for lack of memory")
        case _:
            return Permanent(Reason.CORRUPT, f"its decoder crashed ({death})")
