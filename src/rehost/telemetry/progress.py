"""The progress of a run: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from rehost.clock import Clock
from rehost.events import Event, HostDeferred, Listener, OriginPaused, Planned, RunEnded, Visited
from rehost.run.stats import RunStats
from rehost.telemetry.format import count, duration, plain, share, size

LINE_SECONDS = 10.0
TICK_SECONDS = 1.0
USUAL_COLUMNS, USUAL_ROWS = 100, 24
# tqdm puts a comma before the postfix.
BAR = "{percentage:3.0f}% {bar:24} {n_fmt}/{total_fmt}, {rate_noinv_fmt}{postfix}, {remaining} left"


class Bar:
    """A bar that redraws itself in place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stats = RunStats()
        self._bar: tqdm[None] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._stats.add(event)
        match event:
            case Planned():
                self._open()
            case Visited() | HostDeferred() if self._bar is not None:
                self._bar.total = self._stats.due
                self._bar.set_postfix_str(_received_and_failed(self._stats), refresh=False)
                self._bar.update(self._stats.visited - self._bar.n)
            case OriginPaused() if self._bar is not None:
                tqdm.write(pause_line(event), file=self._stream)
            case _:
                pass

    def tick(self) -> None:
        """Redraw the time left while nothing is visited."""
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar on the terminal as it is."""
        if self._bar is not None:
            self._bar.close()

    def _open(self) -> None:
        if self._bar is not None:
            self._bar.total = self._stats.due
            self._bar.refresh()
        elif self._stats.due:
            columns, rows = _shape(self._stream)
            tqdm.monitor_interval = 0  # without tqdm's own thread: events and ticks redraw the bar
            self._bar = tqdm(
                total=self._stats.due,
                file=self._stream,
                unit=" pictures",
                bar_format=BAR,
                postfix=_received_and_failed(self._stats),
                dynamic_ncols=columns is None,
                ncols=columns,
                nrows=rows,
                smoothing=0.0,  # the mean of the whole run, so that the time left is right after a lull
            )


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
        self._stats = RunStats()
        self._started = self._printed = clock.monotonic()

    def __call__(self, event: Event) -> None:
        """Count one event, and print a line if ten seconds have passed."""
        self._stats.add(event)
        match event:
            case Visited():
                self.tick()
            case OriginPaused():
                print(pause_line(event), file=self._stream, flush=True)
            case RunEnded() if self._stats.visited:
                self._print()
            case _:
                pass

    def tick(self) -> None:
        """Print a line if ten seconds have passed, even if nothing was visited."""
        if self._stats.due and self._clock.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = self._clock.monotonic()
            self._print()

    def close(self) -> None:
        """Do nothing; the last line stands."""

    def _print(self) -> None:
        stats = self._stats
        rate = stats.visited / max(self._clock.monotonic() - self._started, 1e-9)
        waiting = max(0, stats.due - stats.visited)
        left = f", {duration(waiting / rate) if rate else '?'} left" if waiting else ""
        done = f"{share(stats.visited, stats.due)} {count(stats.visited)}/{count(stats.due)}"
        line = f"{done}, {rate:.1f} pictures/s, {_received_and_failed(stats)}{left}"
        print(line, file=self._stream, flush=True)


def _received_and_failed(stats: RunStats) -> str:
    return f"{size(stats.size)}, {count(stats.failed.total())} failed"


def pause_line(event: OriginPaused) -> str:
    """Return the line about a host to which requests are paused."""
    evidence = event.evidence.replace(f"{event.host}: ", "")  # the line names the host already
    return f"Pausing requests to {plain(event.host)} for {duration(event.seconds)}: {plain(evidence)}"


@contextmanager
def progress(stream: TextIO, clock: Clock, *, quiet: bool) -> Iterator[Listener]:
    """Yield a listener that shows the progress of a run as suits the stream; needs a running event loop."""
    if quiet:
        yield lambda _event: None
        return
    display = Bar(stream) if stream.isatty() else Lines(stream, clock)

    async def tick_regularly() -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            display.tick()

    ticking = asyncio.create_task(tick_regularly())
    try:
        yield display
    finally:
        ticking.cancel()
        display.close()
