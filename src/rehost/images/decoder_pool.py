"""Decoder processes: started when needed, one picture at a time, killed and replaced when they go too far.

No executor of the standard library can end one worker that hangs in C code without losing the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from rehost.errors import OperatorError
from rehost.images.decoder_main import LONGEST_LINE, READY, Bounds
from rehost.images.decoder_protocol import Answer, from_line

_START_SECONDS = 60  # Python, Pillow and a machine that is busy with other things


class Died(Exception):  # noqa: N818 -- said of a process, between the pool and whoever asks it
    """The process ended, or had to be ended, before it had answered.

    Attributes:
        status: as it exited, negative for the signal that ended it; None where we ended it.
    """

    def __init__(self, status: int | None, how: str) -> None:
        super().__init__(how)
        self.status = status


class Pool:
    """Up to `processes` decoder processes; a context manager that leaves none behind.

    Args:
        bounds: what each of them may do.
        processes: how many there may be.
        wall_seconds: after how long without an answer a process is killed. Its own timer counts processor time only.
    """

    def __init__(self, bounds: Bounds, processes: int, wall_seconds: float) -> None:
        self._bounds = bounds
        self._wall_seconds = wall_seconds
        self._turns = asyncio.Semaphore(processes)
        self._idle: list[_Decoder] = []  # the last one used is used first: a quiet run starts few
        self._all: set[_Decoder] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        await asyncio.gather(*(decoder.end() for decoder in self._all))

    async def ask(self, path: Path, *, fresh: bool = False, side: int = 0) -> Answer:
        """Return what a process (a new one if `fresh`) says of the file; a cancelled question ends its process.

        With a `side` the answer is a thumbnail, no longer than that either way.

        Raises:
            Died: the process is gone; the next question starts another.
            OperatorError: no process can be started.
        """
        async with self._turns:
            if self._closed:
                raise OperatorError("The decoder processes were stopped while a picture was still to be proven.")
            decoder = self._idle.pop() if self._idle else None
            if decoder is not None and fresh:
                await self._drop(decoder)
                decoder = None
            if decoder is None:
                decoder = await _Decoder.start(self._bounds, self._wall_seconds)
                self._all.add(decoder)
            try:
                answer = await decoder.ask(path, side)
            except BaseException:
                await self._drop(decoder)
                raise
            self._idle.append(decoder)
            return answer

    async def _drop(self, decoder: _Decoder) -> None:
        self._all.discard(decoder)
        await decoder.end()


class _Decoder:
    """One decoder process, seen from outside."""

    def __init__(self, process: Process, wall_seconds: float) -> None:
        self._process = process
        self._wall_seconds = wall_seconds

    @classmethod
    async def start(cls, bounds: Bounds, wall_seconds: float) -> Self:
        """Start a process and wait until it is ready.

        Raises:
            OperatorError: it does not come up.
        """
        # It finds the modules that we find, and gets nothing else of our environment: no database's password is within
        # reach of a decoder. One arena keeps malloc's reservations out of RLIMIT_AS.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "1"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        command = (sys.executable, "-P", "-m", "rehost.images.decoder_main", bounds.to_text())
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is the parent's to answer
                limit=LONGEST_LINE,
            )
        except OSError as error:
            raise OperatorError(f"No decoder process can be started: {error.strerror or error}.") from error
        decoder = cls(process, wall_seconds)
        try:
            async with asyncio.timeout(_START_SECONDS):
                ready = await decoder._line()
        except (Died, TimeoutError):
            ready = b""
        except BaseException:
            await decoder.end()
            raise
        if ready != READY:
            await decoder.end()
            megabytes = bounds.memory_bytes >> 20
            raise OperatorError(
                f"A decoder process ended before it was ready: is IMAGE_DECODE_MEMORY ({megabytes} MiB) enough, and "
                f"does `{sys.executable} -m PIL` work?"
            )
        return decoder

    async def ask(self, path: Path, side: int) -> Answer:
        """Return the process's answer.

        Raises:
            Died: it ended, or its time was up and it was killed.
        """
        stdin = self._process.stdin
        assert stdin is not None
        question = [os.fspath(path), side] if side else os.fspath(path)
        stdin.write(json.dumps(question).encode() + b"\n")
        try:
            async with asyncio.timeout(self._wall_seconds):
                return from_line(await self._line())
        except TimeoutError:
            raise Died(None, "no answer in time") from None
        except (ValueError, KeyError) as error:  # a decoder taken over by its picture may write anything
            raise Died(0, "an answer that is none") from error

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def _line(self) -> bytes:
        """Return the next line that the process writes."""
        stdout = self._process.stdout
        assert stdout is not None
        line = await stdout.readline()
        if line.endswith(b"\n"):
            return line
        status = await self._process.wait()
        raise Died(status, signal.Signals(-status).name if status < 0 else f"exit status {status}")
