"""A client's side of HTTP/1.1, byte by byte: it sends paths and headers unchanged."""

import asyncio
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reply:
    status: int
    phrase: str
    fields: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)

    def __getitem__(self, name):
        """Return the one value of a header, None if there is none."""
        values = [value for each, value in self.fields if each == name]
        assert len(values) < 2, f"{name} comes {len(values)} times"
        return values[0] if values else None


async def ask(port, target, method="GET", **headers):
    """Send one request on a connection of its own; return the whole answer. `if_range` is sent as If-Range."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(target, method, **headers))
        return await receive(reader, method)
    finally:
        writer.close()
        await writer.wait_closed()


def request(target, method="GET", host="localhost", **headers):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def receive(reader, method="GET"):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    top, *lines = head.strip().split("\r\n")
    _, status, phrase = f"{top} ".split(" ", 2)
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    body = await asyncio.wait_for(reader.read(), 30)
    if ("transfer-encoding", "chunked") in fields:
        body = _joined(body)
    if method != "HEAD" and (length := dict(fields).get("content-length")) is not None:
        assert len(body) == int(length)
    return Reply(int(status), phrase.strip(), fields, body)


def _joined(chunked):
    joined = b""
    while True:
        size, _, rest = chunked.partition(b"\r\n")
        if int(size, 16) == 0:
            return joined
        joined, chunked = joined + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
