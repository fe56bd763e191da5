"""SIGINT and SIGTERM: the first one asks a run to end well, the second one ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Received:
    """Which signal came first, if any."""

    number: int | None = None

    def exit_status(self, otherwise: int) -> int:
        """Return 128 and the signal's number, as a shell would, or what holds where none came."""
        return otherwise if self.number is None else 128 + self.number


@contextmanager
def stopping(
    stop: Callable[[], None], say: Callable[[str], None], kill: Callable[[], None] | None = None
) -> Iterator[Received]:
    """Let the first signal call `stop`, on the running event loop; the second one calls `kill` and ends the process.

    What is on disk and in the database bears that: it is what kill -9 does.
    """
    loop = asyncio.get_running_loop()
    received = Received()

    def receive(number: int) -> None:
        if received.number is not None:
            if kill is not None:
                kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.number = number
        stop()
        say("Stopping: what is in flight is finished and recorded. Once more stops at once.")

    for number in SIGNALS:
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
