"""`rehost run --workers N`: several processes at one run, one display.

The others are forked from this one when it has imported its parts, before it runs anything: a loop, a thread. It works
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
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Self

from rehost.assembly import running
from rehost.cli.conductor import Wish, announce, status_of, tell
from rehost.cli.line import Line, make_line
from rehost.cli.loop import run_loop
from rehost.cli.signals import SIGNALS, stopping
from rehost.cli.worker import Part, begin
from rehost.clock import SystemClock
from rehost.errors import OperatorError, shortage
from rehost.events import Event, Listener, Planned, RunBegan, RunEnded
from rehost.pipeline.run import Run
from rehost.settings import Settings
from rehost.telemetry.log import log_event, logging_to, together
from rehost.telemetry.progress import progress


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
        self._number = 0
        self._has_begun = False
        self._ended: list[RunEnded] = []
        self._error: OperatorError | None = None

    @classmethod
    @contextmanager
    def of(cls, parts: list[Part]) -> Iterator[Self]:
        """Fork a process for each part, which waits to be told to begin; at the end all of them have ended.

        Raises:
            OperatorError: the system gives no more processes, or no files for them.
        """
        others: list[tuple[BaseProcess, Line]] = []
        gc.freeze()  # what all share is not looked through by each
        try:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until they know that signals are not for them
            try:
                for part in parts:
                    others.append(_fork(part, [line for _, line in others], mask))
            except OSError as error:
                said = f"No further process can be started ({error.strerror}): lower --workers."
                raise shortage(error) or OperatorError(said) from error
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            yield cls(others)
        finally:
            _let_go(others)

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
        if not self._has_begun:
            self.stop()
        await asyncio.gather(*hearing)
        if self._error is not None:
            raise self._error
        return self._ended

    def heed(self, event: Event) -> None:
        """Take in what happens in this process: the others begin when it has planned, if there is anything to do."""
        match event:
            case RunBegan():
                self._number = event.run
            case Planned() if event.due and not self._has_begun:
                self._has_begun = True
                for _, line in self._others:
                    line.begin(self._number)

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
        is_done = False
        try:
            async with aclosing(line.said()) as saying:
                async for each in saying:
                    match each:
                        case OperatorError():
                            is_done = True
                            self._fail(each)
                        case RunEnded():
                            is_done = True
                            self._ended.append(each)
                        case RunBegan() | Planned():
                            pass  # this process's number and plan are everybody's
                        case _:
                            listen(each)
        except BaseException:  # nobody listens any more
            self.stop()
            line.close()
            raise
        await asyncio.to_thread(process.join)
        if process.exitcode and not is_done:
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
        listen = together(_unless_ended(watch), log_event, crew.heed)
        async with running.open_run(part.settings, source=wish.source, listen=listen, requests=part.requests) as run:
            with stopping(crew.stop, tell, crew.kill) as received:
                ends = await crew.lead(run, watch, wish.retry)
        ended = together_ended(ends, clock.monotonic() - started)
        show(ended)
    return ended, received.exit_status(status_of(ended))


def _unless_ended(listen: Listener) -> Listener:
    """Return a listener that is not told of the end of a part: the others may be at theirs."""
    return lambda event: None if isinstance(event, RunEnded) else listen(event)


def _fork(part: Part, not_its_own: list[Line], mask: Iterable[int]) -> tuple[BaseProcess, Line]:
    """Start one process, which is to have this signal mask."""
    line, end = make_line()
    arguments = part, end, [line, *not_its_own], mask
    process = multiprocessing.get_context("fork").Process(target=begin, args=arguments, name="rehost-worker")
    try:
        process.start()
    except OSError:
        line.close()
        raise
    finally:
        end.close()
    return process, line


def _let_go(others: list[tuple[BaseProcess, Line]]) -> None:
    """Wait until all have ended; who is at work ends well, unless an interrupt says that it takes too long."""
    for _, line in others:
        line.close()
    try:
        for process, _ in others:
            process.join()
    except KeyboardInterrupt:
        for process, _ in others:
            process.kill()
        raise
