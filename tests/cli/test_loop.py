import asyncio
import gc
import os
import signal
import subprocess
import sys

import pytest

from rehost.cli.loop import run_loop, stop_on_signals


def nothing():
    """Do nothing."""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_first_signal_asks_the_run_to_stop(number, status):
    stopped, said = asyncio.Event(), []

    with stop_on_signals(stopped.set, said.append, nothing) as received:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            await stopped.wait()

    assert received.exit_status(0) == status
    assert said == ["Stopping: finishing requests in flight. Press Ctrl-C again to quit immediately."]


async def test_without_a_signal_the_exit_status_is_that_of_the_run():
    with stop_on_signals(nothing, lambda _sentence: None, nothing) as received:
        pass

    assert received.exit_status(1) == 1


async def test_a_signal_stops_the_run_even_if_the_message_cannot_be_printed():
    stopped = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def say(_sentence):
        raise BrokenPipeError

    with stop_on_signals(stopped.set, say, nothing):
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(10):
            await stopped.wait()


SCRIPT = """
import asyncio, sys
from rehost.cli.loop import stop_on_signals

async def main():
    with stop_on_signals(lambda: None, lambda _: print("stopping", flush=True), lambda: print("killing", flush=True)):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_second_signal_kills_and_ends_the_process_by_that_signal():
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        lines.append(process.stdout.readline())

        assert lines == ["ready\n", "stopping\n", "killing\n"]
        assert process.wait(30) == -signal.SIGTERM


TERMINATED = """
import asyncio
from rehost.cli.loop import run_loop, sigterm_as_interrupt

async def main():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("closed", flush=True)

with sigterm_as_interrupt():
    run_loop(main())
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_sigterm_closes_what_is_open_as_an_interrupt_does(number, status):
    with subprocess.Popen(
        [sys.executable, "-c", TERMINATED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        lines = [process.stdout.readline()]
        process.send_signal(number)
        lines.append(process.stdout.readline())

        assert lines == ["ready\n", "closed\n"]
        assert process.wait(30) == status


def test_garbage_is_collected_once_the_work_waits_and_not_while_it_begins():
    found = []

    async def work():
        found.append(gc.isenabled())  # here a command imports what it needs
        for _ in range(3):
            await asyncio.sleep(0)
        found.append(gc.isenabled())

    gc.disable()
    try:
        run_loop(work())
    finally:
        gc.enable()
    assert found == [False, True]
