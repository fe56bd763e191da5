import asyncio
import os
import signal
import subprocess
import sys

import pytest

from rehost.cli.signals import stopping


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_the_first_signal_asks_to_stop(number, status):
    stopped, said = asyncio.Event(), []

    with stopping(stopped.set, said.append) as received:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            await stopped.wait()

    assert received.exit_status(0) == status
    assert said == ["Stopping: what is in flight is finished and recorded. Once more stops at once."]


async def test_without_a_signal_the_status_is_what_holds_otherwise():
    with stopping(lambda: None, lambda _sentence: None) as received:
        pass

    assert received.exit_status(1) == 1


async def test_a_signal_asks_to_stop_though_nobody_hears_what_is_said():
    stopped = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def say(_sentence):
        raise BrokenPipeError

    with stopping(stopped.set, say):
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(10):
            await stopped.wait()


SCRIPT = """
import asyncio, sys
from rehost.cli.signals import stopping

async def main():
    with stopping(lambda: None, lambda _: print("stopping", flush=True), lambda: print("killing", flush=True)):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_second_signal_ends_the_process_by_that_signal():
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        lines.append(process.stdout.readline())

        assert lines == ["ready\n", "stopping\n", "killing\n"]
        assert process.wait(30) == -signal.SIGTERM
