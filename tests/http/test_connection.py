"""The states of a response without a socket, for every way to cut it into pieces. test_pool.py has real sockets."""

import asyncio

import pytest
from httptools import HttpParserCallbackError

from rehost.http.connection import Response
from rehost.http.errors import BodyTooLarge, ConnectionClosed, IncompleteBody, ProtocolError

COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npictur"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npic\r\n3\r\ntur\r\n0\r\n\r\n"
OPEN_ENDED = b"HTTP/1.1 200 OK\r\n\r\npictur"
UNCODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\npictur"


class Recorder:
    """Stands in for a connection, and records what a response does with it."""

    def __init__(self):
        self.calls = []

    def pause(self):
        self.calls.append("pause")

    def resume(self):
        self.calls.append("resume")

    def finish(self, *, is_reusable):
        self.calls.append("reusable" if is_reusable else "closed")


def begun(**more):
    connection = Recorder()
    return connection, Response(connection, lambda: connection.calls.append("on_close"), **more)


async def read(response):
    body = bytearray()
    await response.read_head()
    await response.read_body(body.extend)
    return bytes(body)


async def played(raw, size, *, late=False):
    """Feed a response in pieces of a size; read it from the start, or (late) once all is there."""
    connection, response = begun()
    reading = None if late else asyncio.create_task(read(response))
    for start in range(0, len(raw), size):
        if connection.calls[-1:] not in (["reusable"], ["closed"]):
            await asyncio.sleep(0)
            response.feed(memoryview(raw[start : start + size]))
            await asyncio.sleep(0)
    response.disconnect(None)
    return connection, response, await (reading or read(response))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("raw", [COUNTED, CHUNKED, OPEN_ENDED, UNCODED, b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" + COUNTED])
async def test_body_is_the_same_in_pieces_of_any_size(raw, size, late):
    _, response, body = await played(raw, size, late=late)

    assert (response.status, body, response.received) == (200, b"pictur", 6)
    assert "link" not in response.headers


@pytest.mark.parametrize(
    ("raw", "ended"), [(COUNTED, "reusable"), (CHUNKED, "reusable"), (OPEN_ENDED, "closed"), (UNCODED, "closed")]
)
async def test_connection_is_reusable_where_the_framing_allows_it(raw, ended):
    connection, response, _ = await played(raw, 1000)
    response.close()

    assert connection.calls[-2:] == [ended, "on_close"]


@pytest.mark.parametrize("more", [b"", b"\r\n"])
@pytest.mark.parametrize("size", [len(COUNTED) - 3, 1000])
async def test_extra_line_break_after_the_body_is_ignored(size, more):
    _, _, body = await played(COUNTED + more, size)

    assert body == b"pictur"


@pytest.mark.parametrize("raw", [COUNTED, CHUNKED])
@pytest.mark.parametrize("size", [len(COUNTED) - 3, 1000])
async def test_more_bytes_than_announced_break_the_protocol(raw, size):
    with pytest.raises(ProtocolError, match="more bytes than announced"):
        await played(raw + b"HTTP/1.1 200 OK\r\n\r\n", size)


async def test_early_body_bytes_are_kept_and_reading_pauses():
    connection, response = begun()
    response.feed(memoryview(COUNTED[:-4]))
    assert connection.calls == ["pause"]
    response.feed(memoryview(COUNTED[-4:-2]))  # already read by the event loop

    reading = asyncio.create_task(read(response))
    await asyncio.sleep(0)
    assert connection.calls == ["pause", "resume"]
    response.feed(memoryview(COUNTED[-2:]))

    assert await reading == b"pictur"


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
@pytest.mark.parametrize(
    ("raw", "kind"),
    [(b"", ConnectionClosed), (COUNTED[:9], ConnectionClosed), (COUNTED[:-1], IncompleteBody)],
)
async def test_broken_response_is_closed_or_incomplete(raw, error, kind):
    _, response = begun()
    reading = asyncio.create_task(read(response))
    await asyncio.sleep(0)
    response.feed(memoryview(raw))
    response.disconnect(error)

    with pytest.raises(kind):
        await reading


async def test_broken_body_without_a_length_is_incomplete():
    _, response = begun()
    response.feed(memoryview(OPEN_ENDED))
    response.disconnect(ConnectionResetError("reset"))

    with pytest.raises(IncompleteBody, match="cut off after 6 bytes"):
        await read(response)


@pytest.mark.parametrize("fault", [OSError("full"), BodyTooLarge("cap"), ZeroDivisionError("a bug")])
@pytest.mark.parametrize("raw", [COUNTED, CHUNKED])
async def test_error_of_the_sink_ends_the_response_and_is_raised(raw, fault):
    connection, response = begun()

    def refuse(_piece):
        raise fault

    head = raw.index(b"\r\n\r\n") + 4
    response.feed(memoryview(raw[:head]))
    receiving = asyncio.create_task(response.read_body(refuse))
    await asyncio.sleep(0)
    try:
        response.feed(memoryview(raw[head:]))
    except Exception as error:  # noqa: BLE001 - the event loop passes back what its protocol raises
        response.disconnect(error)

    with pytest.raises((type(fault), HttpParserCallbackError)) as caught:
        await receiving
    assert fault in (caught.value, caught.value.__context__)
    assert connection.calls[-1] == "closed"


async def test_response_that_is_closed_early_closes_its_connection():
    connection, response = begun()
    response.feed(memoryview(COUNTED[:-1]))
    response.close()

    assert connection.calls == ["pause", "closed", "on_close"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("framing", ["", "Content-Length: 0\r\n", "Content-Length: 9\r\n", "Connection: close\r\n"])
async def test_success_of_connect_ends_at_its_head(version, framing):
    connection, response = begun(is_connect=True)
    response.feed(memoryview(f"HTTP/{version} 200 Connection established\r\n{framing}\r\n".encode()))

    assert await read(response) == b""
    response.close()
    assert connection.calls == ["reusable", "on_close"]


@pytest.mark.parametrize("size", [1, 1000])
async def test_refusal_of_connect_has_a_body(size):
    connection, response = begun(is_connect=True)
    refusal = COUNTED.replace(b"200 OK", b"407 No")
    for start in range(0, len(refusal), size):
        response.feed(memoryview(refusal[start : start + size]))

    assert await read(response) == b"pictur"
    assert (response.status, connection.calls[-1]) == (407, "reusable")


@pytest.mark.parametrize("raw", [COUNTED, OPEN_ENDED, COUNTED.replace(b"6", b"0"), CHUNKED])
async def test_bytes_after_a_success_of_connect_break_the_protocol(raw):
    connection, response = begun(is_connect=True)
    response.feed(memoryview(raw))

    with pytest.raises(ProtocolError):
        await read(response)
    response.close()
    assert connection.calls == ["closed", "on_close"]
