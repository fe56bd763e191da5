"""Names are resolved and checked here unless they are left to the proxy; nothing but the proxy is connected to."""

import asyncio
import contextlib
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme
import uvloop
from tests.fetch.conftest import fetcher_to, no_names

from rehost.errors import Permanent, Transient
from rehost.http.address_policy import AddressPolicy
from rehost.http.pool import Proxies
from rehost.model import Reason, Request

PUBLIC = ["93.184.216.34"]


class Proxy:
    """A forwarding proxy (RFC 9112, section 3.2.2; RFC 9110, section 9.3.6) that connects every host to one origin."""

    def __init__(self, origin, status="200 OK", tls=None, established="HTTP/1.1 200 Connection established"):
        self.asked = []  # request lines and the credentials with them
        self._established = established
        self._tls = tls
        self._origin = origin
        self._status = status

    @asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0, ssl=self._tls)
        async with server:
            scheme = "https" if self._tls else "http"
            self.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _converse(self, reader, writer):
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(head.decode())
            if not self._status.startswith("200"):
                writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
                return
            far_reader, far_writer = await asyncio.open_connection(self._origin.address, self._origin.port)
            with contextlib.closing(far_writer):
                if head.startswith(b"CONNECT "):
                    writer.write(f"{self._established}\r\n\r\n".encode())
                else:
                    far_writer.write(head)
                await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))


async def _pipe(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.fixture
async def proxy(origin):
    async with Proxy(origin).serving() as serving:
        yield serving


@pytest.fixture
def through(origin, spool, monkeypatch):
    """Fetch a URL through a proxy, with no private network allowed."""
    monkeypatch.setenv("SSL_CERT_FILE", str(origin.ca_file))

    async def once(proxies, url, *, addresses=PUBLIC, **settings):
        async def lookup(host):
            return addresses or await no_names(host)

        usual = {"address_policy": AddressPolicy(), "connect_to": [], "proxies": proxies, "resolver": lookup}
        async with fetcher_to(origin, **(usual | settings)) as opened:
            return await opened.fetch(Request(url, spool))

    return once


async def refused(fetching):
    with pytest.raises((Permanent, Transient)) as caught:
        await fetching
    return caught.value.reason


async def test_http_url_is_requested_from_the_proxy(origin, spool, proxy, through):
    await through(Proxies(http=proxy.url), "http://a.example/picture/1.jpg")

    assert proxy.asked[0].startswith("GET http://a.example/picture/1.jpg HTTP/1.1\r\n")
    assert spool.read_bytes() == origin.picture("http://a.example/picture/1.jpg")


async def test_https_url_goes_through_a_tunnel(origin, spool, proxy, through):
    await through(Proxies(https=proxy.url), "https://a.example/picture/1.jpg")

    assert proxy.asked[0].startswith("CONNECT 93.184.216.34:443 HTTP/1.1\r\nHost: 93.184.216.34:443\r\n")
    assert "picture" not in proxy.asked[0]
    assert origin.requests[0].tls
    assert spool.read_bytes() == origin.picture("https://a.example/picture/1.jpg")


@pytest.mark.parametrize(
    "established",
    [
        "HTTP/1.0 200 Connection established",
        "HTTP/1.0 200 OK\r\nContent-Length: 0",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0",
        "HTTP/1.1 200 OK\r\nContent-Length: 99",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
    ],
)
async def test_tunnel_begins_after_the_head_whatever_its_framing_fields(origin, spool, through, established):
    async with Proxy(origin, established=established).serving() as proxy:
        await through(Proxies(https=proxy.url), "https://a.example/picture/1.jpg")

    assert spool.read_bytes() == origin.picture("https://a.example/picture/1.jpg")


async def test_credentials_of_the_proxy_are_sent_to_the_proxy_only(origin, proxy, through):
    await through(Proxies(https=proxy.url.replace("//", "//user:word@")), "https://a.example/picture/1.jpg")

    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk" in proxy.asked[0]
    assert "proxy-authorization" not in origin.requests[0].headers


@pytest.mark.parametrize("url", ["http://10.0.0.1/1.jpg", "http://[::1]/1.jpg", "http://169.254.169.254/latest"])
async def test_private_literal_address_is_not_requested(proxy, through, url):
    assert await refused(through(Proxies(http=proxy.url), url)) is Reason.ADDRESS_REFUSED
    assert proxy.asked == []


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"]])
async def test_name_with_a_known_private_address_is_not_requested(proxy, through, addresses):
    reason = await refused(through(Proxies(http=proxy.url), "http://a.example/1.jpg", addresses=addresses))

    assert reason is Reason.ADDRESS_REFUSED
    assert proxy.asked == []


@pytest.mark.parametrize("url", ["http://a.example/picture/1.jpg", "https://a.example/picture/1.jpg"])
async def test_name_that_is_not_known_here_is_not_requested(proxy, through, url):
    assert await refused(through(Proxies(proxy.url, proxy.url), url, addresses=[])) is Reason.UNRESOLVED
    assert proxy.asked == []


@pytest.mark.parametrize("addresses", [[], PUBLIC])
async def test_names_may_be_left_to_the_proxy(proxy, through, addresses):
    proxies = Proxies(proxy.url, proxy.url, resolves=True)
    await through(proxies, "https://a.example/picture/1.jpg", addresses=addresses)
    await through(proxies, "http://a.example/picture/1.jpg", addresses=addresses)

    assert [head.partition(" HTTP")[0] for head in proxy.asked] == [
        "CONNECT a.example:443",
        "GET http://a.example/picture/1.jpg",
    ]


@pytest.mark.parametrize("resolves", [False, True])
async def test_name_that_is_known_to_be_inside_is_never_left_to_the_proxy(proxy, through, resolves):
    proxies = Proxies(https=proxy.url, resolves=resolves)

    assert await refused(through(proxies, "https://a.example/1.jpg", addresses=["10.0.0.1"])) is Reason.ADDRESS_REFUSED
    assert proxy.asked == []


async def test_name_that_turns_to_an_inner_address_leads_to_the_checked_one(origin, proxy, through):
    answers = iter([PUBLIC, ["127.0.0.1"], ["127.0.0.1"]])

    async def rebinding(_host):
        return next(answers)

    await through(Proxies(https=proxy.url), "https://a.example/picture/1.jpg", resolver=rebinding)

    assert [head.split()[1] for head in proxy.asked] == ["93.184.216.34:443"]


async def test_every_hop_is_checked(proxy, through):
    assert await refused(through(Proxies(http=proxy.url), "http://a.example/redirect-private/1.jpg")) is (
        Reason.ADDRESS_REFUSED
    )
    assert len(proxy.asked) == 1


async def test_host_in_no_proxy_is_checked_as_without_a_proxy(origin, proxy, through):
    proxies = Proxies(http=proxy.url, without=("a.example",))

    assert await refused(through(proxies, "http://a.example/1.jpg", addresses=["127.0.0.1"])) is Reason.ADDRESS_REFUSED
    assert proxy.asked == []
    assert origin.connections == 0


async def test_connect_to_is_used_without_the_proxy(origin, spool, monkeypatch, proxy):
    async with fetcher_to(origin, proxies=Proxies(http=proxy.url)) as opened:
        await opened.fetch(Request("http://a.example/picture/1.jpg", spool))

    assert proxy.asked == []
    assert origin.count() == 1


async def test_refusal_of_the_proxy_is_unreachable(origin, through):
    async with Proxy(origin, "407 Proxy Authentication Required").serving() as proxy:
        reason = await refused(through(Proxies(https=proxy.url), "https://a.example/1.jpg"))

    assert reason is Reason.UNREACHABLE
    assert origin.connections == 0


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("url", ["http://a.example/picture/1.jpg", "https://a.example/picture/1.jpg"])
def test_https_proxy_is_connected_over_tls(origin, spool, tmp_path, monkeypatch, url, loop):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "both.pem"
    trusted.write_bytes(authority.cert_pem.bytes() + origin.ca_file.read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    async def fetched():
        async with Proxy(origin, tls=context).serving() as proxy:
            proxies = Proxies(http=proxy.url, https=proxy.url, resolves=True)
            async with fetcher_to(origin, address_policy=AddressPolicy(), connect_to=[], proxies=proxies) as opened:
                await opened.fetch(Request(url, spool))
            return proxy.asked[0].partition(" ")[0]

    with asyncio.Runner(loop_factory=loop) as runner:
        method = runner.run(fetched())

    assert method == ("CONNECT" if url.startswith("https") else "GET")
    assert spool.read_bytes() == origin.picture(url)


async def test_absent_proxy_is_unreachable(origin, through):
    assert await refused(through(Proxies(http="http://127.0.0.1:1"), "http://a.example/1.jpg")) is Reason.UNREACHABLE
    assert origin.connections == 0
