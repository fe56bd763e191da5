"""The progress of a run: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from tqdm import tqdm

from rehost.clock import Clock
from rehost.events import Event, HostDeferred, Listener, OriginPaused, Planned, RunEnded, Visited
from rehost.model import Deferred, Refused
from rehost.telemetry.format import count, duration, plain, share, size

LINE_SECONDS = 10.0
TICK_SECONDS = 1.0
USUAL_COLUMNS, USUAL_ROWS = 100, 24
# tqdm puts a comma before the postfix.
BAR = "{percentage:3.0f}% {bar:24} {n_fmt}/{total_fmt}, {rate_noinv_fmt}{postfix}, {remaining} left"


@dataclass(slots=True)
class SoFar:
    """What has been visited so far."""

    due: int = 0
    visited: int = 0
    failed: int = 0
    size: int = 0

    def add(self, event: Visited) -> None:
        """Count one visit; of some links there are two: their decoy was unveiled, or their worker killed."""
        self.visited += 1
        self.due = max(self.due, self.visited)
        self.size += event.size
        self.failed += isinstance(event.outcome, Deferred | Refused)

    def defer(self, event: HostDeferred) -> None:
        """Count the links of a host that are not visited."""
        self.visited += event.links
        self.failed += event.links

    def words(self) -> str:
        """Return bytes and failures, as both displays show them."""
        return f"{size(self.size)}, {count(self.failed)} failed"


class Bar:
    """A bar that redraws itself in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tally = SoFar()
        self._bar: tqdm[None] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned():
                self._tally.due += event.due
                self._open()
            case Visited() if self._bar is not None:
                self._tally.add(event)
                self._move(1)
            case HostDeferred() if self._bar is not None:
                self._tally.defer(event)
                self._move(event.links)
            case OriginPaused() if self._bar is not None:
                tqdm.write(pause_line(event), file=self._stream)
            case _:
                pass

    def tick(self) -> None:
        """Redraw the time left while nothing is visited."""
        if self._bar is not None:
            self._bar.refresh()

    def _move(self, links: int) -> None:
        assert self._bar is not None
        self._bar.total = self._tally.due
        self._bar.set_postfix_str(self._tally.words(), refresh=False)
        self._bar.update(links)

    def close(self) -> None:
        """Leave the bar on the terminal as it is."""
        if self._bar is not None:
            self._bar.close()

    def _open(self) -> None:
        if self._bar is None and self._tally.due:
            columns, rows = _shape(self._stream)
            tqdm.monitor_interval = 0  # without tqdm's own thread: events and ticks redraw the bar
            self._bar = tqdm(
                total=self._tally.due,
                file=self._stream,
                unit=" images",
                bar_format=BAR,
                postfix=self._tally.words(),
                dynamic_ncols=columns is None,
                ncols=columns,
                nrows=rows,
                smoothing=0.0,  # the mean of the whole run, so that the time left is right after a lull
            )
        elif self._bar is not None:
            self._bar.total = self._tally.due
            self._bar.refresh()


def _shape(stream: TextIO) -> tuple[int | None, int | None]:
    """Return columns and rows for a terminal that reports a size of 0, in which tqdm would draw nothing."""
    try:
        if os.get_terminal_size(stream.fileno()).columns:
            return None, None
    except OSError:  # not a file, or no terminal behind it
        pass
    return USUAL_COLUMNS, USUAL_ROWS


class Lines:
    """A line every ten seconds, for a file, a journal or a pipe."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._tally = SoFar()
        self._started = self._printed = clock.monotonic()

    def __call__(self, event: Event) -> None:
        """Count one event, and print a line if ten seconds have passed."""
        match event:
            case Planned():
                self._tally.due += event.due
            case Visited():
                self._tally.add(event)
                self.tick()
            case HostDeferred():
                self._tally.defer(event)
            case OriginPaused():
                print(pause_line(event), file=self._stream, flush=True)
            case RunEnded() if self._tally.visited:
                print(self._line(), file=self._stream, flush=True)
            case _:
                pass

    def tick(self) -> None:
        """Print a line if ten seconds have passed, even if nothing was visited."""
        if self._tally.due and self._clock.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = self._clock.monotonic()
            print(self._line(), file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing; the last line stands."""

    def _line(self) -> str:
        tally = self._tally
        rate = tally.visited / max(self._clock.monotonic() - self._started, 1e-9)
        left = duration(max(0, tally.due - tally.visited) / rate) if rate else "?"
        done = f"{count(tally.visited)}/{count(tally.due)}"
        return f"{share(tally.visited, tally.due)} {done}, {rate:.1f} images/s, {tally.words()}, {left} left"


def pause_line(event: OriginPaused) -> str:
    """Return the line about a host to which requests are paused."""
    return f"Pausing requests to {plain(event.host)} for {duration(event.seconds)}: {plain(event.evidence)}"


@contextmanager
def progress(stream: TextIO, clock: Clock, *, quiet: bool) -> Iterator[Listener]:
    """Yield a listener that shows the progress of a run in the way that suits the stream."""
    if quiet:
        yield lambda _event: None
        return
    display = Bar(stream) if stream.isatty() else Lines(stream, clock)
    try:
        with _ticking(display.tick):
            yield display
    finally:
        display.close()


@contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` every second while the block runs, if it runs in an event loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        yield
        return

    async def tick_regularly() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            tick()

    ticking = loop.create_task(tick_regularly())
    try:
        yield
    finally:
        ticking.cancel()
