"""Replies from curl's own tests: what is short, long, broken or coded in an unknown way is no success.

Each reply is served as it is (nothing of it may be stored), then with a real image in place of its body and the
framing changed to fit: then rehost and curl have to agree, apart from the exceptions below.
"""

import csv
import re
import sys
import zlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import brotli
from tests.fetch.conftest import fetcher_to
from tests.origin import Origin
from tests.pictures import picture

from rehost.errors import VisitError
from rehost.images.formats import ImageLimits, examine
from rehost.model import Download, Format, Reason, Request

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PICTURE = picture(1, Format.PNG)

WE_ARE_STRICTER = {
    "1123": "a transfer coding, asked for by --tr-encoding; we ask for none",
    "1125": "a transfer coding, asked for by --tr-encoding; we ask for none",
    "1171": "a transfer coding, asked for by --tr-encoding; we ask for none",
    "1267": "HTTP/0.9, allowed by --http0.9",
    "66": "HTTP/0.9, allowed by --http0.9",
    "3035": "cut short; curl goes on because of --retry-all-errors --continue-at, so do we with a validator",
    "395": "a Content-Length beyond 64 bits, which curl takes for none",
}

WE_ARE_LAXER = {
    "1042": "the fault is in --continue-at beyond the end; the reply is whole",
    "1425": "the fault is a terminal as output",
    "1460": "the fault is a file that is there already",
    "1479": "the fault is in the second reply on the connection, which a closed one does not get",
    "1722": "chunked, and a name that is no coding, which leaves one reading; browsers read it",
    "178": "a negative Content-Length is none, as for browsers: the body ends with the connection",
    "415": "a negative Content-Length is none, as for browsers: the body ends with the connection",
    "1683": "the fault is a file that is there already",
    "2106": "the fault is in a trailer, after the whole picture; trailers mean nothing to us",
    "471": "the fault is in the second reply on the connection, which a closed one does not get",
}


@dataclass(frozen=True)
class Vector:
    test: str
    curl_exit: int
    command: str
    raw: bytes

    @property
    def status(self):
        """The final status, if there is one."""
        found = re.match(rb"HTTP/\S+ (\d{3})\b", self.parts[1])
        return int(found[1]) if found else None

    @property
    def parts(self):
        """Interim answers, head with its blank line, body."""
        interim, rest = b"", self.raw
        while re.match(rb"HTTP/\S+ 1\d\d ", rest):
            head, blank, rest = self._cut(rest)
            interim += head + blank
        head, blank, body = self._cut(rest)
        return interim, head + blank, body

    @staticmethod
    def _cut(raw):
        found = re.search(rb"\r?\n\r?\n", raw)
        return (raw[: found.start()], found[0], raw[found.end() :]) if found else (raw, b"", b"")

    def with_picture(self):
        """Return the reply with a real picture as body, as long, short or broken as it was."""
        interim, head, body = self.parts
        if re.search(rb"(?im)^transfer-encoding:.*chunked", head):
            return interim + head + _chunked(body)
        packed = _coded(head, body, PICTURE)
        announced = re.search(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", head)
        if announced is None:
            return interim + head + packed
        missing = max(int(announced[1]) - len(body), 0)
        extra = body[int(announced[1]) :]
        length = str(len(packed) + missing).encode()
        head = head[: announced.start(1)] + length + head[announced.end(1) :]
        return interim + head + packed + extra


def _coded(head, original, body):
    """Return a body coded as the original was: in two members, where that had two."""
    coding = re.search(rb"(?im)^content-encoding:[ \t]*(\S+)", head)
    name = coding[1].lower() if coding else b""
    if name in {b"br", b"zstd"}:
        return brotli.compress(body) if name == b"br" else zstd.compress(body)
    if name not in {b"gzip", b"deflate"}:
        return body
    wbits = 31 if name == b"gzip" else 15
    member = zlib.decompressobj(wbits=15 + 32)
    member.decompress(original)
    middle = len(body) // 2 if member.unused_data.startswith(b"\x1f\x8b") else len(body)
    return b"".join(zlib.compress(part, wbits=wbits) for part in (body[:middle], body[middle:]) if part)


def _chunked(body):
    """Return the picture as one chunk, before what followed the good chunks: the last one, or what is broken."""
    rest = body
    while (good := re.match(rb"([0-9a-fA-F]{1,4})(?:;[^\r\n]*)?\r?\n", rest)) and int(good[1], 16):
        end = good.end() + int(good[1], 16)
        if not re.match(rb"\r?\n", rest[end:]):
            break
        rest = re.sub(rb"\A\r?\n", b"", rest[end:])
    if rest == body:
        return body
    return b"%x\r\n" % len(PICTURE) + PICTURE + b"\r\n" + rest


def vectors(shared):
    folder = shared / "vectors" / "curl_http"
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            raw = (folder / f"{row['test']}.http").read_bytes()
            yield Vector(row["test"], int(row["curl_exit_expected"]), row["command"], raw)


@asynccontextmanager
async def replies(folder):
    """Yield a function that serves a reply from a host of its own, and returns the spool and how its fetch ended."""
    raws = {}

    async def reply(exchange):
        if len([each for each in exchange.origin.requests if each.host == exchange.asked.host]) > 1:
            await exchange.reply(404)  # to all requests after the first
            return
        await exchange.send(raws[exchange.asked.host])
        exchange.close()

    with Origin(lambda _host, _path, _headers: reply) as origin:
        async with AsyncExitStack() as stack:
            clients = {
                size: await stack.enter_async_context(fetcher_to(origin, timeout_seconds=5.0, max_bytes=size))
                for size in (1 << 20, len(PICTURE) - 1)
            }

            async def served(vector, raw, max_bytes=1 << 20):
                host, spool = f"t{vector.test}.example", folder / vector.test
                raws[host] = raw
                try:
                    return spool, await clients[max_bytes].fetch(Request(f"http://{host}/first", spool))
                except VisitError as error:
                    return spool, error

            yield served


def is_whole(spool):
    """Return whether a body would be held: the proof of the picture does what framing and coding leave."""
    try:
        found = examine(spool.read_bytes(), ImageLimits(max_pixels=10**6, max_frames=100, max_total_pixels=10**8))
    except VisitError:
        return False
    return found.doubt is None


async def test_no_reply_is_stored_as_it_is(shared, tmp_path):
    stored, hung = [], []
    async with replies(tmp_path) as served:
        for vector in vectors(shared):
            spool, end = await served(vector, vector.raw)
            if isinstance(end, Download):
                if is_whole(spool):
                    stored.append(vector.test)
            elif end.reason is Reason.TIMED_OUT:
                hung.append(vector.test)

    assert stored == ["374"]  # a whole GIF
    assert hung == []


async def test_images_in_these_replies_end_as_with_curl(shared, tmp_path):
    stricter, laxer = [], []
    async with replies(tmp_path) as served:
        for vector in vectors(shared):
            size = len(PICTURE) - 1 if vector.curl_exit == 63 else 1 << 20  # --max-filesize, exceeded
            spool, end = await served(vector, vector.with_picture(), size)
            ours = isinstance(end, Download) and is_whole(spool)
            if ours:
                assert spool.read_bytes() == PICTURE, vector.test
            curls = vector.curl_exit == 0 and vector.status in {200, None}
            if curls and not ours:
                stricter.append((vector.test, str(end)))
            if ours and not curls:
                laxer.append(vector.test)

    assert dict(stricter).keys() == WE_ARE_STRICTER.keys(), stricter
    assert sorted(laxer) == sorted(WE_ARE_LAXER)


async def test_only_success_statuses_give_an_image(shared, tmp_path):
    others = [vector for vector in vectors(shared) if vector.status not in {200, None}]

    async with replies(tmp_path) as served:
        ends = [(await served(vector, vector.with_picture()))[1] for vector in others]

    assert len(others) > 35
    assert [end for end in ends if isinstance(end, Download)] == []
