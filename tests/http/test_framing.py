"""Where a body ends: what has one reading is read, what has two is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.http.errors import ProtocolError
from rehost.http.framing import MAX_FIELDS, ChunkReader, Head, HeadReader

CRLF = b"\r\n"


def head(*fields, line=b"HTTP/1.1 200 OK"):
    return Head(CRLF.join((line, *fields, b"")))


def framing(*fields, line=b"HTTP/1.1 200 OK"):
    """Return how the body of a response is framed, and whether another response may follow."""
    found = head(*fields, line=line)
    return "chunked" if found.is_chunked else found.length, found.keeps_alive


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([b"Content-Length: 5"], (5, True)),
        ([b"content-length:5"], (5, True)),
        ([b"Transfer-Encoding: chunked"], ("chunked", True)),
        ([b"Transfer-Encoding: Chunked"], ("chunked", True)),
        ([], (None, False)),
        ([b"Content-Length: 5", b"Connection: close"], (5, False)),
        ([b"Content-Length: 5", b"Connection: Keep-Alive, CLOSE"], (5, False)),
        # one reading, but a server that cannot be trusted to say where its next response begins
        ([b"Content-Length: 5", b"Content-Length: 5"], (5, False)),
        ([b"Content-Length: 5, 5"], (5, False)),
        ([b"Content-Length: 5", b"Content-Length: 05"], (5, False)),
        ([b"Content-Length:"], (None, False)),
        ([b"Content-Length: unknown"], (None, False)),
        ([b"Content-Length: +5"], (None, False)),
        ([b"Content-Length: -5"], (None, False)),
        ([b"Content-Length: 5.0"], (None, False)),
        ([b"Content-Length: 0x5"], (None, False)),
        ([b"Content-Length : 5"], (5, False)),
        ([b"Transfer-Encoding: identity", b"Content-Length: 5"], (5, False)),
        ([b"Transfer-Encoding:", b"Content-Length: 5"], (5, True)),
        ([b"Transfer-Encoding: binary", b"Content-Length: 5"], (5, False)),
        ([b"Transfer-Encoding: binary"], (None, False)),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], ("chunked", False)),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], ("chunked", False)),
        ([b"Transfer-Encoding: chunked, chunked"], ("chunked", False)),
        ([b"no colon", b"Content-Length: 5"], (5, False)),
        ([b": no name", b"Content-Length: 5"], (5, False)),
        ([b"a name: x", b"Content-Length: 5"], (5, False)),
        ([b"X: a\rb", b"Content-Length: 5"], (5, True)),
        ([b"X: a", b"\tfolded", b"Content-Length: 5"], (5, True)),
        ([b"Content-Length:", b" 5"], (5, True)),
    ],
)
def test_body_with_one_reading_is_framed(fields, expected):
    assert framing(*fields) == expected


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 6"],
        [b"Content-Length: 5", b"Content-Length: x"],
        [b"Content-Length: 5", b"Content-Length:"],
        [b"Content-Length: " + b"9" * 19],
        [b"X: \0"],
        [b"X%d: 1" % number for number in range(MAX_FIELDS + 1)],
    ],
    ids=lambda fields: str(fields[:2])[:60],
)
def test_body_with_two_readings_is_refused(fields):
    with pytest.raises(ProtocolError):
        head(*fields)


@pytest.mark.parametrize(
    ("line", "status", "is_regular"),
    [
        (b"HTTP/1.1 200 OK", 200, True),
        (b"HTTP/1.0 404 ", 404, True),
        (b"HTTP/1.1 200", 200, True),
        (b"HTTP/1.1 200 \xd5\xd2\xb2\xbb\xb5\xbd", 200, True),
        (b"HTTP/1.2 200 OK", 200, False),
        (b"HTTP/1.1  200 OK", 200, False),
        (b"HTTP/1.1\t200 OK", 200, False),
        (b"HTTP/1.1 200OK", 200, False),
        (b"http/1.1 200 OK", 200, False),
        (b"HTTP/2.0 200", 200, False),
        (b"HTTP/1.1 599 X", 599, True),
        (b"HTTP/1.1 100 Continue", 100, True),
    ],
)
def test_status_line_is_read(line, status, is_regular):
    found = head(b"Content-Length: 0", line=line)

    assert (found.status, found.is_regular) == (status, is_regular)


@pytest.mark.parametrize(
    "line",
    [b"", b"HTTP/1.1", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 -200 OK", b"HTTP 200 OK", b"ICY 200 OK",
     b"<html>", b"HTTP/1.1 099 X", b"HTTP/1.1 600 X", b"HTTP/1.1 999 X", b"\x16\x03\x01"],
)  # fmt: skip
def test_what_is_no_status_line_is_refused(line):
    with pytest.raises(ProtocolError):
        head(line=line)


@pytest.mark.parametrize("status", [100, 101, 103, 204, 304])
def test_statuses_without_a_body_have_none(status):
    found = head(b"Content-Length: 5", line=b"HTTP/1.1 %d X" % status)

    assert (found.length, found.is_interim) == (0, status in {100, 103})


def test_http_1_0_keeps_a_connection_only_if_it_says_so():
    assert not head(b"Content-Length: 0", line=b"HTTP/1.0 200 OK").keeps_alive
    assert head(b"Content-Length: 0", b"Connection: keep-alive", line=b"HTTP/1.0 200 OK").keeps_alive


@given(st.data())
def test_head_arrives_in_pieces_of_any_size(data):
    end = data.draw(st.sampled_from([b"\r\n", b"\n"]))
    before = data.draw(st.sampled_from([b"", b"\r\n", b"\n\n"]))
    raw = before + end.join((b"HTTP/1.1 200 OK", b"A: 1", b"B: 2", b"", b"")) + b"body\n\nmore"
    reader, at, found = HeadReader(), 0, None
    while found is None:
        size = data.draw(st.integers(1, 9))
        found, at = reader.feed(raw[at : at + size]), at + size

    read, rest = found
    assert dict(read.headers) == {"a": "1", "b": "2"}
    assert rest + raw[at:] == b"body\n\nmore"


def chunks(reader, raw, *sizes):
    """Return the body that a reader finds in bytes that arrive in pieces of these sizes, the rest at once."""
    found = []
    for size in (*sizes, len(raw)):
        found += [bytes(piece) for piece in reader.feed(memoryview(raw[:size]))]
        raw = raw[size:]
    return b"".join(found)


@pytest.mark.parametrize(
    ("raw", "is_regular"),
    [
        (b"5\r\nwhole\r\n0\r\n\r\n", True),
        (b"2\r\nwh\r\n3\r\nole\r\n0\r\n\r\n", True),
        (b"05;name=value\r\nwhole\r\n0;x\r\nTrailer: 1\r\n\r\n", True),
        (b"0" * 30 + b"5\r\nwhole\r\n" + b"0" * 30 + b"\r\n\r\n", True),
        (b" 5 \r\nwhole\r\n0\r\n\r\n", True),
        (b"5\nwhole\n0\n\n", False),
        (b"5\r\nwhole\r\n0\r\n\r\nmore", False),
    ],
)
@given(sizes=st.lists(st.integers(1, 6)))
def test_chunks_are_read(raw, is_regular, sizes):
    reader = ChunkReader()

    assert chunks(reader, raw, *sizes) == b"whole"
    assert (reader.is_complete, reader.is_regular) == (True, is_regular)


@pytest.mark.parametrize("cut", range(len(b"5\r\nwhole\r\n0\r\n\r\n")))
def test_chunked_body_that_is_cut_is_not_complete(cut):
    reader = ChunkReader()
    reader.feed(memoryview(b"5\r\nwhole\r\n0\r\n\r\n"[:cut]))

    assert not reader.is_complete


@pytest.mark.parametrize(
    "raw",
    [b"x\r\n", b"-1\r\n",
     b"0x5\r\nwhole\r\n", b"\r\n", b"5\r\nwholeX\r\n", b"5 5\r\nwhole\r\n", b"f" * 16 + b"\r\n", b"1_0\r\n"],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(raw):
    reader = ChunkReader()
    pieces = reader.feed(memoryview(b"2\r\nab\r\n" + raw))

    assert bytes(pieces[0]) == b"ab"
    assert isinstance(reader.error, ProtocolError)
    assert not reader.is_complete
