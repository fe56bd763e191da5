import asyncio
import errno
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tests.fakes import FakeClock

from rehost.cli.options import RunOptions
from rehost.cli.workers import RELAY_SECONDS, Worker, WorkerSupervisor, forked, relaying, shares
from rehost.errors import OperatorError
from rehost.events import Planned, RunBegan, RunEnded
from rehost.settings import Settings


@pytest.mark.parametrize(
    ("concurrency", "workers", "requests"), [(10, 4, [3, 3, 2, 2]), (10, 1, [10]), (2, 4, [1, 1]), (1, 8, [1])]
)
def test_requests_are_divided_and_never_exceeded(concurrency, workers, requests):
    given = shares(replace(Settings(), concurrency=concurrency), RunOptions(), workers, cores=2)

    assert [share.requests for share in given] == requests


def test_the_limit_of_one_host_is_that_of_the_whole_command():
    given = shares(replace(Settings(), concurrency=10), RunOptions(), 4, cores=2)

    assert {share.settings.concurrency for share in given} == {10}


@pytest.mark.parametrize(("cores", "workers", "decoders"), [(8, 2, 4), (2, 4, 1), (7, 2, 3)])
def test_decoders_are_divided_too(cores, workers, decoders):
    assert {share.settings.decode_processes for share in shares(Settings(), RunOptions(), workers, cores)} == {decoders}


# --- forking

PARTS = shares(replace(Settings(), concurrency=10), RunOptions(), 4, cores=2)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("missing", ["socket", "process"])
def test_a_worker_that_cannot_be_started_is_an_error_and_no_other_remains(monkeypatch, missing):
    made = []
    real = {"socket": socket.socketpair, "process": os.fork}[missing]

    def fail_the_third_time():
        made.append(0)
        if len(made) > 2:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return real()

    monkeypatch.setattr(*{"socket": (socket, "socketpair"), "process": (os, "fork")}[missing], fail_the_third_time)

    with pytest.raises(OperatorError, match="Resource temporarily unavailable"), forked(PARTS):
        pass

    assert not multiprocessing.active_children()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


@pytest.mark.timeout(60)
def test_an_interrupt_while_workers_are_started_ends_them_all(monkeypatch):
    real = socket.socketpair

    def make():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # pytest-xdist has threads that block nothing
        return real()

    monkeypatch.setattr(socket, "socketpair", make)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    try:
        with pytest.raises(KeyboardInterrupt), forked(PARTS):
            pass
    finally:
        signal.signal(signal.SIGINT, before)

    assert not multiprocessing.active_children()


@pytest.mark.timeout(60)
def test_no_worker_remains_if_the_first_process_fails():
    def fail():
        assert len(multiprocessing.active_children()) == len(PARTS)
        raise KeyError

    with pytest.raises(KeyError), forked(PARTS):
        fail()

    assert not multiprocessing.active_children()


# --- leading workers, which are played here


class PlayedProcess:
    """A process that has ended."""

    def __init__(self, exitcode=0):
        self.exitcode = exitcode

    def join(self):
        """Return at once."""


class PlayedRun:
    """The first process's own share: plans, and ends when it is stopped, or at once."""

    sources = ("cases",)

    def __init__(self, supervisor, due, error=None, *, is_endless=False):
        self._supervisor = supervisor
        self._due = due
        self._error = error
        self._stopped = asyncio.Event()
        self._is_endless = is_endless

    def stop(self):
        self._stopped.set()

    async def execute(self, **_):
        self._supervisor.listen(RunBegan("cases", 7))
        self._supervisor.listen(Planned("cases", present=self._due, held=0, due=self._due, later=0))
        if self._error is not None:
            raise self._error
        if self._is_endless:
            await self._stopped.wait()
        ended = end_of(1, interrupted=self._stopped.is_set())
        self._supervisor.listen(ended)
        return ended


def end_of(held, **changes):
    return RunEnded("cases", held=held, unchanged=0, adopted=0, **changes)


@contextmanager
def played_worker(reports, exitcode=0):
    """Yield a worker, and what it received: the number of a run, or nothing if it was stopped before."""
    ours, theirs = socket.socketpair()
    received = []

    def play():
        with theirs:
            received.append(int.from_bytes(theirs.recv(8), "big"))
            if received[0]:
                for group in reports:
                    data = pickle.dumps(group)
                    theirs.sendall(len(data).to_bytes(4, "big") + data)

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield Worker(PlayedProcess(exitcode), ours), received
    finally:
        ours.close()
        thread.join(60)


@pytest.mark.timeout(60)
async def test_large_reports_arrive_complete_and_in_order():
    seen = []
    large = [Planned("cases", number, 0, 0, 0) for number in range(50_000)]
    with played_worker([[], large, large[:1], [end_of(2)]]) as (worker, received):
        supervisor = WorkerSupervisor([worker], seen.append, FakeClock())

        ended = await supervisor.execute(PlayedRun(supervisor, due=3))

    assert received == [7]
    assert seen[2:-1] == [*large, *large[:1]]
    assert ended.held == 3
    assert seen[-1] == ended


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("due", "number"), [((3, 0), 7), ((0, 3), 7), ((0, 0), 0)])
async def test_workers_begin_when_all_sources_are_planned_and_links_of_any_are_due(due, number):
    begun = []

    class OverTwo(PlayedRun):
        sources = ("cases", "shops")

        async def execute(self, **_):
            supervisor.listen(RunBegan("cases", 7))
            for source, links in zip(self.sources, due, strict=True):
                begun.append(supervisor._is_begun)
                supervisor.listen(Planned(source, present=9, held=0, due=links, later=0))
            return end_of(1)

    with played_worker([[end_of(2)]]) as (worker, received):
        supervisor = WorkerSupervisor([worker], [].append, FakeClock())

        await supervisor.execute(OverTwo(supervisor, due=0))

    assert received == [number]
    assert begun == [False, False]


@pytest.mark.timeout(60)
async def test_workers_end_without_beginning_if_nothing_is_due():
    with played_worker([[end_of(2)]]) as (worker, received):
        supervisor = WorkerSupervisor([worker], [].append, FakeClock())

        ended = await supervisor.execute(PlayedRun(supervisor, due=0))

    assert received == [0]
    assert ended.held == 1


@pytest.mark.timeout(60)
async def test_an_error_of_a_worker_stops_all_and_is_raised():
    error = OperatorError("the disk is full")
    with played_worker([[error]]) as (worker, _), played_worker([[end_of(2)]]) as (other, _):
        supervisor = WorkerSupervisor([worker, other], [].append, FakeClock())

        with pytest.raises(OperatorError, match="the disk is full"):
            await supervisor.execute(PlayedRun(supervisor, due=3, is_endless=True))


@pytest.mark.timeout(60)
async def test_an_error_of_the_first_process_stops_workers_and_is_raised():
    with played_worker([]) as (worker, _):
        supervisor = WorkerSupervisor([worker], [].append, FakeClock())

        with pytest.raises(OperatorError, match="no database"):
            await supervisor.execute(PlayedRun(supervisor, due=3, error=OperatorError("no database")))


@pytest.mark.timeout(60)
async def test_a_worker_that_dies_is_reported_and_the_run_goes_on(caplog):
    with played_worker([], exitcode=-9) as (worker, _):
        supervisor = WorkerSupervisor([worker], [].append, FakeClock())

        with caplog.at_level(logging.WARNING):
            ended = await supervisor.execute(PlayedRun(supervisor, due=3))

    assert ended.held == 1
    assert "A worker process died (exit code -9)" in caplog.text


@pytest.mark.timeout(60)
async def test_a_worker_can_be_stopped_again_after_it_has_ended():
    with played_worker([[end_of(2)]]) as (worker, _):
        supervisor = WorkerSupervisor([worker], [].append, FakeClock())
        await supervisor.execute(PlayedRun(supervisor, due=3))

        supervisor.stop()
        worker.begin(8)
        worker.disconnect()


@pytest.mark.parametrize("way", ["stop", "disconnect"])
def test_a_worker_that_was_stopped_does_not_begin(way):
    with played_worker([]) as (worker, received):
        getattr(worker, way)()
        worker.begin(7)

    assert received == [0]


# --- the worker's side


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", ["stop", "disconnect"])
async def test_a_worker_stops_when_the_first_process_ends_the_stream(way):
    ours, theirs = socket.socketpair()
    stopped = asyncio.Event()

    async with relaying(theirs, [], stopped.set):
        await asyncio.sleep(2 * RELAY_SECONDS)
        assert not stopped.is_set()
        getattr(Worker(PlayedProcess(), ours), way)()
        await stopped.wait()

    ours.close()
    theirs.close()


@pytest.mark.timeout(60)
async def test_a_worker_stops_and_drops_its_reports_when_the_first_process_is_gone():
    ours, theirs = socket.socketpair()
    stopped = asyncio.Event()
    ours.close()
    reports = [RunBegan("cases", number) for number in range(10_000)]

    async with relaying(theirs, reports, stopped.set):
        await stopped.wait()

    assert reports == []
    theirs.close()


# --- real processes

ORPHAN = """
import multiprocessing, os, signal, socket, sys, time
from rehost.cli import workers
from rehost.cli.options import RunOptions
from rehost.settings import Settings

with workers.forked(workers.shares(Settings(concurrency=4), RunOptions(), 3, 2)) as forked:
    print(*(worker.process.pid for worker in forked), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.timeout(60)
async def test_workers_that_wait_end_when_the_first_process_is_killed():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ORPHAN, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()  # returns when no process holds the pipe any more

    assert process.returncode == -signal.SIGKILL
    assert len(output.split()) == 3
