"""Live events: shared measurements, rates, bounds, and the end of a stream when the server stops."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.databases import add_cases, another_peer, stored
from tests.server.conftest import by_granian, by_uvicorn
from tests.server.dashboards import database, database_url, make_dashboard, peer, runs
from tests.server.wire import ask

__all__ = ["database", "database_url", "peer", "runs"]


class Stream:
    """A browser's EventSource."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port, source="cases"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /api/live?source={source} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"text/event-stream" in head
        return cls(reader, writer)

    async def next(self, name):
        while True:
            line = await self.reader.readline()
            assert line, "the stream has ended"
            if line == f"event: {name}\n".encode():
                return json.loads((await self.reader.readline()).removeprefix(b"data: "))

    async def close(self):
        self.writer.close()
        await self.writer.wait_closed()


@pytest.fixture
async def page(peer, runs):
    await add_cases(peer.database, [f"https://a.example/{number}.png" for number in range(4)])
    await peer.note()
    page = make_dashboard(peer.database, runs)
    yield page
    await page.close()


async def test_stream_shows_links_being_held(page, peer):
    async with by_uvicorn(page) as port:
        stream = await Stream.open(port)
        assert await stream.next("course") == []
        before = await stream.next("beat")
        tasks = await peer.lease_all()
        await peer.record(1, [stored(task) for task in tasks])
        after = before
        while after["held"] == 0:
            after = await stream.next("beat")
        await stream.close()

    assert (before["present"], before["held"], before["settled"]) == (4, 0, 0)
    assert (after["held"], after["settled"], after["size"]) == (4, 4, 20)
    assert after["rate"] > 0
    assert after["speed"] > 0


async def test_second_stream_starts_with_earlier_measurements(page):
    async with by_uvicorn(page) as port:
        first = await Stream.open(port)
        beat = await first.next("beat")
        second = await Stream.open(port)
        course = await second.next("course")
        await first.close()
        await second.close()

    assert course[0] == beat


async def test_number_of_streams_is_bounded(page, monkeypatch):
    monkeypatch.setattr("rehost.server.api.live.MAX_STREAMS", 1)
    async with by_uvicorn(page) as port:
        first = await Stream.open(port)
        await first.next("beat")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await first.close()

    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_number_of_streams_is_bounded_for_requests_at_the_same_time(page, monkeypatch):
    monkeypatch.setattr("rehost.server.api.live.MAX_STREAMS", 3)
    async with by_uvicorn(page) as port:
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in pairs:
            writer.write(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = await asyncio.gather(*(reader.read() for reader, _ in pairs))
        for _, writer in pairs:
            writer.close()

    assert sum(b"event: beat" in answer for answer in answers) == 3


async def test_unknown_source_is_404_and_not_measured(page):
    async with by_uvicorn(page) as port:
        strange = [await ask(port, f"/api/live?source={number}") for number in range(3)]
        stream = await Stream.open(port)
        beat = await stream.next("beat")
        await stream.close()

    assert {reply.status for reply in strange} == {404}
    assert beat["present"] == 4


async def test_links_leased_by_a_dead_worker_are_counted_once(page, peer, database_url):
    tasks = await peer.lease_all()
    await peer.record(1, [stored(task) for task in tasks[:2]])
    await peer.ledger.leases.release(tasks[2:])
    async with another_peer(database_url, "gone", lease_seconds=-1.0) as gone:
        assert len(await gone.lease_all()) == 2
    async with by_uvicorn(page) as port:
        stream = await Stream.open(port)
        beat = await stream.next("beat")
        await stream.close()

    assert (beat["present"], beat["settled"], beat["states"]["leased"]) == (4, 2, 2)


async def test_server_stops_while_a_stream_is_open(page, monkeypatch):
    monkeypatch.setattr("rehost.server.api.live.MAX_STREAM_SECONDS", 2.0)
    async with asyncio.timeout(20):
        async with by_granian(page) as port:
            stream = await Stream.open(port)
            await stream.next("beat")
        await stream.close()
