import asyncio

from rehost.http import idle
from rehost.http.idle import IdleConnections


class Held:
    """A connection, as far as it is kept."""

    def __init__(self):
        self.is_usable = True

    def hang_up(self):
        self.is_usable = False


async def test_the_one_that_was_used_last_is_taken_and_only_for_its_origin():
    kept, first, second, other = IdleConnections(), Held(), Held(), Held()
    for origin, connection in (("a", first), ("a", second), ("b", other)):
        kept.keep(origin, connection)

    assert [kept.take("a"), kept.take("a"), kept.take("a"), kept.take("b")] == [second, first, None, other]
    kept.close()


async def test_what_the_origin_has_closed_is_neither_kept_nor_taken():
    kept, lost = IdleConnections(), Held()
    kept.keep("a", lost)
    lost.hang_up()
    kept.keep("a", lost)

    assert kept.take("a") is None
    kept.close()


async def test_of_too_many_those_go_that_were_used_longest_ago():
    kept, held = IdleConnections(), [Held() for _ in range(5)]
    for connection in held:
        kept.keep("a", connection)
    kept.reduce(2)

    assert [connection.is_usable for connection in held] == [False, False, False, True, True]
    kept.close()
    assert not any(connection.is_usable for connection in held)


async def test_one_that_nobody_wants_is_closed_after_a_while(monkeypatch):
    monkeypatch.setattr(idle, "_SECONDS", 0.02)
    kept, forgotten = IdleConnections(), Held()
    kept.keep("a", forgotten)

    async with asyncio.timeout(10):
        while forgotten.is_usable:
            await asyncio.sleep(0.005)

    assert kept.take("a") is None


async def test_one_that_is_in_use_meanwhile_stays(monkeypatch):
    monkeypatch.setattr(idle, "_SECONDS", 0.02)
    kept, busy = IdleConnections(), Held()
    kept.keep("a", busy)
    assert kept.take("a") is busy
    await asyncio.sleep(0.1)

    assert busy.is_usable
