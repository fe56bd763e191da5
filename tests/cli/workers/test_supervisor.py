import errno
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from rehost.cli.workers import supervisor as crew
from rehost.cli.workers.channel import make_line
from rehost.cli.workers.partition import RunOptions, shares
from rehost.cli.workers.supervisor import WorkerSupervisor, together_ended
from rehost.errors import OperatorError
from rehost.events import RunEnded
from rehost.model import Reason
from rehost.settings import Settings


@pytest.mark.parametrize(
    ("concurrency", "workers", "requests"), [(10, 4, [3, 3, 2, 2]), (10, 1, [10]), (2, 4, [1, 1]), (1, 8, [1])]
)
def test_requests_are_shared_out_and_never_exceeded(concurrency, workers, requests):
    given = shares(replace(Settings(), concurrency=concurrency), RunOptions(), workers, cores=2)

    assert [share.requests for share in given] == requests


def test_an_origins_bound_stays_the_whole_commands():
    given = shares(replace(Settings(), concurrency=10), RunOptions(), 4, cores=2)

    assert {share.settings.concurrency for share in given} == {10}


@pytest.mark.parametrize(("cores", "workers", "decoders"), [(8, 2, 4), (2, 4, 1), (7, 2, 3)])
def test_decoders_are_shared_out_too(cores, workers, decoders):
    assert {share.settings.decode_processes for share in shares(Settings(), RunOptions(), workers, cores)} == {decoders}


def test_the_ends_add_up():
    first = RunEnded("cases", 10, 1, 2, {Reason.GONE: 3}, 1, 4, 1000, 5.0, later=3, total_held=15, total_present=30)
    second = RunEnded("cases", 20, 0, 0, {Reason.GONE: 1, Reason.DECOY: 2}, 0, 0, 500, 6.0, later=6, total_held=30,
                      total_present=36, interrupted=True)  # fmt: skip

    ended = together_ended([first, second], 7.5)

    assert (ended.held, ended.unchanged, ended.adopted, ended.overtaken, ended.size) == (30, 1, 2, 1, 1500)
    assert ended.failed == {Reason.GONE: 4, Reason.DECOY: 2}
    assert ended.unveiled == 4
    assert (ended.seconds, ended.later, ended.total_held, ended.interrupted) == (7.5, 6, 30, True)


PARTS = shares(replace(Settings(), concurrency=10), RunOptions(), 4, cores=2)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", ["no pipe", "no process"])
def test_a_process_that_cannot_be_started_is_said_and_no_other_stays(monkeypatch, way):
    made = []

    def fail_the_third_time():
        made.append(0)
        if len(made) > 2:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def make():
        fail_the_third_time()
        return make_line()

    if way == "no pipe":
        monkeypatch.setattr(crew, "make_line", make)
    else:
        fork = os.fork
        monkeypatch.setattr(os, "fork", lambda: fail_the_third_time() or fork())

    with pytest.raises(OperatorError, match="Resource temporarily unavailable"), WorkerSupervisor.of(PARTS):
        pass

    assert not multiprocessing.active_children()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


@pytest.mark.timeout(60)
def test_an_interrupt_that_comes_while_processes_are_started_ends_them_all(monkeypatch):
    def make():
        os.kill(os.getpid(), signal.SIGINT)
        return make_line()

    monkeypatch.setattr(crew, "make_line", make)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background shells have it ignored
    try:
        with pytest.raises(KeyboardInterrupt), WorkerSupervisor.of(PARTS):
            pass
    finally:
        signal.signal(signal.SIGINT, before)

    assert not multiprocessing.active_children()


@pytest.mark.timeout(60)
def test_no_process_stays_where_the_leading_one_fails():
    def fail():
        assert len(multiprocessing.active_children()) == len(PARTS)
        raise KeyError

    with pytest.raises(KeyError), WorkerSupervisor.of(PARTS):
        fail()

    assert not multiprocessing.active_children()
