"""The progress of a run: a bar on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rehost.clock import Clock
from rehost.events import (
    DatabaseAway,
    DatabaseBack,
    Event,
    HostDeferred,
    Listener,
    OriginPaused,
    Planned,
    RunEnded,
    Visited,
)
from rehost.language import Message, translated
from rehost.language import gettext as _
from rehost.run.stats import RunStats
from rehost.telemetry.format import count, duration, plain, share, size

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_SECONDS = 10.0
TICK_SECONDS = 1.0
USUAL_COLUMNS, USUAL_ROWS = 100, 24
# What matters less comes later, for tqdm cuts lines at the terminal's width.
BAR = Message("{percentage:3.0f}% {bar} {n_fmt}/{total_fmt}, {remaining} left, {rate_noinv_fmt}, {desc}")
AWAY_BAR = Message("{percentage:3.0f}% {bar} {n_fmt}/{total_fmt}, {desc}")
AWAY_SECONDS = 1.0  # of an outage that is not worth a word


class Outage:
    """Whether the database is away, and what to say about it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    def words(self) -> str:
        """Return what the run waits for, and for how long it has; an empty text if the database is there."""
        if self._since is None:
            return ""
        waited = duration(self._clock.monotonic() - self._since)
        return _("waiting for the database for {duration}").format(duration=waited)

    def line(self, event: DatabaseAway | DatabaseBack) -> str | None:
        """Return a line when an outage begins or ends."""
        place = translated(event.place)
        match event:
            case DatabaseAway() if self._since is None and event.seconds >= AWAY_SECONDS:
                self._since = self._clock.monotonic() - event.seconds
                return _("{place} does not answer: waiting for it.").format(place=place)
            case DatabaseBack() if self._since is not None:
                self._since = None
                answers = _("{place} answers again, after {duration}.")
                return answers.format(place=place, duration=duration(event.seconds))
        return None


class Bar:
    """A bar that redraws itself in place."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._stats = RunStats()
        self._outage = Outage(clock)
        self._bar: tqdm[None] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._stats.add(event)
        match event:
            case Planned():
                self._open()
            case Visited() | HostDeferred() if self._bar is not None:
                self._bar.total = self._stats.due
                self._describe(self._bar, refresh=False)
                self._bar.update(self._stats.visited - self._bar.n)
            case OriginPaused() if self._bar is not None:
                self._bar.write(pause_line(event), file=self._stream)
            case DatabaseAway() | DatabaseBack() if line := self._outage.line(event):
                self._write(line)
            case _:
                pass

    def _write(self, line: str) -> None:
        from tqdm import tqdm

        tqdm.write(line, file=self._stream)
        self.tick()

    def tick(self) -> None:
        """Redraw the time left, or the wait for the database, while nothing is visited."""
        if self._bar is not None:
            self._describe(self._bar, refresh=True)

    def _describe(self, bar: tqdm[None], *, refresh: bool) -> None:
        words = self._outage.words()
        bar.bar_format = translated(AWAY_BAR if words else BAR)
        bar.set_description_str(words or _received_and_failed(self._stats), refresh=refresh)

    def close(self) -> None:
        """Leave the bar on the terminal as it is."""
        if self._bar is not None:
            self._bar.close()

    def _open(self) -> None:
        if self._bar is not None:
            self._bar.total = self._stats.due
            self._bar.refresh()
        elif self._stats.due:
            from tqdm import tqdm

            columns, rows = _shape(self._stream)
            tqdm.monitor_interval = 0  # without tqdm's own thread: events and ticks redraw the bar
            self._bar = tqdm(
                total=self._stats.due,
                file=self._stream,
                unit=_(" pictures"),
                bar_format=translated(BAR),
                desc=_received_and_failed(self._stats),
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
        self._outage = Outage(clock)
        self._started = self._printed = clock.monotonic()

    def __call__(self, event: Event) -> None:
        """Count one event, and print a line if ten seconds have passed."""
        self._stats.add(event)
        match event:
            case Visited():
                self.tick()
            case OriginPaused():
                print(pause_line(event), file=self._stream, flush=True)
            case DatabaseAway() | DatabaseBack() if line := self._outage.line(event):
                print(line, file=self._stream, flush=True)
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
        left = _(", {duration} left").format(duration=duration(waiting / rate) if rate else "?") if waiting else ""
        done = f"{share(stats.visited, stats.due)} {count(stats.visited)}/{count(stats.due)}"
        counts = _received_and_failed(stats)
        going = self._outage.words() or _("{rate:.1f} pictures/s, {counts}").format(rate=rate, counts=counts) + left
        print(_(", ").join((done, going)), file=self._stream, flush=True)


def _received_and_failed(stats: RunStats) -> str:
    return _("{size}, {failed} failed").format(size=size(stats.size), failed=count(stats.failed.total()))


def pause_line(event: OriginPaused) -> str:
    """Return the line about a host to which requests are paused."""
    evidence = event.evidence.replace(f"{event.host}: ", "")  # the line names the host already
    return _("Pausing requests to {host} for {duration}: {evidence}").format(
        host=plain(event.host), duration=duration(event.seconds), evidence=plain(evidence)
    )


@contextmanager
def progress(stream: TextIO, clock: Clock, *, quiet: bool) -> Iterator[Listener]:
    """Yield a listener that shows the progress of a run as suits the stream; needs a running event loop."""
    if quiet:
        yield lambda _event: None
        return
    display = Bar(stream, clock) if stream.isatty() else Lines(stream, clock)

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
