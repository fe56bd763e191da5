"""`rehost run --workers N`: several processes at one run, one display.

The others are forked from this one when it has imported everything, before it runs anything: a loop, a thread. It works
as they do, and plans; they begin when it has. They share the work as workers on several machines do, through the
ledger; here they also share what one command may have in flight (invariant 8). What happens in them comes here as
events. They end well when they are told to, or when this process is gone.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Self

from rehost.assembly import running
from rehost.cli.conductor import Wish, announce, status_of, tell
from rehost.cli.line import Line, WorkerEnd, make_line
from rehost.cli.loop import run_loop
from rehost.cli.signals import SIGNALS, stopping
from rehost.clock import SystemClock
from rehost.errors import OperatorError
from rehost.events import Event, Listener, Planned, RunBegan, RunEnded, Visited
from rehost.pipeline.run import Run
from rehost.settings import Settings
from rehost.telemetry.log import log_event, logging_to, together
from rehost.telemetry.progress import progress

RELAY_SECONDS = 0.1
"""A process says this often what it has visited: each word wakes the leading process, which has better to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one process of a crew is to do."""

    settings: Settings
    wish: Wish
    requests: int  # of the command's concurrency


def run_crew(settings: Settings, wish: Wish, workers: int) -> tuple[RunEnded, int]:
    """Run in several processes; return what they came to together, and the exit status.

    Raises:
        OperatorError: one of them was stopped by it; the others were told to end.
    """
    own, *others = shares(settings, wish, workers, os.cpu_count() or 1)
    with Crew.of(others) as crew:
        return run_loop(_lead(own, crew))


def shares(settings: Settings, wish: Wish, workers: int, cores: int) -> list[Part]:
    """Divide requests and decoders among workers; never more workers than requests."""
    number = min(workers, settings.concurrency)
    decoders = max(1, (settings.decode_processes or cores) // number)
    own = replace(settings, decode_processes=decoders)
    part, rest = divmod(settings.concurrency, number)
    return [Part(own, wish, part + (index < rest)) for index in range(number)]


def together_ended(ends: list[RunEnded], seconds: float) -> RunEnded:
    """Return what several processes of one run came to; where things stand is as the last of them saw it."""
    failed = sum((Counter(each.failed) for each in ends), Counter())
    return replace(
        ends[-1],
        held=sum(each.held for each in ends),
        unchanged=sum(each.unchanged for each in ends),
        adopted=sum(each.adopted for each in ends),
        failed=dict(failed),
        overtaken=sum(each.overtaken for each in ends),
        mended=sum(each.mended for each in ends),
        unveiled=sum(each.unveiled for each in ends),
        size=sum(each.size for each in ends),
        seconds=seconds,
        interrupted=any(each.interrupted for each in ends),
    )


class Crew:
    """The other processes, and what all have come to."""

    def __init__(self, others: list[tuple[BaseProcess, Line]]) -> None:
        self._others = others
        self._run: Run | None = None
        self._number: int | None = None
        self._ended: list[RunEnded] = []
        self._error: OperatorError | None = None

    @classmethod
    @contextmanager
    def of(cls, parts: list[Part]) -> Iterator[Self]:
        """Fork a process for each part, which waits to be told to begin; let go of them at the end."""
        context = multiprocessing.get_context("fork")
        others: list[tuple[BaseProcess, Line]] = []
        gc.freeze()  # what all share is not looked through by each
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until they know that signals are not for them
        for part in parts:
            line, end = make_line(context)
            before = [theirs for _, theirs in others]
            process: BaseProcess = context.Process(target=_begin, args=(part, end, [line, *before]), name="rehost-worker")
            process.start()
            end.close()
            others.append((process, line))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            yield cls(others)
        finally:
            for process, line in others:
                line.close()
                process.join()

    async def lead(self, run: Run, listen: Listener, retry: str | None) -> list[RunEnded]:
        """Do this process's own part; return all ends, the last one last.

        Raises:
            OperatorError: the first of all processes'.
        """
        self._run = run
        hearing = [asyncio.create_task(self._hear(process, line, listen)) for process, line in self._others]
        try:
            self._ended.append(await run.go(retry=retry))
        except OperatorError as error:
            self._fail(error)
        await asyncio.gather(*hearing)
        if self._error is not None:
            raise self._error
        return self._ended

    def heed(self, event: Event) -> None:
        """Take in what happens in this process: the others begin when it has planned, if there is anything to do."""
        match event:
            case RunBegan():
                self._number = event.run
            case Planned():
                assert self._number is not None
                for _, line in self._others:
                    if event.due:
                        line.begin(self._number)
                    else:
                        line.stop()

    def stop(self) -> None:
        """Tell everybody to end well; who has not begun ends at once."""
        if self._run is not None:
            self._run.stop()
        for _, line in self._others:
            line.stop()

    def kill(self) -> None:
        """End the others at once."""
        for process, _ in self._others:
            process.kill()

    async def _hear(self, process: BaseProcess, line: Line, listen: Listener) -> None:
        """Take in what a process says until it ends."""
        async for said in line.said():
            for each in said:
                match each:
                    case OperatorError():
                        self._fail(each)
                    case RunEnded():
                        self._ended.append(each)
                    case RunBegan() | Planned():
                        pass  # this process's number and plan are everybody's
                    case _:
                        listen(each)
        await asyncio.to_thread(process.join)
        if process.exitcode:
            tell(
                f"A worker ended by itself (exit code {process.exitcode}); "
                "the others take over what it had leased within IMAGE_LEASE_SECONDS."
            )

    def _fail(self, error: OperatorError) -> None:
        self._error = self._error or error
        self.stop()


async def _lead(part: Part, crew: Crew) -> tuple[RunEnded, int]:
    """Do the first part, and take in what the others do; return what they came to, and the exit status."""
    wish, clock = part.wish, SystemClock()
    started = clock.monotonic()
    with (
        logging_to(sys.stderr, wish.log_file, verbose=wish.is_verbose),
        progress(sys.stderr, clock, quiet=wish.is_quiet) as show,
    ):
        watch = together(announce(wish), show)
        listen = together(watch, log_event, crew.heed)
        async with running.open_run(part.settings, source=wish.source, listen=listen, requests=part.requests) as run:
            with stopping(crew.stop, tell, crew.kill) as received:
                ends = await crew.lead(run, watch, wish.retry)
    ended = together_ended(ends, clock.monotonic() - started)
    return ended, received.exit_status(status_of(ended))


def _begin(part: Part, end: WorkerEnd, not_ours: list[Line]) -> None:
    """Do one part, once told to; the whole life of a forked process."""
    for number in SIGNALS:  # a terminal sends them to everybody: the leading process says what is to be done
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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


async def _work(part: Part, end: WorkerEnd, crew: int) -> RunEnded:
    with _Relay(end, is_watched=not part.wish.is_quiet) as relay:
        listen = together(relay.take, log_event)
        async with running.open_run(
            part.settings, source=part.wish.source, listen=listen, requests=part.requests
        ) as run:
            with end.told(run.stop):
                return await run.go(list_store=False, crew=crew)


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
