"""A proxy between rehost and the S3 server of the tests that does what networks and gateways do, when it is asked to.

It serves in a thread of its own, so that tests of any kind can use it, and takes one request from each connection. The
Host header goes on unchanged, because signatures cover it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import pytest

from tests.ports import free_port
from tests.s3 import S3Server

MOST_SECONDS = 120  # that anything waits here
CONDITIONS = ("if-match", "if-none-match")


@dataclass
class Fault:
    """What befalls the next `times` requests with this method whose path contains `key`."""

    method: str = "PUT"
    key: str = ""
    times: int = 1_000_000
    status: int = 0  # answer with this error, and keep the request from the server
    code: str = "InternalError"  # of that answer: SlowDown, InternalError, XMinioStorageFull ...
    cut_after: int | None = None  # end the connection after so many bytes of the request's body have gone on
    hold_request: threading.Event | None = None  # let the request go on once this is set, wherever its sender is then
    hold_answer: threading.Event | None = None  # the same for the answer of a request that has arrived
    delay: float = 0.0  # seconds that the answer comes late
    swallow: bool = False  # let the request arrive, and end the connection in place of its answer
    cut_answer_after: int | None = None  # end the connection after so many bytes of the answer
    pause: float = 0.0  # seconds between the megabytes of the answer


@dataclass(frozen=True)
class Request:
    """A request as it came from the client."""

    method: str
    path: str  # decoded: /bucket/key
    query: str
    headers: dict[str, str]  # names in lower case
    target: str  # as it was sent


@dataclass
class FaultyS3:
    """The proxy; `requests` are those that have come so far."""

    server: S3Server
    port: int
    ignores_conditions: bool = False  # as some gateways do
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    arrived: list[Request] = field(default_factory=list)  # those that the server has answered
    events: set[threading.Event] = field(default_factory=set)  # what is waited for, or may be
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    listener: asyncio.Server | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def env(self, **more: str) -> dict[str, str]:
        """The variables by which a client finds the server through this proxy."""
        return self.server.env(self.endpoint, **more)

    def add(self, fault: Fault) -> Fault:
        """Do this to matching requests from now on; of several faults, the first that matches."""
        self.faults.append(fault)
        self.events.update({fault.hold_request, fault.hold_answer} - {None})
        return fault

    def clear(self) -> None:
        """Do nothing to requests any more."""
        self.faults.clear()

    def count(self, method: str, key: str = "") -> int:
        """How many requests with this method came whose path contains `key`."""
        return sum(method == each.method and key in each.path for each in list(self.requests))

    def refuse(self) -> None:
        """Refuse connections, and end those that there are, until `accept`."""
        self._wait(self._stop())

    def accept(self) -> None:
        """Take connections, on the port that it always had."""
        self._wait(self._start())

    def _wait(self, what) -> None:
        asyncio.run_coroutine_threadsafe(what, self.loop).result(MOST_SECONDS)

    async def _start(self) -> None:
        self.listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)

    async def _stop(self) -> None:
        if self.listener is not None:
            for listening in self.listener.sockets:
                self.loop.remove_reader(listening.fileno())
            for _ in range(5):  # a listener that is closed leaks what it has accepted just before
                await asyncio.sleep(0)
            self.listener.close()
            self.listener = None
        for _ in range(5):  # connections that were taken just before have no task yet
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(OSError, EOFError, asyncio.CancelledError):
                await self._exchange(reader, writer)
        finally:
            self.tasks.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = _parsed(await reader.readuntil(b"\r\n\r\n"))
        self.requests.append(request)
        fault = self._fault_for(request)
        size = int(request.headers.get("content-length", "0"))
        body = await reader.readexactly(size if fault.cut_after is None else min(size, fault.cut_after))
        if fault.status:
            await _send(writer, _error(request, fault))
            return
        await _event(fault.hold_request)
        answer = await self._forward(request, body, fault)
        if answer is None:
            return
        await _event(fault.hold_answer)
        await asyncio.sleep(fault.delay)
        if not fault.swallow:
            await _send(writer, answer[: fault.cut_answer_after], fault.pause)

    def _fault_for(self, request: Request) -> Fault:
        for fault in self.faults:
            if fault.times and fault.method == request.method and fault.key in request.path:
                fault.times -= 1
                return fault
        return Fault()

    async def _forward(self, request: Request, body: bytes, fault: Fault) -> bytes | None:
        """Send a request on; return the answer as it came, or None if the request was cut."""
        headers = {**self._passed_on(request), "connection": "close"}
        lines = [
            f"{request.method} {request.target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        connecting = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", urlsplit(self.server.endpoint).port))
        try:
            reader, writer = await asyncio.shield(connecting)
        except asyncio.CancelledError:  # which would leave the transport open
            connecting.add_done_callback(_close)
            raise
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
            if fault.cut_after is not None:
                return None
            answer = await asyncio.wait_for(reader.read(-1), MOST_SECONDS)
        finally:
            writer.close()
        self.arrived.append(request)
        return answer

    def _passed_on(self, request: Request) -> dict[str, str]:
        """Return the headers; without conditions, and signed anew, where conditions are ignored."""
        headers = {name: value for name, value in request.headers.items() if name != "connection"}
        if not self.ignores_conditions or not headers.keys() & set(CONDITIONS):
            return headers
        digest = headers["x-amz-content-sha256"]
        old = (*CONDITIONS, "authorization", "content-length")
        kept = {name: value for name, value in headers.items() if name not in old}
        length = {name: value for name, value in headers.items() if name == "content-length"}
        path, _, query = request.target.partition("?")
        return {**self.server.signed(request.method, path, query, kept, digest), **length}


def _parsed(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    path, _, query = target.partition("?")
    return Request(method, unquote(path), query, headers, target)


def _error(request: Request, fault: Fault) -> bytes:
    text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>{fault.code}</Message></Error>"
    head = f"HTTP/1.1 {fault.status} Refused\r\ncontent-type: application/xml\r\ncontent-length: {len(text)}\r\n"
    return f"{head}connection: close\r\n\r\n{'' if request.method == 'HEAD' else text}".encode()


async def _send(writer: asyncio.StreamWriter, answer: bytes, pause: float = 0.0) -> None:
    for start in range(0, len(answer), 2**20):
        writer.write(answer[start : start + 2**20])
        await asyncio.sleep(pause)
    writer.close()
    await asyncio.wait_for(writer.wait_closed(), MOST_SECONDS)


async def _event(event: threading.Event | None) -> None:
    if event is not None:
        await asyncio.to_thread(event.wait, MOST_SECONDS)


@contextmanager
def faulty_s3(server: S3Server) -> Iterator[FaultyS3]:
    """Run a proxy before a server; whatever it still holds when it ends is dropped."""
    proxy = FaultyS3(server, free_port())
    thread = threading.Thread(target=proxy.loop.run_forever, daemon=True)
    thread.start()
    try:
        proxy.accept()
        yield proxy
    finally:
        for event in proxy.events:
            event.set()
        proxy.refuse()
        proxy.loop.call_soon_threadsafe(proxy.loop.stop)
        thread.join(MOST_SECONDS)
        proxy.loop.run_until_complete(proxy.loop.shutdown_default_executor())
        proxy.loop.close()


@pytest.fixture
def s3_faults(s3_server: S3Server) -> Iterator[FaultyS3]:
    """A proxy of the test's own before the server that all share."""
    with faulty_s3(s3_server) as proxy:
        yield proxy


def _close(connecting: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].transport.abort()
