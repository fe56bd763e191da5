"""Which connections are closed: of the clients that have the most, those that have waited the longest."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

from rehost.server import connections
from rehost.server.app import NotFound
from rehost.server.connections import BUSY, KEPT, WAIT_SECONDS, WRITE_SECONDS, Connection, Connections, to_close

pytestmark = pytest.mark.skipif(not connections._DESCRIPTORS.is_dir(), reason="connections are bounded on Linux only")


def held(client, waiting=60.0, *, is_unread=False):
    return Connection(None, client, waiting, is_unread)


def test_a_client_that_takes_nothing_of_a_response_is_closed():
    stuck, slow, idle = held("a", WRITE_SECONDS, is_unread=True), held("a", 1.0, is_unread=True), held("a", 3600.0)

    assert to_close([stuck, slow, idle]) == [stuck]


def test_few_connections_may_wait():
    assert to_close([held("a") for _ in range(BUSY)]) == []


def test_of_too_many_connections_some_are_kept():
    assert len(to_close([held("a") for _ in range(BUSY + 1)])) == BUSY + 1 - KEPT


def test_connections_in_use_are_not_closed():
    assert to_close([held("a", WAIT_SECONDS / 2) for _ in range(2 * BUSY)]) == []


def test_connections_that_have_waited_the_longest_are_closed_first():
    many = [held("a", 1.0 + number) for number in range(BUSY + 1)]

    assert set(to_close(many)) == set(many[KEPT:])


def test_connections_of_a_client_that_has_few_are_kept():
    few = [held("b", 3600.0) for _ in range(5)]

    assert not set(few) & set(to_close([*few, *(held("a", 1.0) for _ in range(BUSY))]))


async def test_connections_end_where_they_are_closed_and_no_others():
    own = Connections()
    async with by_uvicorn(NotFound()) as port, asyncio.timeout(20):
        await ask(port, "/")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        assert own.close_waiting() == 0
        own.close_all()
        assert await reader.read() == b""
        writer.close()
        reply = await ask(port, "/")

    assert reply.status == 404


async def test_connections_are_closed_as_long_as_they_are_too_many(monkeypatch):
    monkeypatch.setattr(connections, "BUSY", 5)
    monkeypatch.setattr(connections, "KEPT", 2)
    async with by_uvicorn(NotFound()) as port, asyncio.timeout(20), Connections().bounded():
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        waiting = {asyncio.create_task(reader.read()) for reader, _ in pairs}
        while len([each for each in waiting if each.done()]) < 8:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        left = [each for each in waiting if not each.done()]
        for _, writer in pairs:
            writer.close()
        await asyncio.wait(waiting)

    assert len(left) == 2
