"""How a run goes just now, as server-sent events (HTML standard, section 9.2).

Nothing is measured while nobody looks. Whoever looks shares one measurement, which never takes more than a tenth of
the database's time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rehost.clock import Clock
from rehost.errors import OperatorError
from rehost.model import State
from rehost.server.api.api import Api
from rehost.server.api.asking import AskedWronglyError
from rehost.server.api.operation import AWAY, trouble
from rehost.server.api.shapes import to_json

SECONDS = 1.5  # between two measurements, at least
WINDOW_SECONDS = 12.0  # over which rates are taken
KEPT = 240  # measurements
MOST_LISTENERS = 100
LONGEST_SECONDS = 5.0  # servers that end wait for their last answer; browsers come back by themselves, and go on


@dataclass(frozen=True, slots=True)
class Beat:
    """One measurement."""

    at: float  # seconds since 1970
    is_running: bool
    present: int
    held: int
    settled: int  # neither due nor leased
    size: int
    rate: float  # links settled a second
    speed: float  # bytes held more a second
    seconds_left: float | None
    states: Mapping[State, int]
    next_due_seconds: float | None


@dataclass(slots=True)
class _Course:
    beats: deque[Beat] = field(default_factory=lambda: deque(maxlen=KEPT))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    due: float = 0.0  # monotonic time of the next measurement


class Live:
    """Tells listeners how things go."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._courses: dict[str, _Course] = {}
        self._listeners = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Let all streams end."""
        self._closing.set()

    async def respond(self, request: Request) -> Response:
        """Return the stream of one source."""
        if self._listeners >= MOST_LISTENERS:
            return trouble(503, "Too many are looking on already.")
        try:
            source = self._api.source(request.query_params)
            known = source in self._api.sources or source in self._courses
            if not known and source not in await self._api.all_sources({}):
                return trouble(404, f"There is no source {source}.")
        except AskedWronglyError as error:
            return trouble(400, str(error))
        except OperatorError:
            return trouble(503, AWAY)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        is_first = "last-event-id" not in request.headers
        return StreamingResponse(
            self._stream(source, is_first=is_first), headers=headers, media_type="text/event-stream"
        )

    async def _stream(self, source: str, *, is_first: bool) -> AsyncIterator[bytes]:
        self._listeners += 1
        try:
            course = self._courses.setdefault(source, _Course())
            yield b"retry: 200\n\n"
            if is_first:
                yield b"event: course\ndata: " + to_json(list(course.beats)) + b"\n\n"
            ends = self._clock.monotonic() + LONGEST_SECONDS
            while self._clock.monotonic() < ends and not self._closing.is_set():
                try:
                    yield b"id: 1\nevent: beat\ndata: " + to_json(await self.measure(source, course)) + b"\n\n"
                except OperatorError:
                    yield b"event: away\ndata: " + to_json(AWAY) + b"\n\n"
                await self._pause()
        finally:
            self._listeners -= 1

    async def _pause(self) -> None:
        """Wait for the next measurement, or the end."""
        closing = asyncio.create_task(self._closing.wait())
        sleeping = asyncio.create_task(self._clock.sleep(SECONDS))
        try:
            await asyncio.wait({closing, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            sleeping.cancel()

    async def measure(self, source: str, course: _Course) -> Beat:
        """Return a measurement that is fresh, or the last one where it is fresh enough."""
        async with course.lock:
            started = self._clock.monotonic()
            if started < course.due and course.beats:
                return course.beats[-1]
            queries = (await self._api.office.get()).queries
            standing = await queries.standing(source)
            running = any(run.is_alive for run in await queries.runs(source, 10))
            present = sum(standing.states.values())
            beat = Beat(
                at=self._clock.now().timestamp(),
                is_running=running,
                present=present,
                held=standing.states[State.HELD],
                settled=present - standing.due - standing.leased,
                size=standing.size,
                rate=0.0,
                speed=0.0,
                seconds_left=None,
                states=standing.states,
                next_due_seconds=standing.next_due_seconds,
            )
            course.beats.append(_rated(beat, course.beats))
            ended = self._clock.monotonic()
            course.due = ended + max(SECONDS * 0.9, 9 * (ended - started))
            return course.beats[-1]


def _rated(beat: Beat, before: deque[Beat]) -> Beat:
    """Return the measurement with its rates: against the oldest within the window."""
    since = next((each for each in before if 0.0 < beat.at - each.at <= WINDOW_SECONDS), None)
    if since is None:
        return beat
    seconds = beat.at - since.at
    rate = max(0.0, (beat.settled - since.settled) / seconds)
    speed = max(0.0, (beat.size - since.size) / seconds)
    left = max(0, beat.present - beat.settled)
    return replace(beat, rate=rate, speed=speed, seconds_left=left / rate if rate and left else None)
