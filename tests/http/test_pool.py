"""Whole exchanges on raw sockets: requests, framing, reuse of connections, limits; and which connections are kept."""

import asyncio
import gzip
import socket
import ssl
import threading

import pytest
import trustme
import uvloop
from tests.http.conftest import LOOPBACK, connector_to, get, no_names, pool_to, raw_server

from rehost.http.address_policy import AddressPolicy
from rehost.http.body import drain, read_prefix
from rehost.http.connection import IdleConnections
from rehost.http.errors import (
    AddressRefused,
    BodyTooLarge,
    ConnectionClosed,
    HttpError,
    IncompleteBody,
    ProtocolError,
)
from rehost.http.pool import ConnectionPool, Connector, Proxies

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
SECOND = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"


async def test_request_has_host_and_headers_and_no_body():
    async with raw_server(OK) as server, pool_to(server.port) as pool:
        await get(pool, f"http://a.example:{server.port}/b.png?c=1", {"User-Agent": "me", "Accept": "image/*"})

    [request] = server.requests
    lines = ["GET /b.png?c=1 HTTP/1.1", f"Host: a.example:{server.port}", "User-Agent: me", "Accept: image/*", "", ""]
    assert request == "\r\n".join(lines).encode()


async def test_headers_of_an_origin_replace_others_of_their_names():
    async with raw_server(OK) as server:
        pool = pool_to(server.port, headers_for=lambda origin: {"user-agent": origin})
        async with pool:
            await get(pool, "http://a.example/", {"User-Agent": "me"})

    assert server.requests == [b"GET / HTTP/1.1\r\nHost: a.example\r\nuser-agent: http://a.example\r\n\r\n"]


WHOLE = {
    "counted": HEAD + b"Content-Length: 4\r\n\r\nbody",
    "until close": HEAD + b"\r\nbody",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nbody",
    "no phrase": b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nbody",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 4\n\nbody",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2;ext=1\r\ndy\r\n0\r\n\r\n",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\n"
    + HEAD
    + b"Content-Length: 4\r\n\r\nbody",
    "gzip": HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"body", mtime=0),
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\nbody",
    "negative length": HEAD + b"Content-Length: -4\r\n\r\nbody",
    "the same length twice": HEAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    "length and chunks": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "too long": HEAD + b"Content-Length: 4\r\n\r\nbody!",
}

BROKEN = {
    "nothing": (b"", ConnectionClosed, "closed without an answer"),
    "half a head": (HEAD, ConnectionClosed, "closed without an answer"),
    "HTTP/0.9": (b"body", ProtocolError, "HTTP"),
    "other protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError, "HTTP"),
    "two lengths": (HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody", ProtocolError, "Content-Length"),
    "too short": (HEAD + b"Content-Length: 5\r\n\r\nbody", IncompleteBody, "cut off after 4 bytes"),
    "cut chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nbody", IncompleteBody, "cut off after 4 bytes"),
    "no last chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", IncompleteBody, "cut off"),
    "broken chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nbody", ProtocolError, "chunk size"),
    "gzip over chunks": (HEAD + b"Transfer-Encoding: gzip\r\n\r\nbody", ProtocolError, "transfer encoding gzip"),
    "cut gzip": (
        HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"body", mtime=0)[:-9],
        IncompleteBody,
        "the gzip body ends before its end",
    ),
    "many fields": (
        HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(1001)) + b"\r\n",
        ProtocolError,
        "too many fields",
    ),
    "endless field": (HEAD + b"X: " + b"1" * 70_000, ProtocolError, "does not end"),
}


@pytest.mark.parametrize("piece_bytes", [1, 1 << 16])
@pytest.mark.parametrize("reply", WHOLE.values(), ids=WHOLE)
async def test_well_framed_body_is_read_whole(reply, piece_bytes):
    async with raw_server(reply, piece_bytes=piece_bytes) as server, pool_to(server.port) as pool:
        assert await get(pool, server.url) == (200, b"body")


@pytest.mark.parametrize(("reply", "kind", "rule"), BROKEN.values(), ids=BROKEN)
async def test_broken_response_says_which_rule_it_breaks(reply, kind, rule):
    async with raw_server(reply) as server, pool_to(server.port) as pool:
        with pytest.raises(kind, match=rule) as caught:
            await get(pool, server.url)

    assert type(caught.value) is kind


async def test_every_reply_of_curls_tests_ends_as_a_body_or_an_error(shared):
    async def ended(reply):
        async with raw_server(reply) as server, pool_to(server.port) as pool, asyncio.timeout(20):
            try:
                return (await get(pool, server.url))[0] > 0
            except HttpError as error:
                return str(error) != ""

    replies = [path.read_bytes() for path in sorted((shared / "vectors" / "curl_http").glob("*.http"))]

    assert len(replies) > 100
    assert all([await ended(reply) for reply in replies])


async def test_connection_is_reused_after_a_complete_body():
    async with raw_server(OK, SECOND) as server, pool_to(server.port) as pool:
        bodies = [await get(pool, server.url), await get(pool, server.url)]

    assert bodies == [(200, b"first"), (200, b"second")]
    assert server.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
async def test_connection_is_not_reused_if_the_server_forbids_it(reply):
    async with raw_server(reply, reply) as server, pool_to(server.port) as pool:
        await get(pool, server.url)
        await get(pool, server.url)

    assert server.connections == 2


async def test_connection_of_another_origin_is_not_reused():
    async with raw_server(OK, OK) as server, pool_to(server.port) as pool:
        await get(pool, "http://a.example/")
        await get(pool, "http://b.example/")

    assert server.connections == 2


async def test_idle_connection_that_the_server_closed_is_replaced():
    async with raw_server(OK) as server, pool_to(server.port) as pool:
        assert [await get(pool, server.url) for _ in range(3)] == [(200, b"first")] * 3

    assert server.connections == 3


@pytest.fixture
def tls(monkeypatch, tmp_path):
    """Return the context of a server that is `a.example`, and that clients trust."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return context


class SplittingServer:
    """Answers the first request on each connection; on `split` it sends one more response, which nobody asked for."""

    def __init__(self, tls=None):
        self.connections = 0
        self._tls = tls
        self._split, self._is_split = threading.Event(), threading.Event()

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def split(self):
        """Return when the response is in the client's socket; the event loop, which waits here, has not read it."""
        self._split.set()
        self._is_split.wait()

    def _serve(self):
        kept = []
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                break
            kept.append(self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted)
            self.connections += 1
            self._answer(kept[-1])
        for each in kept:
            each.close()

    def _answer(self, connection):
        connection.recv(4096)
        connection.sendall(OK if self.connections == 1 else OK.replace(b"first", b"other"))
        if self.connections == 1:
            self._split.wait()
            connection.sendall(OK.replace(b"first", b"evil!"))
            self._is_split.set()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_response_that_nobody_asked_for_is_not_the_next_ones(tls, loop, is_tls):
    url = "https://a.example/" if is_tls else "http://a.example/"

    async def bodies(server):
        async with pool_to(server.port) as pool:
            first = await get(pool, url)
            server.split()
            return [first, await get(pool, url)]

    with SplittingServer(tls if is_tls else None) as server, asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(bodies(server)) == [(200, b"first"), (200, b"other")]

    assert server.connections == 2


async def test_tls_connection_is_reused_with_its_session_tickets_read(tls):
    async with raw_server(*[OK] * 50, tls=tls) as server, pool_to(server.port) as pool:
        for _ in range(50):
            await get(pool, server.url)

    assert server.connections == 1


async def test_request_is_not_repeated_once_a_byte_of_its_response_has_arrived():
    async with raw_server(OK, b"HTTP/1.1 20") as server, pool_to(server.port) as pool:
        await get(pool, server.url)
        with pytest.raises(ConnectionClosed):
            await get(pool, server.url)

    assert len(server.requests) == 2


async def test_body_that_is_not_wanted_is_read_if_it_is_small():
    async with raw_server(OK, SECOND) as server, pool_to(server.port) as pool:
        async with await pool.get(server.url, {}) as response:
            await drain(response)

        assert await get(pool, server.url) == (200, b"second")
    assert server.connections == 1


async def test_body_that_is_not_read_costs_the_connection():
    large = HEAD + b"Content-Length: 90000\r\n\r\n" + bytes(90_000)
    async with raw_server(large, OK) as server, pool_to(server.port) as pool:
        async with await pool.get(server.url, {}) as response:
            await drain(response)

        assert response.received < 90_000
        async with await pool.get(server.url, {}) as again:
            assert again.length == 90_000
    assert server.connections == 2


async def test_prefix_of_a_long_body_is_read():
    long = HEAD + b"\r\n" + bytes(100_000)
    async with raw_server(long) as server, pool_to(server.port) as pool, await pool.get(server.url, {}) as response:
        assert await read_prefix(response, 1000) == bytes(1000)


@pytest.mark.parametrize("error", [OSError("no space"), BodyTooLarge("more than 3 bytes")])
async def test_error_of_a_sink_is_raised_and_closes_the_connection(error):
    def sink(_piece):
        raise error

    large = HEAD + b"Content-Length: 90000\r\n\r\n" + bytes(90_000)
    async with raw_server(large, OK) as server, pool_to(server.port) as pool:
        with pytest.raises(type(error), match=str(error)):
            async with await pool.get(server.url, {}) as response:
                await response.read_body(sink)
        async with await pool.get(server.url, {}) as again:
            assert again.length == 90_000
    assert server.connections == 2


async def test_no_more_connections_are_open_than_allowed():
    async with raw_server(OK, seconds=0.02) as server, pool_to(server.port, 3) as pool:
        await asyncio.gather(*(get(pool, f"http://{number}.example/") for number in range(9)))

    assert (server.connections, server.peak) == (9, 3)


async def test_request_that_is_cancelled_frees_its_place():
    async with raw_server(OK, seconds=0.05) as server, pool_to(server.port, 1) as pool:
        waiting = asyncio.create_task(get(pool, server.url))
        while not server.requests:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

        assert await get(pool, server.url) == (200, b"first")


async def test_refused_address_is_never_connected_to():
    refused = r"127\.0\.0\.1 \(loopback, RFC 1122\)"
    async with raw_server(OK) as server:
        pool = ConnectionPool(connector_to(server.port, address_policy=AddressPolicy()), 1)
        with pytest.raises(AddressRefused, match=refused):
            await get(pool, server.url)

    assert server.connections == 0


async def test_proxy_gets_the_whole_url_and_its_own_credentials():
    async with raw_server(OK) as server:
        proxies = Proxies(http=f"http://me:word@127.0.0.1:{server.port}", resolves=True)
        async with ConnectionPool(Connector(LOOPBACK, no_names, proxies=proxies), 1) as pool:
            await get(pool, "http://a.example/b.png")

    [request] = server.requests
    assert request.startswith(b"GET http://a.example/b.png HTTP/1.1\r\nHost: a.example\r\n")
    assert b"Proxy-Authorization: Basic bWU6d29yZA==\r\n" in request


class FakeConnection:
    """Stands in for a connection that is idle."""

    def __init__(self, *, is_quiet=True):
        self.is_usable = True
        self._is_quiet = is_quiet

    def is_quiet(self):
        return self._is_quiet

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


async def test_connection_on_which_something_has_arrived_is_closed():
    kept, quiet, split = IdleConnections(), FakeConnection(), FakeConnection(is_quiet=False)
    kept.keep("a", quiet)
    kept.keep("a", split)

    assert kept.take("a") is quiet
    assert not split.is_usable
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
