"""`rehost run --workers N`: several processes at one run, one display.

The others are forked from this one when it has imported its parts, before it runs anything: a loop, a thread. It works
as they do; they begin when it has planned. They share the work as workers on several machines do, through the ledger;
here they also share what one command may have in flight (invariant 8). What happens in them comes here as events. They
end well when they are told to, or when this process is gone.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Self

from rehost.cli.signals import SIGNALS
from rehost.cli.workers.channel import WorkerChannel, make_line
from rehost.cli.workers.partition import WorkerShare
from rehost.cli.workers.worker import begin
from rehost.clock import Clock
from rehost.errors import OperatorError, shortage
from rehost.events import Event, Listener, Planned, RunBegan, RunEnded
from rehost.run.run import Run

log = logging.getLogger(__name__)


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


class WorkerSupervisor:
    """The other processes, and what all have come to."""

    def __init__(self, others: list[tuple[BaseProcess, WorkerChannel]]) -> None:
        self._others = others
        self._run: Run
        self._watch: Listener
        self._number = 0
        self._has_begun = False
        self._ended: list[RunEnded] = []
        self._error: OperatorError | None = None

    @classmethod
    @contextmanager
    def of(cls, parts: list[WorkerShare]) -> Iterator[Self]:
        """Fork a process for each part, which waits to be told to begin; at the end all of them have ended.

        Raises:
            OperatorError: the system gives no more processes, or no files for them.
        """
        others: list[tuple[BaseProcess, WorkerChannel]] = []
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

    def told_by(self, watch: Listener) -> Listener:
        """Take who watches all processes; return who listens to this one."""
        self._watch = watch
        return self._heed

    def led_by(self, run: Run) -> Self:
        """Take this process's own part."""
        self._run = run
        return self

    async def go(self, *, retry: str | None = None) -> RunEnded:
        """Do this process's own part, as `Run.go` does; return what all came to.

        Raises:
            OperatorError: the first of all processes'; the others were told to end.
        """
        clock = Clock()
        started = clock.monotonic()
        hearing = [asyncio.create_task(self._hear(process, line)) for process, line in self._others]
        try:
            self._ended.append(await self._run.go(retry=retry))
        except OperatorError as error:
            self._fail(error)
        if not self._has_begun:
            self.stop()
        await asyncio.gather(*hearing)
        if self._error is not None:
            raise self._error
        ended = together_ended(self._ended, clock.monotonic() - started)
        self._watch(ended)
        return ended

    def stop(self) -> None:
        """Tell everybody to end well; who has not begun ends at once."""
        self._run.stop()
        for _, line in self._others:
            line.stop()

    def kill(self) -> None:
        """End the others at once."""
        for process, _ in self._others:
            process.kill()

    def _heed(self, event: Event) -> None:
        """Take in what happens in this process: the others begin when it has planned, if there is anything to do."""
        match event:
            case RunBegan():
                self._number = event.run
            case Planned() if event.due and not self._has_begun:
                self._has_begun = True
                for _, line in self._others:
                    line.begin(self._number)
            case RunEnded():
                return  # the others may be at their parts still
        self._watch(event)

    async def _hear(self, process: BaseProcess, line: WorkerChannel) -> None:
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
                        case RunBegan():
                            pass  # this process's number is everybody's
                        case _:
                            self._watch(each)
        except BaseException:  # nobody listens any more
            self.stop()
            line.close()
            raise
        await asyncio.to_thread(process.join)
        if process.exitcode and not is_done:
            log.warning(
                "A worker ended by itself (exit code %s); "
                "the others take over what it had leased within IMAGE_LEASE_SECONDS.",
                process.exitcode,
            )

    def _fail(self, error: OperatorError) -> None:
        self._error = self._error or error
        self.stop()


def _fork(
    part: WorkerShare, not_its_own: list[WorkerChannel], mask: Iterable[int]
) -> tuple[BaseProcess, WorkerChannel]:
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


def _let_go(others: list[tuple[BaseProcess, WorkerChannel]]) -> None:
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
