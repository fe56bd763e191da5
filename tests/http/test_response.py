"""One answer without a socket: what arrives in which pieces, and who is told. Whole exchanges are in test_client.py."""

import asyncio

import pytest
from httptools import HttpParserCallbackError

from rehost.errors import Permanent, StoreError, Transient
from rehost.http.response import Response
from rehost.model import Reason

COUNTED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npictur"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npic\r\n3\r\ntur\r\n0\r\n\r\n"
OPEN_ENDED = b"HTTP/1.1 200 OK\r\n\r\npictur"
UNCODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\npictur"


class Heard:
    """A connection, as far as an answer steers it."""

    def __init__(self):
        self.said = []

    def pause(self):
        self.said.append("pause")

    def resume(self):
        self.said.append("resume")

    def finish(self, *, is_reusable):
        self.said.append("reusable" if is_reusable else "closed")


def begun(**more):
    stream = Heard()
    return stream, Response(stream, lambda: stream.said.append("left"), **more)


async def read(answer):
    body = bytearray()
    await answer.head()
    await answer.receive(body.extend)
    return bytes(body)


async def played(raw, size, *, late=False):
    """Let an answer arrive in pieces of a size; somebody reads it from the start, or (late) once all is there."""
    stream, answer = begun()
    reading = None if late else asyncio.create_task(read(answer))
    for start in range(0, len(raw), size):
        if stream.said[-1:] not in (["reusable"], ["closed"]):
            await asyncio.sleep(0)
            answer.feed(memoryview(raw[start : start + size]))
            await asyncio.sleep(0)
    answer.cut(None)
    return stream, answer, await (reading or read(answer))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("raw", [COUNTED, CHUNKED, OPEN_ENDED, UNCODED, b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" + COUNTED])
async def test_a_body_is_the_same_in_whatever_pieces_it_comes(raw, size, late):
    _, answer, body = await played(raw, size, late=late)

    assert (answer.status, body, answer.received) == (200, b"pictur", 6)
    assert "link" not in answer.headers


@pytest.mark.parametrize(
    ("raw", "ended"), [(COUNTED, "reusable"), (CHUNKED, "reusable"), (OPEN_ENDED, "closed"), (UNCODED, "closed")]
)
async def test_a_connection_can_be_used_again_where_the_framing_says_so(raw, ended):
    stream, answer, _ = await played(raw, 1000)
    answer.close()

    assert stream.said[-2:] == [ended, "left"]


@pytest.mark.parametrize("more", [b"", b"\r\n"])
@pytest.mark.parametrize("size", [len(COUNTED) - 3, 1000])
async def test_a_line_break_too_many_is_none_of_our_business(size, more):
    _, _, body = await played(COUNTED + more, size)

    assert body == b"pictur"


@pytest.mark.parametrize("raw", [COUNTED, CHUNKED])
@pytest.mark.parametrize("size", [len(COUNTED) - 3, 1000])
async def test_more_than_was_announced_is_no_answer(raw, size):
    with pytest.raises(Permanent) as caught:
        await played(raw + b"HTTP/1.1 200 OK\r\n\r\n", size)

    assert caught.value.reason is Reason.MALFORMED


async def test_what_comes_before_anybody_wants_it_is_held_and_no_more_is_read():
    stream, answer = begun()
    answer.feed(memoryview(COUNTED[:-4]))
    assert stream.said == ["pause"]
    answer.feed(memoryview(COUNTED[-4:-2]))  # was on its way

    reading = asyncio.create_task(read(answer))
    await asyncio.sleep(0)
    assert stream.said == ["pause", "resume"]
    answer.feed(memoryview(COUNTED[-2:]))

    assert await reading == b"pictur"


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"", Reason.UNREACHABLE), (COUNTED[:9], Reason.UNREACHABLE), (COUNTED[:-1], Reason.TRUNCATED)],
)
async def test_an_answer_that_breaks_off_says_how_far_it_came(raw, error, reason):
    _, answer = begun()
    reading = asyncio.create_task(read(answer))
    await asyncio.sleep(0)
    answer.feed(memoryview(raw))
    answer.cut(error)

    with pytest.raises(Transient) as caught:
        await reading
    assert caught.value.reason is reason


async def test_an_answer_without_an_end_that_breaks_is_cut():
    _, answer = begun()
    answer.feed(memoryview(OPEN_ENDED))
    answer.cut(ConnectionResetError("reset"))

    with pytest.raises(Transient, match="cut off after 6 bytes"):
        await read(answer)


@pytest.mark.parametrize("fault", [StoreError("full"), Permanent(Reason.TOO_LARGE), ZeroDivisionError("ours")])
@pytest.mark.parametrize("raw", [COUNTED, CHUNKED])
async def test_what_a_sink_raises_ends_the_answer_and_is_told(raw, fault):
    stream, answer = begun()

    def refuse(_piece):
        raise fault

    head = raw.index(b"\r\n\r\n") + 4
    answer.feed(memoryview(raw[:head]))
    receiving = asyncio.create_task(answer.receive(refuse))
    await asyncio.sleep(0)
    try:
        answer.feed(memoryview(raw[head:]))
    except Exception as error:  # noqa: BLE001 - the event loop gives back what its protocol raises
        answer.cut(error)

    with pytest.raises((type(fault), HttpParserCallbackError)) as caught:
        await receiving
    assert fault in (caught.value, caught.value.__context__)
    assert stream.said[-1] == "closed"


async def test_an_answer_that_is_closed_early_takes_its_connection_with_it():
    stream, answer = begun()
    answer.feed(memoryview(COUNTED[:-1]))
    answer.close()

    assert stream.said == ["pause", "closed", "left"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("framing", ["", "Content-Length: 0\r\n", "Content-Length: 9\r\n", "Connection: close\r\n"])
async def test_the_answer_to_connect_ends_at_its_head(version, framing):
    stream, answer = begun(is_to_connect=True)
    answer.feed(memoryview(f"HTTP/{version} 200 Connection established\r\n{framing}\r\n".encode()))

    assert await read(answer) == b""
    answer.close()
    assert stream.said == ["reusable", "left"]


@pytest.mark.parametrize("size", [1, 1000])
async def test_a_refusal_to_connect_is_an_answer_like_any_other(size):
    stream, answer = begun(is_to_connect=True)
    refusal = COUNTED.replace(b"200 OK", b"407 No")
    for start in range(0, len(refusal), size):
        answer.feed(memoryview(refusal[start : start + size]))

    assert await read(answer) == b"pictur"
    assert (answer.status, stream.said[-1]) == (407, "reusable")


@pytest.mark.parametrize("raw", [COUNTED, OPEN_ENDED, COUNTED.replace(b"6", b"0"), CHUNKED])
async def test_nothing_may_follow_the_answer_to_connect(raw):
    stream, answer = begun(is_to_connect=True)
    answer.feed(memoryview(raw))

    with pytest.raises(Permanent) as caught:
        await read(answer)
    answer.close()
    assert caught.value.reason is Reason.MALFORMED
    assert stream.said == ["closed", "left"]
