import asyncio

from rehost.http.pool import IdleConnections


class FakeConnection:
    """Stands in for a connection that is idle."""

    def __init__(self):
        self.is_usable = True

    def abort(self):
        self.is_usable = False


async def test_last_used_connection_to_the_same_origin_is_taken():
    kept, first, second, other = IdleConnections(), FakeConnection(), FakeConnection(), FakeConnection()
    for origin, connection in (("a", first), ("a", second), ("b", other)):
        kept.keep(origin, connection)

    assert [kept.take("a"), kept.take("a"), kept.take("a"), kept.take("b")] == [second, first, None, other]
    kept.close()


async def test_closed_connection_is_neither_kept_nor_taken():
    kept, lost = IdleConnections(), FakeConnection()
    kept.keep("a", lost)
    lost.abort()
    kept.keep("a", lost)

    assert kept.take("a") is None
    kept.close()


async def test_connections_used_longest_ago_are_closed_first():
    kept, held = IdleConnections(), [FakeConnection() for _ in range(5)]
    for connection in held:
        kept.keep("a", connection)
    kept.shrink(2)

    assert [connection.is_usable for connection in held] == [False, False, False, True, True]
    kept.close()
    assert not any(connection.is_usable for connection in held)


async def test_idle_connection_is_closed_after_a_while():
    kept, forgotten = IdleConnections(seconds=0.02), FakeConnection()
    kept.keep("a", forgotten)

    async with asyncio.timeout(10):
        while forgotten.is_usable:
            await asyncio.sleep(0.005)

    assert kept.take("a") is None


async def test_connection_in_use_stays_open():
    kept, busy = IdleConnections(seconds=0.02), FakeConnection()
    kept.keep("a", busy)
    assert kept.take("a") is busy
    await asyncio.sleep(0.1)

    assert busy.is_usable
