"""Raw loopback sockets: a server that sends exactly the bytes that a test gives it."""

import asyncio
from contextlib import asynccontextmanager, closing, suppress
from ipaddress import ip_network

from rehost.http.address_policy import AddressPolicy
from rehost.http.body import read_decoded
from rehost.http.errors import NameNotFound
from rehost.http.pool import ConnectionPool, Connector

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


class RawServer:
    """Answers each request on a connection with the next of its replies, then closes the connection.

    Attributes:
        requests: the heads that arrived.
        connections: the number of connections so far.
        peak: the largest number of requests that waited for a reply at the same time.
    """

    def __init__(self, replies, piece_bytes, seconds):
        self.requests = []
        self.connections = self.waiting = self.peak = 0
        self.tasks = set()
        self._replies = replies
        self._piece_bytes = piece_bytes
        self._seconds = seconds

    async def converse(self, reader, writer):
        self.connections += 1
        self.tasks.add(task := asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError), closing(writer):
            for reply in self._replies:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                self.waiting += 1
                self.peak = max(self.peak, self.waiting)
                await asyncio.sleep(self._seconds)
                self.waiting -= 1
                for start in range(0, len(reply), self._piece_bytes):
                    writer.write(reply[start : start + self._piece_bytes])
                    await writer.drain()
                    await asyncio.sleep(0)
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.tasks.discard(task)


@asynccontextmanager
async def raw_server(*replies, piece_bytes=1 << 16, seconds=0, tls=None):
    """Serve these replies, one after the other, on every connection; each after `seconds`."""
    raw = RawServer(replies, piece_bytes, seconds)
    server = await asyncio.start_server(raw.converse, "127.0.0.1", 0, ssl=tls)
    async with server:
        raw.port = server.sockets[0].getsockname()[1]
        raw.url = f"{'https' if tls else 'http'}://a.example:{raw.port}/1.png"
        yield raw
        for task in list(raw.tasks):
            task.cancel()
        await asyncio.gather(*raw.tasks, return_exceptions=True)


async def no_names(host):
    """Stand in for a resolver that knows no name, so that nothing leaves this machine."""
    raise NameNotFound(host)


def connector_to(port, *, address_policy=LOOPBACK, resolver=no_names, **more):
    """Return a connector that connects to a port of this machine for every host name."""
    return Connector(address_policy, resolver, [("*", None, "127.0.0.1", port)], **more)


def pool_to(port, concurrency=4, **more):
    """Return a pool whose connections end at a port of this machine for every host name."""
    return ConnectionPool(connector_to(port), concurrency, **more)


async def get(pool, url, headers=None):
    """Return status and decoded body of one GET."""
    body = bytearray()
    async with await pool.get(url, headers or {}) as response:
        await read_decoded(response, body.extend)
    return response.status, bytes(body)
