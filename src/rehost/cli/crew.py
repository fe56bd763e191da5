"""`rehost run --workers N`: several processes at one run, one display.

The first one plans; the others begin when it has. They share the work as workers on several machines do, through the
ledger; here they also share what one command may have in flight (invariant 8). What happens in them comes here as
events. They end well when they are told to, or when this process is gone.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Self

from rehost.cli.conductor import Wish, announce, status_of, tell
from rehost.cli.line import Line, WorkerEnd, make_line
from rehost.cli.loop import run_loop
from rehost.cli.signals import SIGNALS, stopping
from rehost.clock import SystemClock
from rehost.errors import LedgerError, OperatorError
from rehost.events import Event, Listener, Planned, RunBegan, RunEnded, Visited
from rehost.telemetry.log import log_event, logging_to, together
from rehost.telemetry.progress import progress

if TYPE_CHECKING:
    from rehost.settings import Settings

PRELOADED = [__name__, "rehost.assembly.running"]

RELAY_SECONDS = 0.1
"""A process says this often what it has visited: each word wakes the leading process, which has better to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one process of a crew is to do."""

    settings: Settings
    wish: Wish
    requests: int  # of the command's concurrency
    crew: int | None = None  # the run that all are one of; the first one begins it


def run_crew(settings: Settings, wish: Wish, workers: int) -> tuple[RunEnded, int]:
    """Run in several processes; return what they came to together, and the exit status.

    Raises:
        OperatorError: one of them was stopped by it; the others were told to end.
    """
    ended, status = run_loop(_lead(shares(settings, wish, workers, os.cpu_count() or 1)))
    if ended is None:
        raise SystemExit(status)
    return ended, status


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
    """The processes and what they have said."""

    def __init__(self, listen: Listener) -> None:
        self._listen = listen
        # One process imports everything once and becomes the others by forking; it runs nothing else, no thread either.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._lines: dict[BaseProcess, Line] = {}
        self._dropped: set[BaseProcess] = set()
        self._run: int | None = None
        self._is_planned = asyncio.Event()
        self._ended: list[RunEnded] = []
        self._error: OperatorError | None = None
        self._is_stopping = False

    async def run(self, all_shares: list[Part]) -> list[RunEnded]:
        """Start everybody, the first one first, and return their ends.

        Raises:
            OperatorError: the first of theirs.
        """
        first, *others = all_shares
        members = [asyncio.create_task(self._member(first))]
        await asyncio.wait(
            [members[0], asyncio.create_task(self._is_planned.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        if not members[0].done() and not self._is_stopping:
            members += [asyncio.create_task(self._member(replace(share, crew=self._run))) for share in others]
        await asyncio.gather(*members)
        if self._error is not None:
            raise self._error
        return self._ended

    def stop(self) -> None:
        """Tell everybody to end well; who has only begun to start holds nothing, and ends at once."""
        self._is_stopping = True
        for process, line in self._lines.items():
            if not line.is_up:
                self._drop(process)
            line.stop()

    def kill(self) -> None:
        """End everybody at once."""
        for process in self._lines:
            process.kill()

    def _drop(self, process: BaseProcess) -> None:
        self._dropped.add(process)
        process.kill()

    async def _member(self, share: Part) -> None:
        """Start one process and take in what it says until it ends."""
        ours, theirs = make_line(self._context)
        process = self._context.Process(target=work, args=(share, theirs), name="rehost-worker")
        await asyncio.to_thread(process.start)  # the first one waits for what is preloaded
        theirs.close()
        self._lines[process] = ours
        if self._is_stopping:
            self._drop(process)
        is_done = False
        try:
            async for said in ours.said():
                for each in said:
                    is_done = is_done or isinstance(each, RunEnded | OperatorError)
                    self._take(each)
        finally:
            del self._lines[process]
            ours.close()
            await asyncio.to_thread(process.join)
        if not is_done and process not in self._dropped:
            self._lose(f"A worker ended by itself (exit code {process.exitcode})")

    def _take(self, said: Event | OperatorError) -> None:
        match said:
            case OperatorError():
                self._fail(said)
            case RunBegan():
                self._run = said.run
            case Planned() if self._is_planned.is_set():
                pass  # the first one's plan is everybody's
            case Planned():
                self._is_planned.set()
                self._listen(said)
            case RunEnded():
                self._ended.append(said)
            case _:
                self._listen(said)

    def _lose(self, said: str) -> None:
        """Go on without a process that ended by itself: its share is the others' when its leases end."""
        if self._lines and self._is_planned.is_set():
            tell(f"{said}; the others take over what it had leased within IMAGE_LEASE_SECONDS.")
        else:
            self._fail(LedgerError(f"{said}; run it again."))

    def _fail(self, error: OperatorError) -> None:
        self._error = self._error or error
        self.stop()


async def _lead(all_shares: list[Part]) -> tuple[RunEnded | None, int]:
    """Return what they came to, None where they were stopped before they had begun, and the exit status."""
    wish, clock = all_shares[0].wish, SystemClock()
    started = clock.monotonic()
    with progress(sys.stderr, clock, quiet=wish.is_quiet) as show:
        crew = Crew(together(announce(wish), show))
        with stopping(crew.stop, tell, crew.kill) as received:
            ends = await crew.run(all_shares)
    if not ends:
        return None, received.exit_status(0)
    ended = together_ended(ends, clock.monotonic() - started)
    return ended, received.exit_status(status_of(ended))


def work(share: Part, end: WorkerEnd) -> None:
    """Do one process's share; the whole life of that process."""
    for number in SIGNALS:  # a terminal sends them to everybody: the leading process says what is to be done
        signal.signal(number, signal.SIG_IGN)
    try:
        with logging_to(sys.stderr, share.wish.log_file, verbose=share.wish.is_verbose):
            end.say([run_loop(_work(share, end))])
    except OperatorError as error:
        end.say([error])
    finally:
        end.close()


async def _work(share: Part, end: WorkerEnd) -> RunEnded:
    from rehost.assembly import open_run  # noqa: PLC0415 - brings everything; the leading process needs none of it

    end.say([])  # from here on we are told to stop, not ended
    with _Relay(end, is_watched=not share.wish.is_quiet) as relay:
        opening = open_run(
            share.settings, source=share.wish.source, listen=together(relay.take, log_event), requests=share.requests
        )
        async with opening as run:
            with end.told(run.stop):
                if share.crew is None:
                    return await run.go(retry=share.wish.retry)
                return await run.go(list_store=False, crew=share.crew)


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
