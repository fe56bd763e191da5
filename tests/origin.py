"""An origin of the open web, on a real socket of this machine, that misbehaves on request.

One port speaks HTTP and TLS (the first byte decides), for any host name (SNI, certificates by a CA of its own). It runs
in a thread of its own, so the same object serves tests in this process and programs in another:

    with Origin() as origin:                                # `async with` works too
        origin.url("picture")                               # http://127.0.0.1:port/picture/1.jpg
        origin.url("cut-in-transit", host="pics.example")   # http://pics.example/cut-in-transit/1.jpg
        origin.picture(url)                                 # the bytes that it serves under this URL when it is honest
        origin.environment()                                # SSL_CERT_FILE, IMAGE_CONNECT_TO, IMAGE_ALLOW_NETWORKS
        origin.count("/picture/1.jpg"), origin.peak("pics.example"), origin.requests[-1].headers["referer"]

The first segment of a path names the behaviour (tests/misbehaviours.py lists them); any other path
serves a picture well, in the format of its ending; `?width=800&height=600` makes a larger one. To play
hosts with unchanged links, pass a function of host, path (with its query) and headers (names in lower case):

    def play(host, path, headers):
        if host == "oss.adquan.com":
            return "demands-own-site"       # the name of a behaviour
        if path == "/logo.png":
            return logo                     # bytes: a picture to be served well
        return None                         # what the path says

    with Origin(play) as origin: ...        # https://oss.adquan.com/a/b.png through origin.connect_to, origin.ca_file
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import tempfile
import threading
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme

from rehost.model import Format
from tests.misbehaviours import BEHAVIOURS
from tests.pictures import picture

Play = Callable[[str, str, Mapping[str, str]], "Behaviour | str | bytes | None"]
"""Host, path with query, headers -> what to do: a behaviour, its name, a picture's bytes, or None (the path says)."""

FORMATS = {
    "jpg": Format.JPEG,
    "jpeg": Format.JPEG,
    "jpe": Format.JPEG,
    "png": Format.PNG,
    "gif": Format.GIF,
    "webp": Format.WEBP,
    "bmp": Format.BMP,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived."""

    method: str
    target: str  # path and query
    host: str  # without a port, in lower case
    headers: Mapping[str, str]  # names in lower case
    tls: bool
    connection: int  # counts connections, from 1
    number: int  # how often this host and target was asked, this time included
    raw: bytes

    @property
    def path(self):
        return self.target.partition("?")[0]


class Exchange:
    """One request, and the methods by which a behaviour answers it."""

    def __init__(self, origin, asked, writer, body):
        self.origin = origin
        self.asked = asked
        self.writer = writer
        self.body = body  # the whole picture that belongs to this URL
        self.keep_alive = True

    @property
    def etag(self):
        return f'"{zlib.crc32(self.body):08x}"'

    @property
    def base(self):
        """Scheme and authority of the request."""
        return f"{'https' if self.asked.tls else 'http'}://{self.asked.headers.get('host', 'localhost')}"

    async def send(self, *chunks):
        """Write raw bytes and wait until the client has taken most of them."""
        self.writer.write(b"".join(chunks))
        await self.writer.drain()

    async def head(self, status=200, *fields):
        """Write a status line and header fields ("Name: value"), and nothing else."""
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Odd"
        lines = [f"HTTP/1.1 {status} {phrase}", *fields, "", ""]
        await self.send("\r\n".join(lines).encode("utf-8", "surrogateescape"))

    async def reply(self, status=200, body=b"", *fields):
        """Write a complete, well-framed response."""
        await self.head(status, *fields, f"Content-Length: {len(body)}")
        await self.send(body)

    def close(self):
        """Close the connection once the behaviour has returned."""
        self.keep_alive = False

    def reset(self):
        """Break off the connection with RST."""
        self.close()
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self):
        """Send nothing more; return when the client has closed the connection."""
        self.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed_by_peer()


Behaviour = Callable[[Exchange], Awaitable[None]]


class Origin:
    """The origin; see the module. Everything public may be read from any thread."""

    def __init__(self, play=None, *, address="127.0.0.1", port=0):
        self.address = address
        self.port = port
        self.requests: list[Asked] = []
        self.connections = 0
        self._play = play or (lambda _host, _path, _headers: None)
        self._counts = Counter()
        self._flying = Counter()
        self._peaks = Counter()
        self._pages = {}
        self._closing = contextlib.ExitStack()

    # what tests use

    def url(self, behaviour="picture", name="1.jpg", *, host=None, scheme="http", query=""):
        """Return a URL of this origin; with a host, one that needs `connect_to` to get here."""
        authority = host or f"{self.address}:{self.port}"
        return f"{scheme}://{authority}/{behaviour}/{name}" + (f"?{query}" if query else "")

    @staticmethod
    def picture(url):
        """Return the bytes that this URL stands for."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        width, height = (int(query.get(name, [usual])[0]) for name, usual in (("width", 96), ("height", 72)))
        ending = parts.path.rpartition(".")[2].lower()
        seed = zlib.crc32(f"{parts.hostname}{parts.path}".encode())
        return picture(seed, FORMATS.get(ending, Format.JPEG), width, height)

    @property
    def connect_to(self):
        """The value of IMAGE_CONNECT_TO that connects every host name to this origin."""
        return f"*::{self.address}:{self.port}"

    def environment(self):
        """Return the settings with which a program in another process reaches this origin under any name."""
        return {
            "IMAGE_CONNECT_TO": self.connect_to,
            "IMAGE_ALLOW_NETWORKS": "127.0.0.0/8",
            "SSL_CERT_FILE": str(self.ca_file),
        }

    def count(self, path=None, *, host=None):
        """Return the number of requests: for a path (with its query), to a host, or of all."""
        asked = list(self.requests)
        return sum(path in (None, one.target, one.path) and host in (None, one.host) for one in asked)

    def peak(self, host=None):
        """Return the largest number of requests in flight at once, to a host or in all."""
        return self._peaks[host]

    # starting and stopping

    def __enter__(self):
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="origin-")))
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)
        self._tls = _server_context()
        self._tls.sni_callback = self._choose_certificate
        self._contexts = {}
        listener = self._closing.enter_context(_listen(self.address, self.port))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        thread = threading.Thread(target=self._run, args=(listener,), name="origin", daemon=True)
        thread.start()
        self._closing.callback(thread.join, 10)
        self._closing.callback(self._loop.call_soon_threadsafe, self._stop.set)
        return self

    def __exit__(self, *exc):
        self._closing.close()

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, *exc):
        await asyncio.to_thread(self._closing.close)

    def _run(self, listener):
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener):
        # clients that break off a TLS handshake are expected here; the loop would report each of them
        self._loop.set_exception_handler(lambda _loop, _context: None)
        tasks = set()
        accepting = asyncio.create_task(self._accept(listener, tasks))
        await self._stop.wait()
        for task in (accepting, *tasks):
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)

    async def _accept(self, listener, tasks):
        while True:
            sock, _ = await self._loop.sock_accept(listener)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            task = asyncio.create_task(self._converse(sock, self.connections))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _converse(self, sock, number):
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError, OSError):
            tls = await self._speaks_tls(sock)
            if tls is None:
                sock.close()
                return
            reader = asyncio.StreamReader(limit=1 << 18)
            protocol = asyncio.StreamReaderProtocol(reader)
            context = self._tls if tls else None
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, sock, ssl=context)
            writer = _Writer(transport, protocol, reader, self._loop)
            try:
                while await self._answer_one(reader, writer, number, tls):
                    pass
            finally:
                writer.close()

    async def _speaks_tls(self, sock):
        """Return whether the client's first byte begins a TLS record; None if it sends nothing at all."""
        readable = self._loop.create_future()
        self._loop.add_reader(sock, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            self._loop.remove_reader(sock)
        first = sock.recv(1, socket.MSG_PEEK)
        return first == b"\x16" if first else None

    async def _answer_one(self, reader, writer, connection, tls):
        raw = await reader.readuntil(b"\r\n\r\n")
        asked = self._read(raw, connection, tls)
        self.requests.append(asked)
        behaviour, body = self._choose(asked)
        exchange = Exchange(self, asked, writer, body)
        for key in (None, asked.host):
            self._flying[key] += 1
            self._peaks[key] = max(self._peaks[key], self._flying[key])
        try:
            await behaviour(exchange)
        finally:
            for key in (None, asked.host):
                self._flying[key] -= 1
        return exchange.keep_alive

    def _read(self, raw, connection, tls):
        first, *fields = raw.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields if f)}
        if target.startswith(("http://", "https://")):  # asked as a proxy: RFC 9112, section 3.2.2
            target = target[target.find("/", target.find("://") + 3) :]
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        self._counts[host, target] += 1
        return Asked(method, target, host, headers, tls, connection, self._counts[host, target], raw)

    def _choose(self, asked):
        body = b""
        chosen = self._play(asked.host, asked.target, asked.headers)
        if chosen is None:
            chosen = asked.path.split("/")[1]
            chosen = chosen if chosen in BEHAVIOURS else "picture"
        if isinstance(chosen, bytes):
            body, chosen = chosen, "picture"
        behaviour = BEHAVIOURS[chosen] if isinstance(chosen, str) else chosen
        return behaviour, body or self._painted(asked)

    def _painted(self, asked):
        url = f"http://{asked.host}{asked.target}"
        if url not in self._pages:
            if len(self._pages) > 1000:
                self._pages.clear()
            self._pages[url] = self.picture(url)
        return self._pages[url]

    def _choose_certificate(self, sslobject, name, _context):
        """Give each host its certificate; `*.bad-tls.example` get bad ones."""
        name = name or self.address
        if name not in self._contexts:
            self._contexts[name] = context = _server_context()
            self._certificate(name).configure_cert(context)
        sslobject.context = self._contexts[name]

    def _certificate(self, name):
        if name == "other-name.bad-tls.example":
            return self._ca.issue_cert("another.example")
        if name == "unknown-ca.bad-tls.example":
            return trustme.CA().issue_cert(name)
        try:
            return self._ca.issue_cert(name)
        except ValueError:  # strict IDNA allows neither underscores nor most symbols, the web does
            return self._ca.issue_cert(f"*.{name.partition('.')[2] or 'example'}")


def _listen(address, port):
    if address == "::":
        return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    return socket.create_server((address, port), backlog=1024)


def _server_context():
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class _Writer(asyncio.StreamWriter):
    """A writer that can also wait until the client closes the connection."""

    def __init__(self, transport, protocol, reader, loop):
        super().__init__(transport, protocol, reader, loop)
        self._source = reader

    async def wait_closed_by_peer(self):
        while await self._source.read(65536):
            pass
