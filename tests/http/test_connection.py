"""The states of a response without a socket, for every way to cut it into pieces. test_pool.py has real sockets."""

import asyncio
import tracemalloc
from itertools import chain, cycle, islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rehost.http.body import read_decoded
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


CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def ended(connection):
    return connection.calls[-1:] in (["reusable"], ["closed"])


@pytest.mark.parametrize("status", [b"000", b"099", b"600", b"999"])
async def test_status_that_http_does_not_have_breaks_the_protocol(status):
    connection, response = begun()
    response.feed(memoryview(b"HTTP/1.1 " + status + b" X\r\n\r\npicture"))

    assert ended(connection)
    with pytest.raises(ProtocolError, match=f"status {int(status)}"):
        await read(response)


@pytest.mark.parametrize("framing", [b"Content-Length: 999999", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("status", [b"104", b"199"])
async def test_interim_response_with_a_body_breaks_the_protocol(status, framing):
    connection, response = begun()
    response.feed(memoryview(b"HTTP/1.1 " + status + b" X\r\n" + framing + b"\r\n\r\n6\r\npictur"))

    assert ended(connection)
    with pytest.raises(ProtocolError, match="no status line"):
        await read(response)


async def test_length_of_thousands_of_digits_is_a_number():
    _, _, body = await played(COUNTED.replace(b": 6", b": " + b"0" * 5000 + b"6"), 1 << 16)

    assert body == b"pictur"


async def test_coded_body_that_decodes_to_next_to_nothing_breaks_the_protocol():
    _, response = begun()
    response.feed(memoryview(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n"))
    reading = asyncio.create_task(read_decoded(response, bytearray().extend))
    await asyncio.sleep(0)
    response.feed(memoryview(b"\x78\x9c" + b"\0\0\0\xff\xff" * 20_000))  # empty blocks: RFC 1951, section 3.2.4

    with pytest.raises(ProtocolError, match="decodes to next to nothing"):
        await asyncio.wait_for(reading, 5)


async def test_chunks_of_one_read_reach_the_sink_together():
    _, response = begun()
    pieces = []
    response.feed(memoryview(CHUNKED_HEAD))
    reading = asyncio.create_task(response.read_body(lambda piece: pieces.append(bytes(piece))))
    await asyncio.sleep(0)
    for _ in range(2):
        response.feed(memoryview(b"9\r\na picture\r\n9\r\nin chunks\r\n" * 100))
    response.feed(memoryview(b"0\r\n\r\n"))
    await reading

    assert pieces == [b"a picturein chunks" * 100] * 2


async def test_chunks_before_a_fault_are_received():
    _, response = begun()
    response.feed(memoryview(CHUNKED_HEAD + b"3\r\npic\r\n3\r\ntur\r\nxyz\r\n"))

    with pytest.raises(ProtocolError, match="chunk size"):
        await read(response)
    assert response.received == 6


async def fed_chunks(chunk, number):
    """Feed this chunk again and again while a sink takes the body; return the bytes of body and the error."""
    connection, response = begun()
    response.feed(memoryview(CHUNKED_HEAD))
    reading = asyncio.create_task(response.read_body(lambda _piece: None))
    await asyncio.sleep(0)
    for start in range(0, len(chunk) * number, 100_000):
        if not ended(connection):
            piece = bytes(islice(cycle(chunk), start % len(chunk), start % len(chunk) + 100_000))
            response.feed(memoryview(piece))
    response.close()
    [error] = await asyncio.gather(reading, return_exceptions=True)
    return response.received, error


@pytest.mark.parametrize("size", [16, 100, 8192])
async def test_body_in_usual_chunks_is_received_however_long(size):
    received, error = await fed_chunks(b"%x\r\n%b\r\n" % (size, bytes(size)), 800_000 // size)

    assert received > 700_000
    assert error is None


@pytest.mark.parametrize(
    "chunk", [b"1\r\nx\r\n", b"1;" + b"e" * 60_000 + b"\r\nx\r\n", b"10;" + b"e" * 20 + b"\r\n" + bytes(16) + b"\r\n"]
)
async def test_body_with_more_around_it_than_in_it_breaks_the_protocol(chunk):
    received, error = await fed_chunks(chunk, 500_000 // len(chunk))

    assert isinstance(error, ProtocolError)
    assert received < 100_000


async def test_trailers_are_bounded_after_a_long_body_too():
    connection, response = begun()
    response.feed(memoryview(CHUNKED_HEAD))
    reading = asyncio.create_task(response.read_body(lambda _piece: None))
    await asyncio.sleep(0)
    response.feed(memoryview(b"f4240\r\n" + bytes(1_000_000) + b"\r\n0\r\nX: "))
    for _ in range(3):
        response.feed(memoryview(b"x" * 30_000))

    assert ended(connection)
    with pytest.raises(ProtocolError, match="does not end"):
        await reading


FRAGMENTS = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"000", b"099", b"100", b"103", b"104 X", b"199", b"200 OK", b"204", b"304", b"600"),
    *(b"\r\n", b"\n", b"\r\n\r\n", b"X: 1\r\n", b"Content-Length: 99999999999\r\n", b"Content-Length: 3\r\n"),
    *(b"Content-Length: ", b"0" * 5000, b"9", b" \r\n ", b"\t", b","),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: upgrade\r\n", b"Upgrade: h\r\n"),
    *(b"0\r\n", b"1\r\nx\r\n", b"ffff\r\n", b"1;" + b"e" * 500 + b"\r\nx\r\n", b"X: " + b"x" * 500, b"\0" * 500),
]
HEAD_BYTES = 16 * 1024  # what is read at once before the sink is known
MOST_HELD = 500_000


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(FRAGMENTS), max_size=9),
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=20), min_size=1, max_size=9),
)
@example([b"HTTP/1.1 ", b"099", b"\r\n\r\n"], [b"\0" * 500])
@example([b"HTTP/1.1 ", b"104 X", b"\r\n", b"Content-Length: 99999999999\r\n", b"\r\n"], [b"\0" * 500])
@example([b"HTTP/1.1 ", b"200 OK", b"\r\n"], [b"a:\r\n"])
def test_little_is_held_whatever_arrives(first, repeated):
    endless = chain(chain.from_iterable(first), cycle(chain.from_iterable(repeated)))
    connection, response = begun()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            read_at_once = memoryview(bytes(islice(endless, HEAD_BYTES)))
            if not ended(connection) and "pause" not in connection.calls:
                response.feed(read_at_once)
            del read_at_once
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert held < MOST_HELD


async def test_body_that_comes_although_reading_is_paused_breaks_the_protocol():
    connection, response = begun()
    response.feed(memoryview(b"HTTP/1.1 200 OK\r\n\r\n"))
    for _ in range(6):
        response.feed(memoryview(bytes(HEAD_BYTES)))

    assert ended(connection)
    with pytest.raises(ProtocolError, match="too early"):
        await read(response)


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
async def test_more_bytes_than_announced_close_the_connection(raw, size):
    connection, response, body = await played(raw + b"HTTP/1.1 200 OK\r\n\r\n", size)

    assert body == b"pictur"
    assert not response.is_exact
    assert connection.calls[-1] == "closed"


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

    with pytest.raises(type(fault)) as caught:
        await receiving
    assert caught.value is fault
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


# Generated answers: a body, its framing, and deviations from RFC 9112. What leaves one reading of the body is read.

ODD_LINES = [
    b"no colon",
    b": no name",
    b"a name: x",
    b"X : y",
    b"X: a\rb",
    b"\xe5\x9b\xbe: 1",
    b"\x01: 2",
    b"X:",
    b"@: 1",
]
STATUS_LINES = [b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.2 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 200  \xd5\xd2"]
BODIES = st.binary(min_size=1, max_size=300)


@st.composite
def counted(draw, body):
    size = b"%d" % len(body)
    fields = draw(
        st.sampled_from(
            [
                [b"Content-Length: " + size],
                [b"content-length:" + size + b" \t"],
                [b"Content-Length: 000" + size],
                [b"Content-Length: " + size, b"Content-Length: 0" + size],
                [b"Content-Length: " + size + b", " + size],
                [b"Content-Length : " + size],
                [b"Transfer-Encoding: identity", b"Content-Length: " + size],
                [b"Content-Length: " + size, b"Transfer-Encoding: binary"],
                [b"Content-Length:", b" " + size],
            ]
        )
    )
    return fields, body + draw(st.sampled_from([b"", b"\r\n", b"<!-- cached -->", b"HTTP/1.1 200 OK\r\n\r\n"]))


@st.composite
def chunked(draw, body):
    fields = draw(
        st.sampled_from(
            [
                [b"Transfer-Encoding: chunked"],
                [b"Transfer-Encoding: CHUNKED", b"Content-Length: 3"],
                [b"Content-Length: 3, 4", b"Transfer-Encoding: chunked"],
                [b"Transfer-Encoding: chunked, chunked"],
                [b"Transfer-Encoding: identity, chunked"],
            ]
        )
    )
    eol, framed, rest = draw(st.sampled_from([b"\r\n", b"\n"])), b"", body
    while rest:
        piece, rest = rest[: (size := draw(st.integers(1, 300)))], rest[size:]
        form = draw(st.sampled_from([b"%x%b", b"%X%b", b"00%x%b", b" %x %b", b"%x;a=b%b", b'%x ; a="b" %b']))
        framed += form % (len(piece), eol) + piece + eol
    end = draw(st.sampled_from([b"0%b%b", b"000%b%b", b"0;x%bTrailer: 1%b%b", b"0%bno trailer%bContent-Length: 9%b%b"]))
    framed += end % ((eol,) * end.count(b"%b"))
    return fields, framed + draw(st.sampled_from([b"", b"\r\n", b"0\r\n\r\n", b"surplus"]))


@st.composite
def closed(draw, body):
    values = [b"", b"unknown", b"-5", b"+5", b"5.0", b"0x5", b"5 5", b"\xd9\xa5"]
    fields = [b"Content-Length: " + value for value in values] + [b"Transfer-Encoding: identity", b"Connection: close"]
    return draw(st.lists(st.sampled_from(fields), max_size=2)), body


@st.composite
def answers(draw):
    """Return a body, and an answer that leaves one reading of it."""
    body = draw(BODIES)
    fields, framed = draw(st.one_of(counted(body), chunked(body), closed(body)))
    before, after = draw(st.lists(st.sampled_from(ODD_LINES), max_size=2)), draw(st.sampled_from([[], [b"no colon"]]))
    eol = draw(st.sampled_from([b"\r\n", b"\n"]))
    return body, eol.join([draw(st.sampled_from(STATUS_LINES)), *before, *fields, *after, b"", b""]) + framed


@given(answers(), st.integers(1, 400), st.booleans())
async def test_answer_with_one_reading_is_read_whole(answer, size, late):
    body, raw = answer

    connection, _, found = await played(raw, size, late=late)

    assert found == body
    assert ended(connection)


@given(BODIES, st.integers(1, 400), st.data())
async def test_answer_with_two_readings_is_refused(body, size, data):
    length, more = b"Content-Length: %d" % len(body), b"%d" % (len(body) + data.draw(st.integers(1, 9)))
    fields, framed = data.draw(
        st.sampled_from(
            [
                ([length, b"Content-Length: " + more], body),
                ([length + b", " + more], body),
                ([length, b"Content-Length: x"], body),
                ([length + b", -" + more], body),
                ([b"X: \0", length], body),
                ([b"Transfer-Encoding: chunked", length], b"-" + body + b"\r\n"),  # no size of a chunk
                ([b"Transfer-Encoding: chunked"], b"%x\r\n" % (len(body) + 2) + body + b"\r\n0\r\n\r\n"),
                ([b"Transfer-Encoding: chunked"], b"%x\r\n" % len(body) + body + b"X\r\n0\r\n\r\n"),
                ([b"Transfer-Encoding: chunked"], b"%x\r\n" % len(body) + body + b"\r\n-0\r\n\r\n"),
                ([b"Transfer-Encoding: chunked"], b"0x%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"),
                ([b"Content-Length: " + more], body),
            ]
        )
    )

    with pytest.raises((ProtocolError, IncompleteBody)):
        await played(b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"", b""]) + framed, size)


@given(answers(), st.integers(1, 400))
async def test_answer_that_deviates_closes_its_connection(answer, size):
    _, raw = answer

    connection, response, _ = await played(raw, size)

    if not response.is_exact:
        assert connection.calls[-1] == "closed"


async def test_a_body_in_tiny_chunks_is_refused_after_a_few_megabytes():
    _, response = begun()
    response.feed(memoryview(CHUNKED_HEAD))
    sizes = []
    reading = asyncio.create_task(response.read_body(lambda piece: sizes.append(len(piece))))
    await asyncio.sleep(0)
    chunks = b"a\r\n0123456789\r\n" * 10_000
    for _ in range(40):
        if not reading.done():
            response.feed(memoryview(chunks))
            await asyncio.sleep(0)

    with pytest.raises(ProtocolError, match="around a body"):
        await asyncio.wait_for(reading, 5)
    assert 1_000_000 < sum(sizes) < 4_000_000
