"""`rehost run --workers N`: several processes share one run.

The first process plans the run, works like the others and shows the progress of all. It forks the workers when it has
imported everything and before it starts an event loop or a thread. All lease links through the ledger, as workers on
several machines do; here they also divide the requests that one command may have in flight (invariant 8).

A socket pair connects the first process with each worker:

    first process -> worker    the number of the run means "begin", the end of the stream "finish and end"
    worker -> first process    lists of events; last the RunEnded, or the OperatorError that stopped the worker

A process that is killed closes its sockets, so the other side notices that as well.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rehost.cli.loop import SIGNALS, run_loop
from rehost.cli.options import RunOptions
from rehost.clock import Clock
from rehost.errors import OperatorError, cause_of, shortage
from rehost.events import Event, Listener, Planned, RunBegan, RunEnded, Visited
from rehost.run.run import Run
from rehost.run.stats import combined
from rehost.settings import Settings
from rehost.telemetry.log import log_event, logging_to, together
from rehost.wiring.run import open_run

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

log = logging.getLogger(__name__)

RELAY_SECONDS = 0.1
"""How often a worker reports: each report wakes the first process, which has its own links to visit."""

_LENGTH_BYTES = 4
_NUMBER_BYTES = 8

Report = Event | OperatorError


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """What one process is to do of a run."""

    settings: Settings
    options: RunOptions
    requests: int  # how many of the command's requests it may have in flight


def shares(settings: Settings, options: RunOptions, workers: int, cores: int) -> list[WorkerShare]:
    """Divide requests and decoder processes among the workers; there are never more workers than requests."""
    number = min(workers, settings.concurrency)
    decoders = max(1, (settings.decode_processes or cores) // number)
    divided = replace(settings, decode_processes=decoders)
    part, rest = divmod(settings.concurrency, number)
    return [WorkerShare(divided, options, part + (index < rest)) for index in range(number)]


# --- the first process


@dataclass(frozen=True, slots=True)
class Worker:
    """A forked process, as the first process sees it."""

    process: BaseProcess
    channel: socket.socket

    def begin(self, run: int) -> None:
        """Let it begin its share of a run; without effect if it was stopped or has ended."""
        with suppress(OSError):
            self.channel.send(run.to_bytes(_NUMBER_BYTES, "big"))

    def stop(self) -> None:
        """Let it finish what is in flight and end; it can still report."""
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def disconnect(self) -> None:
        """Let it finish and end, and read nothing more from it."""
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)

    async def reports(self) -> AsyncGenerator[Report, None]:
        """Yield what it reports until it ends."""
        reader, writer = await asyncio.open_unix_connection(sock=self.channel)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
                for report in pickle.loads(await reader.readexactly(length)):  # noqa: S301 - from our own process
                    yield report
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@contextmanager
def forked(parts: Sequence[WorkerShare]) -> Iterator[list[Worker]]:
    """Fork a worker for each share, which waits until it may begin; when the block ends, all of them have ended.

    Raises:
        OperatorError: the system allows no more processes, or no more open files.
    """
    workers: list[Worker] = []
    gc.freeze()  # so that no worker searches the shared objects for garbage
    try:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the workers ignore these signals
        try:
            for part in parts:
                workers.append(_fork(part, [worker.channel for worker in workers], mask))
        except OSError as error:
            refused = OperatorError(
                "No more processes can be started ({cause}): lower --workers.", cause=cause_of(error)
            )
            raise shortage(error) or refused from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield workers
    finally:
        _wait_for_end(workers)


def _fork(part: WorkerShare, other_channels: Sequence[socket.socket], mask: Iterable[int]) -> Worker:
    """Start a worker with this signal mask."""
    import multiprocessing  # a run by one process does without

    ours, theirs = socket.socketpair()
    arguments = part, theirs, [ours, *other_channels], mask
    process = multiprocessing.get_context("fork").Process(target=_work, args=arguments, name="rehost-worker")
    try:
        process.start()
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Worker(process, ours)


def _wait_for_end(workers: Sequence[Worker]) -> None:
    """Wait until all workers have finished what is in flight; a Ctrl-C meanwhile kills them."""
    for worker in workers:
        worker.disconnect()
        worker.channel.close()
    try:
        for worker in workers:
            worker.process.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()
        raise


class WorkerSupervisor:
    """Starts the workers, passes on the events of all processes, and adds up their results."""

    def __init__(self, workers: Sequence[Worker], watch: Listener, clock: Clock) -> None:
        """Take the forked workers, possibly none, and the listener to the events of all processes."""
        self._workers = workers
        self._watch = watch
        self._clock = clock
        self._run: Run
        self._number = self._planned = self._due = 0
        self._is_begun = False
        self._ended: list[RunEnded] = []
        self._error: OperatorError | None = None

    def listen(self, event: Event) -> None:
        """Handle an event of this process; once all sources are planned and links are due, the workers begin."""
        match event:
            case RunBegan():
                self._number = event.run
            case Planned():
                self._planned += 1
                self._due += event.due
                if self._due and self._planned == len(self._run.sources):
                    self._is_begun = True
                    for worker in self._workers:
                        worker.begin(self._number)
            case RunEnded():
                return  # workers may still be busy
        self._watch(event)

    async def execute(self, run: Run, *, retry: str | None = None) -> RunEnded:
        """Do this process's share of the run, and return the result of all processes.

        Raises:
            OperatorError: the first that any process met; the others were stopped.
        """
        self._run = run
        started = self._clock.monotonic()
        following = [asyncio.create_task(self._follow(worker)) for worker in self._workers]
        try:
            self._ended.append(await run.execute(retry=retry))
        except OperatorError as error:
            self._fail(error)
        if not self._is_begun:
            self.stop()
        await asyncio.gather(*following)
        if self._error is not None:
            raise self._error
        ended = combined(self._ended, self._clock.monotonic() - started)
        self._watch(ended)
        return ended

    def stop(self) -> None:
        """Let all processes finish what is in flight; workers that have not begun end at once."""
        self._run.stop()
        for worker in self._workers:
            worker.stop()

    def kill(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.process.kill()

    async def _follow(self, worker: Worker) -> None:
        """Handle a worker's reports until it ends."""
        is_complete = False
        try:
            async with aclosing(worker.reports()) as reports:
                async for report in reports:
                    match report:
                        case OperatorError():
                            is_complete = True
                            self._fail(report)
                        case RunEnded():
                            is_complete = True
                            self._ended.append(report)
                        case _:
                            self._watch(report)
        except BaseException:  # reports are not read any more
            self.stop()
            raise
        await asyncio.to_thread(worker.process.join)
        if worker.process.exitcode and not is_complete:
            log.warning(
                "A worker process died (exit code %s); the others take over its links within IMAGE_LEASE_SECONDS.",
                worker.process.exitcode,
            )

    def _fail(self, error: OperatorError) -> None:
        self._error = self._error or error
        self.stop()


# --- a worker


def _work(part: WorkerShare, channel: socket.socket, inherited: Sequence[socket.socket], mask: Iterable[int]) -> None:
    """Wait for the run's number, do one share of that run and report; this is all that a worker process does."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the first one handles it
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for each in inherited:
        each.close()  # or no stream would end when the first process is killed
    run = channel.recv(_NUMBER_BYTES)
    if not run:
        return
    reports: list[Report] = []
    try:
        with logging_to(sys.stderr, part.options.log_file, verbose=part.options.is_verbose):
            reports.append(run_loop(_execute(part, channel, int.from_bytes(run, "big"), reports)))
    except OperatorError as error:
        reports.append(error)
    _send(channel, reports)
    channel.close()


async def _execute(part: WorkerShare, channel: socket.socket, run_number: int, reports: list[Report]) -> RunEnded:
    """Do one share of a run; leave in `reports` what is not yet reported."""

    def listen(event: Event) -> None:
        is_hidden = isinstance(event, RunBegan | RunEnded) or (part.options.is_quiet and isinstance(event, Visited))
        if not is_hidden:
            reports.append(event)

    async with (
        open_run(
            part.settings,
            source=part.options.sources,
            listen=together(listen, log_event),
            requests=part.requests,
            accepts_loss=part.options.accepts_loss,
        ) as run,
        relaying(channel, reports, run.stop),
    ):
        return await run.execute(crew=run_number)


@asynccontextmanager
async def relaying(channel: socket.socket, reports: list[Report], stop: Callable[[], None]) -> AsyncIterator[None]:
    """Send reports regularly, and call `stop` when the first process ends the stream, or is gone."""

    async def relay() -> None:
        while True:
            await asyncio.sleep(RELAY_SECONDS)
            if reports:
                _send(channel, reports)
                reports.clear()
            if _is_at_end(channel):
                stop()

    task = asyncio.create_task(relay())
    try:
        yield
    finally:
        task.cancel()


def _send(channel: socket.socket, reports: Sequence[Report]) -> None:
    """Send reports; wait while the socket's buffer is full, drop them if the first process is gone."""
    data = pickle.dumps(reports)
    with suppress(ConnectionError):
        channel.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


def _is_at_end(channel: socket.socket) -> bool:
    """Return whether the other side has ended its stream."""
    try:
        return channel.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
