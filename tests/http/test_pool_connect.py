import asyncio
import errno
import socket
import ssl
from contextlib import ExitStack

import pytest
import trustme
from tests.http.conftest import LOOPBACK, connector_to, no_names, raw_server

from rehost.http import pool
from rehost.http.address_policy import AddressPolicy
from rehost.http.errors import (
    AddressRefused,
    ConnectFailed,
    ConnectionClosed,
    InvalidProxy,
    NameNotFound,
    NameNotResolved,
    ProtocolError,
    TlsFailed,
    TooManyOpenFiles,
)
from rehost.http.pool import Connector, Proxies, Proxy, connect_target

PROXY = "http://proxy.example:3128"


def test_empty_environment_has_no_proxy():
    assert Proxies.from_environment({}).proxy_for("https://a.example/") is None


@pytest.mark.parametrize(
    ("environment", "plain", "tls"),
    [
        ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"HTTPS_PROXY": PROXY}, None, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example"}, None, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, None, PROXY),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, None, None),
    ],
)
def test_each_scheme_has_its_variable(environment, plain, tls):
    proxies = Proxies.from_environment(environment)

    assert proxies.proxy_for("http://a.example/") == plain
    assert proxies.proxy_for("https://a.example/") == tls


@pytest.mark.parametrize(
    "entry",
    [
        *("*", "a.example", ".example", "example", "*.example", "b.example,a.example", " a.example ", "A.EXAMPLE"),
        *("a.example:443", ".example:443"),
    ],
)
def test_host_in_no_proxy_is_reached_directly(entry):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("https://a.example/") is None


@pytest.mark.parametrize("entry", ["b.example", "xa.example", "ample", "a.example:8443", "10.0.0.0/8", ""])
def test_other_hosts_are_reached_through_the_proxy(entry):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("https://a.example/") == PROXY


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "10.1.2.3", "10.1.2.3:80", "10.1.2.3/32"])
def test_no_proxy_may_name_networks(entry):
    proxies = Proxies.from_environment({"HTTP_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("http://10.1.2.3/") is None


@pytest.mark.parametrize("entry", ["::1", "[::1]", "[::1]:80", "::/64"])
def test_no_proxy_may_name_ipv6_addresses(entry):
    proxies = Proxies.from_environment({"HTTP_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("http://[::1]/") is None


def test_proxy_of_another_protocol_is_refused():
    with pytest.raises(InvalidProxy, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": "socks5://proxy.example"})


@pytest.mark.parametrize("text", ["socks5://proxy.example", "http://", "http://proxy.example:port", "http://[::1"])
def test_invalid_proxy_is_refused_by_the_name_of_its_variable(text):
    with pytest.raises(InvalidProxy, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": text})


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example", Proxy("proxy.example", 80, is_tls=False)),
        ("https://[::1]:3129/", Proxy("::1", 3129, is_tls=True)),
        (
            "http://me:a%40b@proxy.example:3128",
            Proxy("proxy.example", 3128, is_tls=False, headers={"Proxy-Authorization": "Basic bWU6YUBi"}),
        ),
    ],
)
def test_url_of_a_proxy_has_its_address_and_credentials(url, proxy):
    assert Proxy.of(url) == proxy


@pytest.mark.parametrize(
    ("entry", "target"),
    [
        (("a.example", 443, "127.0.0.1", 8443), ("127.0.0.1", 8443)),
        (("*", 443, "127.0.0.1", 8443), ("127.0.0.1", 8443)),
        (("*", None, "127.0.0.1", None), ("127.0.0.1", 443)),
        (("a.example", None, "", 8443), ("a.example", 8443)),
        (("b.example", 443, "127.0.0.1", 8443), ("a.example", 443)),
        (("a.example", 80, "127.0.0.1", 8443), ("a.example", 443)),
    ],
)
def test_connect_to_entry_applies_where_it_matches(entry, target):
    assert connect_target([entry], "a.example", 443) == target


def test_first_matching_connect_to_entry_decides():
    entries = [("a.example", None, "127.0.0.1", None), ("*", None, "127.0.0.2", None)]

    assert connect_target(entries, "a.example", 80) == ("127.0.0.1", 80)
    assert connect_target(entries, "b.example", 80) == ("127.0.0.2", 80)


async def opened(connector, url):
    connection = await connector.connect(await connector.route(url))
    connection.abort()
    await asyncio.sleep(0)  # the event loop closes the socket in its next turn


async def test_connection_is_opened():
    async with raw_server() as server:
        await opened(connector_to(server.port), "http://a.example/")

    assert server.connections == 1


async def test_closed_port_fails():
    with pytest.raises(ConnectFailed):
        await opened(connector_to(1), "http://a.example/")


async def test_host_that_does_not_answer_fails_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as off, ExitStack() as stack:
        for _ in range(2):  # its queue of one is full: a new connection gets no answer at all
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(off.getsockname())
        with pytest.raises(ConnectFailed, match=r"no connection in 0\.1 s"):
            await opened(connector_to(off.getsockname()[1], connect_seconds=0.1), "http://a.example/")


async def test_unknown_name_fails():
    with pytest.raises(NameNotFound):
        await opened(Connector(LOOPBACK, no_names), "http://a.example/")


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://[::1]/", "http://a.example/"])
async def test_private_address_is_refused(url):
    async def private(_host):
        return ["10.0.0.1", "192.168.0.1"]

    with pytest.raises(AddressRefused):
        await opened(Connector(LOOPBACK, private), url)


async def test_only_the_permitted_one_of_several_addresses_is_tried():
    async def mixed(_host):
        return ["10.0.0.1", "127.0.0.1", "::1"]

    async with raw_server() as server:
        await opened(Connector(LOOPBACK, mixed), f"http://a.example:{server.port}/")

    assert server.connections == 1


async def test_error_without_a_text_is_named_by_its_kind(monkeypatch):
    async def fail(*_, **__):
        raise ConnectionAbortedError  # as uvloop does when a server ends a handshake

    monkeypatch.setattr(pool, "start_connection", fail)
    with pytest.raises(ConnectFailed, match="ConnectionAbortedError"):
        await opened(connector_to(1), "http://a.example/")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_shortage_of_files_is_no_fault_of_the_host(monkeypatch, number):
    async def fail(*_, **__):
        raise OSError(number, "Too many open files")

    monkeypatch.setattr(pool, "start_connection", fail)
    with pytest.raises(TooManyOpenFiles):
        await opened(connector_to(1), "http://a.example/")


@pytest.mark.parametrize(("name", "is_trusted"), [("a.example", True), ("b.example", True), ("a.example", False)])
async def test_certificate_must_be_trusted_and_name_the_host(monkeypatch, tmp_path, name, is_trusted):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async with raw_server(tls=context) as server:
        if (name, is_trusted) == ("a.example", True):
            await opened(connector_to(server.port), "https://a.example/")
            return
        with pytest.raises(TlsFailed, match="certificate verify failed"):
            await opened(connector_to(server.port), "https://a.example/")


def old_server(monkeypatch, tmp_path, ciphers):
    """Return the context of a server that offers these ciphers only, by a trusted certificate."""
    authority, context = trustme.CA(key_type=trustme.KeyType.RSA), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example", key_type=trustme.KeyType.RSA).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA"])
async def test_old_server_is_reached_as_browsers_reach_it(monkeypatch, tmp_path, caplog, ciphers):
    context = old_server(monkeypatch, tmp_path, ciphers)

    async with raw_server(tls=context) as server:
        connector = connector_to(server.port)
        with caplog.at_level("INFO", "rehost.http.pool"):
            await opened(connector, "https://a.example/")
        await opened(connector, "https://a.example/")

    assert "a.example" in connector._old_servers
    assert f"old-tls host=a.example cipher={ciphers}" in caplog.text


@pytest.mark.parametrize("ciphers", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"])
async def test_other_servers_get_the_strict_offer_only(monkeypatch, tmp_path, ciphers):
    context = old_server(monkeypatch, tmp_path, ciphers)

    async with raw_server(tls=context) as server:
        connector = connector_to(server.port)
        await opened(connector, "https://a.example/")

    assert not connector._old_servers


@pytest.mark.parametrize("ciphers", ["CAMELLIA128-SHA", "AES128-SHA256", "DHE-RSA-AES128-SHA"])
async def test_what_no_browser_offers_fails_and_is_not_remembered(monkeypatch, tmp_path, ciphers):
    context = old_server(monkeypatch, tmp_path, ciphers)

    async with raw_server(tls=context) as server:
        connector = connector_to(server.port)
        with pytest.raises((TlsFailed, ConnectFailed), match="with the ciphers that browsers still offer"):
            await opened(connector, "https://a.example/")

    assert not connector._old_servers


async def test_certificate_of_an_old_server_is_checked_as_ever(monkeypatch, tmp_path):
    context = old_server(monkeypatch, tmp_path, "AES128-SHA")
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    async with raw_server(tls=context) as server:
        connector = connector_to(server.port)
        with pytest.raises(TlsFailed, match="certificate verify failed"):
            await opened(connector, "https://a.example/")

    assert not connector._old_servers


def test_old_tls_is_at_least_1_2():
    context = connector_to(1)._old_tls

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_missing_intermediate_certificate_is_named(monkeypatch, tmp_path):
    root, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = root.create_child_ca().issue_cert("a.example")
    with leaf.private_key_pem.tempfile() as key, leaf.cert_chain_pems[0].tempfile() as chain:
        context.load_cert_chain(chain, key)  # without the intermediate
    root.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async with raw_server(tls=context) as server:
        with pytest.raises(TlsFailed, match="sends no intermediate certificate"):
            await opened(connector_to(server.port), "https://a.example/")

    assert server.connections == 0  # no second handshake: another cipher would not help


def without_secure_renegotiation(flight):
    """Return the records of a server with the extension of RFC 5746 taken out of its ServerHello (RFC 5246)."""
    size = 5 + int.from_bytes(flight[3:5], "big")
    record, rest = flight[5:size], flight[size:]
    start = 4 + 2 + 32 + 1 + record[38] + 2 + 1 + 2  # type and length, version, random, session, cipher, compression
    extensions, at, kept = record[start:], 0, b""
    while at < len(extensions):
        end = at + 4 + int.from_bytes(extensions[at + 2 : at + 4], "big")
        if extensions[at : at + 2] != b"\xff\x01":
            kept += extensions[at:end]
        at = end
    hello = record[4 : start - 2] + len(kept).to_bytes(2, "big") + kept
    message = b"\x02" + len(hello).to_bytes(3, "big") + hello
    return flight[:3] + len(message).to_bytes(2, "big") + message + rest


@pytest.mark.parametrize("is_old", [False, True])
def test_server_without_secure_renegotiation_is_reached_with_the_old_offer_only(monkeypatch, tmp_path, is_old):
    server_context = old_server(monkeypatch, tmp_path, "ECDHE-RSA-AES128-GCM-SHA256")
    connector = connector_to(1)
    context = connector._old_tls if is_old else connector._tls
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname="a.example")
    answers = ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, answers, server_side=True)
    for side in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            side.do_handshake()
    to_client.write(without_secure_renegotiation(answers.read()))

    with pytest.raises(ssl.SSLWantReadError if is_old else ssl.SSLError) as caught:
        client.do_handshake()

    assert is_old or "UNSAFE_LEGACY_RENEGOTIATION_DISABLED" in str(caught.value)


async def test_server_without_tls_fails():
    async with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        with pytest.raises((TlsFailed, ConnectFailed)):
            await opened(connector_to(server.port, connect_seconds=0.3), "https://a.example/")


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", ConnectFailed, "the proxy answered with status 407"),
        (b"", ConnectionClosed, "closed without an answer"),
        (b"nonsense\r\n\r\n", ProtocolError, "HTTP"),
    ],
)
async def test_proxy_that_opens_no_tunnel_fails(reply, kind, text):
    async with raw_server(reply) as server:
        proxies = Proxies(https=f"http://127.0.0.1:{server.port}", resolves=True)
        with pytest.raises(kind, match=text):
            await opened(Connector(LOOPBACK, no_names, proxies=proxies), "https://a.example/")

    assert server.requests[0].startswith(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n")


@pytest.mark.parametrize(
    ("addresses", "asked"),
    [
        (["8.8.8.8", "8.8.4.4"], ["8.8.8.8:443"]),
        (["8.8.8.8", "8.8.4.4", "2606:4700::1"], ["8.8.8.8:443", "[2606:4700::1]:443"]),
        (["2606:4700::1", "2606:4700::2", "8.8.8.8"], ["[2606:4700::1]:443", "8.8.8.8:443"]),
    ],
)
async def test_proxy_is_asked_for_one_address_of_each_family(addresses, asked):
    async def known(host):
        return await no_names(host) if host == "ipv4only.arpa" else addresses

    async with raw_server(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") as server:
        proxies = Proxies(https=f"http://127.0.0.1:{server.port}")
        with pytest.raises(ConnectFailed, match="status 503"):
            await opened(Connector(LOOPBACK, known, proxies=proxies), "https://a.example/")

    assert [request.split()[1].decode() for request in server.requests] == asked
    assert [request.split()[4].decode() for request in server.requests] == asked


@pytest.mark.parametrize("url", ["http://a.example/", "https://a.example/"])
async def test_name_that_is_not_known_here_is_not_left_to_a_proxy(url):
    async with raw_server() as server:
        proxy = f"http://127.0.0.1:{server.port}"
        with pytest.raises(NameNotFound, match="a proxy is asked only for names that are known here"):
            await opened(Connector(LOOPBACK, no_names, proxies=Proxies(proxy, proxy)), url)

    assert server.connections == 0


async def tried(monkeypatch, addresses):
    """Return the addresses that a connector tries of a name that has all these."""
    found = []

    async def refuse(infos, **_):
        found.extend(sockaddr[0] for *_, sockaddr in infos)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    async def many(host):
        return await no_names(host) if host == "ipv4only.arpa" else addresses

    monkeypatch.setattr(pool, "start_connection", refuse)
    with pytest.raises(ConnectFailed):
        await opened(Connector(LOOPBACK, many), "http://a.example/")
    return found


async def test_at_most_eight_addresses_of_a_name_are_tried(monkeypatch):
    ipv4 = [f"8.8.{number // 250}.{number % 250 + 1}" for number in range(3000)]
    ipv6 = [f"2606:4700::{number:x}" for number in range(1, 3001)]

    assert await tried(monkeypatch, ["10.0.0.1", *ipv4]) == ipv4[:4]
    assert await tried(monkeypatch, [*ipv6, "fd00::1", *ipv4]) == ipv6[:4] + ipv4[:4]


async def test_evidence_of_many_refused_addresses_is_short():
    async def many(_host):
        return [f"10.0.{number // 250}.{number % 250}" for number in range(3000)]

    with pytest.raises(AddressRefused) as caught:
        await opened(Connector(LOOPBACK, many), "http://a.example/")

    assert str(caught.value).startswith("10.0.0.0 (private use, RFC 1918), 10.0.0.1")
    assert len(str(caught.value)) <= 500


class Nat64Network:
    """A resolver in a network whose NAT64 has a prefix of its own; counts lookups of `ipv4only.arpa`."""

    def __init__(self, addresses):
        self.lookups = 0
        self._addresses = addresses
        self.fails_first = False

    async def __call__(self, host):
        if host != "ipv4only.arpa":
            return self._addresses
        self.lookups += 1
        if self.fails_first and self.lookups == 1:
            raise NameNotResolved("no answer")
        return ["192.0.0.170", "2a00:64:64::192.0.0.170", "2a00:64:64::192.0.0.171"]


async def connects(connector):
    """Return whether the policy lets the connector try an address; there is no route to any of them."""
    try:
        await opened(connector, "http://a.example/")
    except ConnectFailed:
        return True
    except AddressRefused:
        return False


@pytest.fixture
def nowhere(monkeypatch):
    async def refuse(*_, **__):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(pool, "start_connection", refuse)


@pytest.mark.parametrize(
    ("address", "is_tried"),
    [
        *(("2a00:64:64::169.254.169.254", False), ("2a00:64:64::10.0.0.1", False), ("2a00:64:64::8.8.8.8", True)),
        ("2a00:64:65::10.0.0.1", True),
    ],
)
@pytest.mark.usefixtures("nowhere")
async def test_address_behind_the_networks_nat64_is_judged_as_its_ipv4_address(address, is_tried):
    network = Nat64Network([address])
    connector = Connector(AddressPolicy(), network)

    assert [await connects(connector) for _ in range(3)] == [is_tried] * 3
    assert network.lookups == 1


@pytest.mark.usefixtures("nowhere")
async def test_prefix_is_looked_up_again_if_there_was_no_answer():
    network = Nat64Network(["2a00:64:64::10.0.0.1"])
    network.fails_first = True
    connector = Connector(AddressPolicy(), network)

    assert [await connects(connector) for _ in range(2)] == [True, False]


@pytest.mark.usefixtures("nowhere")
async def test_no_prefix_is_looked_up_for_ipv4_addresses():
    network = Nat64Network(["8.8.8.8"])

    assert await connects(Connector(AddressPolicy(), network))
    assert network.lookups == 0


@pytest.mark.parametrize(
    ("url", "authority", "host_field"),
    [
        ("http://a.example/", "a.example:80", "a.example"),
        ("https://a.example:8443/", "a.example:8443", "a.example:8443"),
        ("http://a.example.:443/", "a.example:443", "a.example:443"),
        ("https://[2606:4700::1]/", "[2606:4700::1]:443", "[2606:4700::1]"),
    ],
)
async def test_route_has_the_fields_of_requests(url, authority, host_field):
    route = await Connector(LOOPBACK, no_names).route(url)

    assert (route.authority, route.host_field) == (authority, host_field)
