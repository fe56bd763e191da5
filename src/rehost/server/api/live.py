"""The progress of a run as server-sent events (HTML standard, section 9.2).

Nothing is measured while no stream is open. All streams of a source share one measurement, which takes at most a tenth
of the database's time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.model import State
from rehost.server.api.http import Source, to_json
from rehost.server.api.problems import Problem, ProblemError, prefers_chinese
from rehost.server.api.routes import Api

INTERVAL_SECONDS = 1.5  # between two measurements, at least
WINDOW_SECONDS = 12.0  # over which rates are taken
KEPT_BEATS = 240
MAX_STREAMS = 100
MAX_STREAM_SECONDS = 5.0  # a server that stops waits for its last response; browsers reconnect by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One measurement."""

    at: float  # seconds since 1970
    is_running: bool
    run: int | None  # the latest one that is in progress
    is_stopping: bool  # its end was asked for
    present: int
    held: int
    damaged: int
    undisplayed: int
    settled: int  # links that are neither due nor leased
    size: int
    rate: float = 0.0  # links settled per second
    speed: float = 0.0  # bytes added per second
    seconds_left: float | None = None
    states: Mapping[State, int]
    next_due_seconds: float | None


@dataclass(slots=True)
class _Course:
    """The measurements of one source."""

    beats: deque[Beat] = field(default_factory=lambda: deque(maxlen=KEPT_BEATS))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    next_at: float = 0.0  # monotonic time of the next measurement


class Live:
    """Measures and streams the progress of runs."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self.clock = clock
        self._courses: dict[str, _Course] = {}
        self._streams = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    async def respond(self, request: Request, source: Source = None) -> Response:
        """The progress of a run as server-sent events, of a few seconds each; clients reconnect."""
        if self._streams >= MAX_STREAMS:
            raise ProblemError(Problem.TOO_MANY_STREAMS)
        chosen = source if source in self._courses else await self._api.source(source)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        away = Problem.UNAVAILABLE.details[prefers_chinese(request.headers.get("accept-language", ""))]
        stream = self._stream(chosen, away, is_first="last-event-id" not in request.headers)
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    async def _stream(self, source: str, away: str, *, is_first: bool) -> AsyncIterator[bytes]:
        if self._streams >= MAX_STREAMS:  # others were opened since `respond` counted
            yield b"retry: 5000\n\n"
            return
        self._streams += 1
        try:
            course = self._courses.setdefault(source, _Course())
            yield b"retry: 200\n\n"
            if is_first:
                yield b"event: course\ndata: " + to_json(list(course.beats)) + b"\n\n"
            end = self.clock.monotonic() + MAX_STREAM_SECONDS
            while self.clock.monotonic() < end and not self._closing.is_set():
                try:
                    yield b"id: 1\nevent: beat\ndata: " + to_json(await self._measure(source, course)) + b"\n\n"
                except OperatorError:
                    yield b"event: away\ndata: " + to_json(away) + b"\n\n"
                await self._wait()
        finally:
            self._streams -= 1

    async def _wait(self) -> None:
        """Wait until the next measurement, or until the server stops."""
        closing = asyncio.create_task(self._closing.wait())
        sleeping = asyncio.create_task(self.clock.sleep(INTERVAL_SECONDS))
        try:
            await asyncio.wait({closing, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            sleeping.cancel()

    async def _measure(self, source: str, course: _Course) -> Beat:
        """Return a new measurement, or the last one if it is recent enough."""
        async with course.lock:
            started = self.clock.monotonic()
            if started < course.next_at and course.beats:
                return course.beats[-1]
            queries = (await self._api.resources.get()).queries
            report = await queries.source_report(source)
            present = sum(report.states.values())
            running = next((run for run in await queries.runs(source, 10) if run.is_alive), None)
            beat = Beat(
                at=self.clock.now().timestamp(),
                is_running=running is not None,
                run=running.run if running else None,
                is_stopping=running is not None and running.stop_at is not None,
                present=present,
                held=report.states[State.HELD],
                damaged=report.damaged,
                undisplayed=report.undisplayed,
                settled=present - report.due - report.leased,
                size=report.size,
                states=report.states,
                next_due_seconds=report.next_due_seconds,
            )
            course.beats.append(_with_rates(beat, course.beats))
            ended = self.clock.monotonic()
            course.next_at = ended + max(INTERVAL_SECONDS * 0.9, 9 * (ended - started))
            return course.beats[-1]


def _with_rates(beat: Beat, earlier: deque[Beat]) -> Beat:
    """Return the measurement with its rates, taken since the oldest one within the window."""
    since = next((each for each in earlier if 0.0 < beat.at - each.at <= WINDOW_SECONDS), None)
    if since is None:
        return beat
    seconds = beat.at - since.at
    rate = max(0.0, (beat.settled - since.settled) / seconds)
    speed = max(0.0, (beat.size - since.size) / seconds)
    left = max(0, beat.present - beat.settled)
    return replace(beat, rate=rate, speed=speed, seconds_left=left / rate if rate and left else None)
