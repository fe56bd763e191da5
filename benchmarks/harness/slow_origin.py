"""A slow origin, a separate program: 50 to 500 ms for each answer, and only with its own Referer.

`/whole/7.jpg` is picture 7 of its folder, `/busy/7.jpg` a 503, `/hanging/7.jpg` never answered. Bodies are in memory
and answers need no computing, so that a run never waits for the origin's own work.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import uvloop

LEAST, MOST = 0.05, 0.5  # seconds
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def delay(number: int) -> float:
    """Return the seconds until the answer for picture `number`."""
    return random.Random(number).uniform(LEAST, MOST)


class Connection(asyncio.Protocol):
    """A connection, with one request at a time."""

    def __init__(self, answers: dict[int, bytes]) -> None:
        self._answers = answers
        self._transport: asyncio.Transport | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the transport for the answers."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Read a request; answer it after its delay."""
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        lines = self._head.decode("latin-1").split("\r\n")
        self._head = b""
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        _, kind, name = lines[0].split()[1].split("/")
        number = int(name.split(".")[0])
        if f"://{fields['host']}/" not in fields.get("referer", ""):
            self._send(REFUSED)
        elif kind != "hanging":
            answer = BUSY if kind == "busy" else self._answers.get(number, GONE)
            asyncio.get_running_loop().call_later(delay(number), self._send, answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def answer(path: Path) -> bytes:
    """Return a complete response with a picture."""
    body = path.read_bytes()
    kind = path.suffix[1:].replace("jpg", "jpeg")
    return f"HTTP/1.1 200 OK\r\nContent-Type: image/{kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def serve(answers: dict[int, bytes], port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Connection(answers), "127.0.0.1", port, backlog=1024) as server:
        await server.serve_forever()


def main(folder: str, port: str) -> None:
    """Read the pictures into memory, then serve."""
    answers = {int(path.stem): answer(path) for path in Path(folder).rglob("*.*")}
    uvloop.run(serve(answers, int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
