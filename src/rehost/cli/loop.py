"""The event loop that verbs run on: uvloop where it can be had."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_ in malloc.h
KEPT_BYTES = 32 << 20
"""Memory that was freed and is not given back: what comes from a socket took a page fault for each 4 KB otherwise."""


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result."""
    _keep_memory()
    try:
        return _run(work)
    finally:
        gc.freeze()  # the interpreter's end looks through all that is loaded for garbage: a tenth of a second


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop  # noqa: PLC0415 - absent on other interpreters than CPython
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _keep_memory() -> None:
    """Have the C library keep freed memory at hand (mallopt(3); glibc alone has it)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
