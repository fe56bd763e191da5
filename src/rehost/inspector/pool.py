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
from rehost.inspector.answer import Answer, from_line
from rehost.inspector.process import READY, Bounds

_START_SECONDS = 60  # Python, Pillow and a machine that is busy with other things
_WALL_FACTOR = 4  # a picture's processor time, on a machine that others use as well
_WALL_GRACE_SECONDS = 15


class Died(Exception):  # noqa: N818 -- said of a process, in the pool and its caller
    """The process ended, or had to be ended, before it had answered.

    Attributes:
        status: as it exited; negative for the signal that ended it; None where we ended it, for its time was up or its
            answer made no sense.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__(signal.Signals(-status).name if status and status < 0 else f"exit status {status}")
        self.status = status


class Pool:
    """Up to `processes` decoder processes; a context manager that leaves none behind."""

    def __init__(self, bounds: Bounds, processes: int) -> None:
        self._bounds = bounds
        self._turns = asyncio.Semaphore(processes)
        self._idle: list[_Decoder] = []  # the last one used is used first: a quiet run starts few
        self._all: set[_Decoder] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(decoder.end() for decoder in self._all))
        self._all.clear()
        self._idle.clear()

    async def ask(self, path: Path, *, fresh: bool = False) -> Answer:
        """Return what a process (a new one if `fresh`) says of the file; a cancelled question ends its process.

        Raises:
            Died: the process is gone, and was replaced.
            OperatorError: no process can be started.
        """
        async with self._turns:
            decoder = self._idle.pop() if self._idle else None
            if decoder is not None and fresh:
                await self._drop(decoder)
                decoder = None
            if decoder is None:
                decoder = await _Decoder.start(self._bounds)
                self._all.add(decoder)
            try:
                answer = await decoder.ask(path)
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
    async def start(cls, bounds: Bounds) -> Self:
        """Start a process and wait until it is ready.

        Raises:
            OperatorError: it does not come up.
        """
        # It finds the modules that we find, and gets nothing else of our environment: no database's password is within
        # reach of a decoder. One arena keeps malloc's reservations out of RLIMIT_AS.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "1"}
        environment |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "HOME") if name in os.environ}
        command = (sys.executable, "-P", "-m", "rehost.inspector.process", bounds.to_text())
        wall_seconds = bounds.picture_seconds * _WALL_FACTOR + _WALL_GRACE_SECONDS
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C is the parent's to answer
            )
        except OSError as error:
            raise OperatorError(f"No decoder process can be started: {error}.") from error
        decoder = cls(process, wall_seconds)
        try:
            ready = await asyncio.wait_for(decoder._line(), _START_SECONDS)
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

    async def ask(self, path: Path) -> Answer:
        """Return the process's answer.

        Raises:
            Died: it ended, or its time was up and it was killed.
        """
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps(os.fspath(path)).encode() + b"\n")
        try:
            return from_line(await asyncio.wait_for(self._line(), self._wall_seconds))
        except TimeoutError:
            raise Died(None) from None
        except (ValueError, KeyError) as error:  # a decoder taken over by its picture may write anything
            raise Died(None) from error

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _line(self) -> bytes:
        """Return the next line that the process writes."""
        stdout = self._process.stdout
        assert stdout is not None
        line = await stdout.readline()
        if line.endswith(b"\n"):
            return line
        raise Died(await self._process.wait())
