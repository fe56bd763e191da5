"""One of the processes of `rehost run --workers N` that are forked (crew.py): waits to begin, does its part, ends."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from typing import Self

from rehost.cli.loop import run_loop
from rehost.cli.signals import SIGNALS
from rehost.cli.workers.channel import WorkerChannel, WorkerEnd
from rehost.cli.workers.partition import WorkerShare
from rehost.errors import OperatorError
from rehost.events import Event, RunEnded, Visited
from rehost.telemetry.log import log_event, logging_to, together
from rehost.wiring import run as running

RELAY_SECONDS = 0.1
"""A process says this often what it has visited: each word wakes the leading process, which has better to do."""


def begin(part: WorkerShare, end: WorkerEnd, not_ours: list[WorkerChannel], mask: Iterable[int]) -> None:
    """Do one part, once told to; the whole life of a forked process."""
    for number in SIGNALS:  # a terminal sends them to everybody: the leading process says what is to be done
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for line in not_ours:  # or it would never be seen that the leading process is gone
        line.close()
    crew = end.begun()
    if crew is None:
        return
    try:
        with logging_to(sys.stderr, part.wish.log_file, verbose=part.wish.is_verbose):
            end.say([run_loop(_work(part, end, crew))])
    except OperatorError as error:
        end.say([error])
    finally:
        end.close()


async def _work(part: WorkerShare, end: WorkerEnd, crew: int) -> RunEnded:
    with _Relay(end, is_watched=not part.wish.is_quiet) as relay:
        listen = together(relay.take, log_event)
        async with running.open_run(
            part.settings, source=part.wish.source, listen=listen, requests=part.requests
        ) as run:
            with end.told(run.stop):
                return await run.go(crew=crew)


class _Relay:
    """Passes on to the leading process what happens in this one; use as a context manager, in an event loop."""

    def __init__(self, end: WorkerEnd, *, is_watched: bool) -> None:
        self._end = end
        self._is_watched = is_watched
        self._events: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pass_on()

    def take(self, event: Event) -> None:
        """Pass on an event: visits soon, where anybody watches them, anything else at once."""
        match event:
            case RunEnded():
                return  # it is said last, when everything is closed
            case Visited():
                if self._is_watched:
                    self._events.append(event)
                    self._timer = self._timer or asyncio.get_running_loop().call_later(RELAY_SECONDS, self._pass_on)
            case _:
                self._events.append(event)
                self._pass_on()

    def _pass_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events:
            self._end.say([*self._events])
            self._events.clear()
