"""The event loop that verbs run on (uvloop where it is installed), and the signals that stop a run."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from rehost.language import gettext as _

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT_BYTES = 32 << 20
"""Freed memory that the process keeps: without it every 4 KB read from a socket costs a page fault."""


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        import uvloop  # only CPython has it

        loop_factory = uvloop.new_event_loop
    _keep_freed_memory()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            loop = runner.get_loop()
            loop.call_soon(loop.call_soon, _collect_garbage)  # after the work's first step, which imports what it needs
            return runner.run(work)
    finally:
        gc.freeze()  # or the interpreter searches all loaded objects for garbage when it exits: a tenth of a second


def _collect_garbage() -> None:
    """Search for garbage from now on, and not among what is there: that is modules, which stay."""
    gc.freeze()
    gc.enable()


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C, so that resources are closed; the exit status is SIGTERM's."""
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        received.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, receive)
    try:
        yield
    except KeyboardInterrupt:
        if received:
            sys.exit(128 + received[0])
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _keep_freed_memory() -> None:
    """Make the C library keep freed memory instead of returning it (mallopt(3), in glibc only)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


@dataclass(slots=True)
class ReceivedSignal:
    """The first signal that arrived, if any."""

    number: int | None = None

    def exit_status(self, otherwise: int) -> int:
        """Return 128 plus the signal's number, as shells do, or `otherwise` if no signal arrived."""
        return otherwise if self.number is None else 128 + self.number


@contextmanager
def stop_on_signals(
    stop: Callable[[], None], say: Callable[[str], None], kill: Callable[[], None]
) -> Iterator[ReceivedSignal]:
    """Call `stop` at the first SIGINT or SIGTERM; at the second call `kill` and end this process by that signal.

    Ending at once is safe: files and database survive it as they survive `kill -9`.
    """
    loop = asyncio.get_running_loop()
    received = ReceivedSignal()

    def receive(number: int) -> None:
        if received.number is not None:
            kill()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        received.number = number
        stop()
        say(_("Stopping: finishing requests in flight. Press Ctrl-C again to quit immediately."))

    for number in SIGNALS:
        loop.add_signal_handler(number, receive, number)
    try:
        yield received
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
