"""The line between a crew's leading process and one of the others: what happens goes up, orders come down.

Two pipes. An event loop makes the end that it watches non-blocking, which `Connection.recv` and `send` do not bear: so
nobody writes where it watches, and what comes up is read by a stream. Down comes the number of the run, which is the
word to begin; that the pipe closes is the word to stop, whoever closed it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

from rehost.errors import OperatorError
from rehost.events import Event

_LENGTH_BYTES = 4
_NUMBER_BYTES = 8

Said = Event | OperatorError


@dataclass(frozen=True, slots=True)
class WorkerChannel:
    """The leading process's end."""

    events: Connection
    orders: Connection

    def begin(self, run: int) -> None:
        """Tell the other process to begin its part of a run, unless it has been told to stop, or is gone."""
        if not self.orders.closed:
            with suppress(BrokenPipeError):
                os.write(self.orders.fileno(), run.to_bytes(_NUMBER_BYTES, "big"))

    def stop(self) -> None:
        """Tell the other process to end well."""
        self.orders.close()

    async def said(self) -> AsyncGenerator[Said, None]:
        """Yield what the other process says, to its end."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(os.dup(self.events.fileno()), "rb", buffering=0)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
                for said in pickle.loads(await reader.readexactly(length)):  # noqa: S301 - from a process of our own
                    yield said
        except asyncio.IncompleteReadError:
            return
        finally:
            transport.close()

    def close(self) -> None:
        """Let go of it."""
        self.events.close()
        self.orders.close()


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """The other process's end; is handed to it when it starts."""

    events: Connection
    orders: Connection

    def begun(self) -> int | None:
        """Wait for the word to begin; return the number of the run, or None for the word to stop."""
        number = os.read(self.orders.fileno(), _NUMBER_BYTES)
        return int.from_bytes(number, "big") if number else None

    def say(self, said: list[Said]) -> None:
        """Send up what happened; waits while the pipe is full, and is lost where nobody leads any more."""
        data = pickle.dumps(said)
        with suppress(BrokenPipeError), os.fdopen(self.events.fileno(), "wb", closefd=False) as pipe:
            pipe.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    @contextmanager
    def told(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` when the leading process says so, or is gone."""
        loop = asyncio.get_running_loop()
        orders = self.orders.fileno()

        def read() -> None:
            loop.remove_reader(orders)
            stop()

        loop.add_reader(orders, read)
        try:
            yield
        finally:
            loop.remove_reader(orders)

    def close(self) -> None:
        """Say that no more will come."""
        self.events.close()
        self.orders.close()


def make_line() -> tuple[WorkerChannel, WorkerEnd]:
    """Return both ends of a line."""
    heard, said = multiprocessing.Pipe(duplex=False)
    received, sent = multiprocessing.Pipe(duplex=False)
    return WorkerChannel(heard, sent), WorkerEnd(said, received)
