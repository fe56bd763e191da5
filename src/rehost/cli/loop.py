"""The event loop that verbs run on: uvloop where it can be had."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GARBAGE = 10_000
"""Objects between two collections: at CPython's 700 they took a twentieth of a run's processor time."""


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result."""
    gc.set_threshold(GARBAGE)
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
