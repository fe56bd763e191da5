"""What an origin may do to a client, by name; tests/origin.py does it. The first line of each says what it does.

All of it was seen in the wild or follows from what HTTP allows a peer to send. `BEHAVIOURS` holds the names, with
hyphens: `cut_in_transit` is reached as /cut-in-transit/anything.jpg.
"""

import asyncio
import gzip
import sys
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib import import_module
from urllib.parse import urlsplit

import brotli

from rehost.model import Format
from tests.pictures import picture

BEHAVIOURS = {}
HONEST = {"picture", "slow", "permissive"}
NOTICE = picture(4711, Format.JPEG, 160, 60)
"""The decoy: the same bytes for every URL."""
HTML = b"<!doctype html><title>No</title><p>Please look at this picture on our own pages.</p>"


def behaviour(function):
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


def site(host):
    """Return the last two labels, which stand for the registrable domain here."""
    return ".".join(host.rsplit(".", 2)[-2:])


def from_own_site(exchange):
    referer = urlsplit(exchange.asked.headers.get("referer", "")).hostname or ""
    own = site(exchange.asked.host)
    return referer == own or referer.endswith(f".{own}")


def from_elsewhere(exchange):
    return "referer" in exchange.asked.headers and not from_own_site(exchange)


def media_type(body):
    for magic, name in (
        (b"\x89PNG", "png"),
        (b"GIF8", "gif"),
        (b"RIFF", "webp"),
        (b"BM", "bmp"),
        (b"\xff\xd8", "jpeg"),
    ):
        if body.startswith(magic):
            return f"Content-Type: image/{name}"
    return "Content-Type: application/octet-stream"


def half(body):
    return body[: len(body) // 2]


# well-behaved


async def whole(exchange):
    """A picture, with a strong ETag, conditional requests and ranges, as a good origin serves it."""
    body, asked = exchange.body, exchange.asked.headers
    fields = [media_type(body), f"ETag: {exchange.etag}", "Last-Modified: Sun, 28 Jun 2020 08:00:00 GMT"]
    if asked.get("if-none-match") == exchange.etag:
        await exchange.head(304, *fields)
        return
    start = asked.get("range", "").removeprefix("bytes=").removesuffix("-")
    if start.isdigit() and asked.get("if-range", exchange.etag) == exchange.etag:
        if int(start) >= len(body):
            await exchange.reply(416, b"", f"Content-Range: bytes */{len(body)}")
            return
        piece = body[int(start) :]
        await exchange.reply(206, piece, *fields, f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}")
        return
    await exchange.reply(200, body, *fields)


BEHAVIOURS["picture"] = whole


@behaviour
async def slow(exchange):
    """A picture after 50 ms."""
    await asyncio.sleep(0.05)
    await whole(exchange)


@behaviour
async def permissive(exchange):
    """A picture, whatever the Referer."""
    await whole(exchange)


# hot-link rules


@behaviour
async def refuses_foreign_referer(exchange):
    """403 to another site's Referer; a picture without one (sinaimg.cn)."""
    await (exchange.reply(403) if from_elsewhere(exchange) else whole(exchange))


@behaviour
async def decoy_to_foreign_referer(exchange):
    """A notice picture, 200, to another site's Referer; the picture without one (qpic.cn)."""
    if from_elsewhere(exchange):
        await exchange.reply(200, NOTICE, "Content-Type: image/jpeg")
    else:
        await whole(exchange)


@behaviour
async def demands_own_site(exchange):
    """403 unless the Referer is a page of its own site (adquan.com)."""
    await (whole(exchange) if from_own_site(exchange) else exchange.reply(403, HTML, "Content-Type: text/html"))


@behaviour
async def demands_www_page(exchange):
    """403 unless the Referer is on www. of its own site: its own root is not enough."""
    referer = urlsplit(exchange.asked.headers.get("referer", "")).hostname
    await (whole(exchange) if referer == f"www.{site(exchange.asked.host)}" else exchange.reply(403))


@behaviour
async def demands_any_page(exchange):
    """403 unless the Referer has a path of its own: only the row's page will do."""
    path = urlsplit(exchange.asked.headers.get("referer", "")).path
    await (whole(exchange) if path not in {"", "/"} else exchange.reply(403))


@behaviour
async def html_without_own_site(exchange):
    """An HTML page, 200, unless the Referer is its own site."""
    await (whole(exchange) if from_own_site(exchange) else exchange.reply(200, HTML, "Content-Type: text/html"))


@behaviour
async def notice_redirect_without_own_site(exchange):
    """302 to a notice picture unless the Referer is its own site."""
    if from_own_site(exchange):
        await whole(exchange)
    else:
        await exchange.reply(302, b"", f"Location: {exchange.base}/notice/no-hotlinking.jpg")


@behaviour
async def decoy_without_own_site(exchange):
    """A notice picture, 200, unless the Referer is its own site."""
    if from_own_site(exchange):
        await whole(exchange)
    else:
        await exchange.reply(200, NOTICE, "Content-Type: image/jpeg")


@behaviour
async def notice(exchange):
    """The notice picture, to everyone, under every URL: the origin has turned (Photobucket 2017)."""
    await exchange.reply(200, NOTICE, "Content-Type: image/jpeg")


@behaviour
async def notice_redirect(exchange):
    """302 to the notice picture, for everyone."""
    await exchange.reply(302, b"", f"Location: {exchange.base}/notice/no-hotlinking.jpg")


@behaviour
async def forbidden(exchange):
    """403 to everyone."""
    await exchange.reply(403, HTML, "Content-Type: text/html")


@behaviour
async def unauthorised(exchange):
    """401 with a challenge."""
    await exchange.reply(401, b"", 'WWW-Authenticate: Basic realm="pictures"')


@behaviour
async def html_page(exchange):
    """An HTML page with status 200, to everyone."""
    await exchange.reply(200, HTML, "Content-Type: text/html; charset=utf-8")


@behaviour
async def html_as_picture(exchange):
    """An HTML page with status 200 and Content-Type: image/jpeg."""
    await exchange.reply(200, HTML, "Content-Type: image/jpeg")


@behaviour
async def refuses_browsers(exchange):
    """403 to a User-Agent that looks like a browser without contact data (Wikimedia)."""
    agent = exchange.asked.headers.get("user-agent", "")
    await (exchange.reply(403) if agent.startswith("Mozilla/") and "@" not in agent else whole(exchange))


@behaviour
async def refuses_robots(exchange):
    """403 to a User-Agent that does not look like a browser."""
    agent = exchange.asked.headers.get("user-agent", "")
    await (whole(exchange) if agent.startswith("Mozilla/") else exchange.reply(403))


@behaviour
async def demands_cookie(exchange):
    """403 unless the cookie `seen=1` is sent; sets it."""
    if "seen=1" in exchange.asked.headers.get("cookie", ""):
        await whole(exchange)
    else:
        await exchange.reply(403, b"", "Set-Cookie: seen=1; Path=/")


# statuses


@behaviour
async def not_found(exchange):
    """404."""
    await exchange.reply(404, HTML, "Content-Type: text/html")


@behaviour
async def gone(exchange):
    """410."""
    await exchange.reply(410)


@behaviour
async def legal_reasons(exchange):
    """451."""
    await exchange.reply(451)


@behaviour
async def teapot(exchange):
    """418, with a picture as its body."""
    await exchange.reply(418, exchange.body, "Content-Type: image/jpeg")


@behaviour
async def throttled_seconds(exchange):
    """429 with Retry-After in seconds."""
    await exchange.reply(429, b"", "Retry-After: 7")


@behaviour
async def throttled_date(exchange):
    """429 with Retry-After as an HTTP date, an hour from now."""
    await exchange.reply(429, b"", f"Retry-After: {_in_an_hour()}")


@behaviour
async def unavailable_seconds(exchange):
    """503 with Retry-After in seconds."""
    await exchange.reply(503, b"", "Retry-After: 7")


@behaviour
async def unavailable_date(exchange):
    """503 with Retry-After as an HTTP date, an hour from now."""
    await exchange.reply(503, b"", f"Retry-After: {_in_an_hour()}")


@behaviour
async def throttled_once(exchange):
    """429 with Retry-After: 0 to the first request for a URL, then a picture."""
    await (exchange.reply(429, b"", "Retry-After: 0") if exchange.asked.number == 1 else whole(exchange))


@behaviour
async def fails_once(exchange):
    """500 to the first request for a URL, then a picture."""
    await (exchange.reply(500) if exchange.asked.number == 1 else whole(exchange))


@behaviour
async def fails(exchange):
    """500, always."""
    await exchange.reply(500, HTML, "Content-Type: text/html")


@behaviour
async def bad_gateway(exchange):
    """502, always."""
    await exchange.reply(502)


@behaviour
async def request_timeout(exchange):
    """408, always."""
    await exchange.reply(408)


@behaviour
async def too_early(exchange):
    """425, always."""
    await exchange.reply(425)


@behaviour
async def no_content(exchange):
    """204."""
    await exchange.head(204)


@behaviour
async def informational_flood(exchange):
    """Endless interim responses (103)."""
    exchange.close()
    while True:
        await exchange.head(103, "Link: </a.css>; rel=preload")


@behaviour
async def early_hints(exchange):
    """One interim response (103), then the picture."""
    await exchange.head(103, "Link: </a.css>; rel=preload")
    await whole(exchange)


@behaviour
async def switches_protocols(exchange):
    """101, and silence."""
    await exchange.head(101, "Upgrade: websocket", "Connection: Upgrade")
    await exchange.hang()


# bodies and framing


@behaviour
async def cut_at_origin(exchange):
    """Half of the picture, with a Content-Length that agrees."""
    await exchange.reply(200, half(exchange.body), media_type(exchange.body))


@behaviour
async def cut_in_transit(exchange):
    """The connection closes after half of what Content-Length says, every time; no validator."""
    await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body)}")
    await exchange.send(half(exchange.body))
    exchange.close()


@behaviour
async def cut_once(exchange):
    """As cut-in-transit at the first request, with a strong ETag; ranges are served."""
    if "range" in exchange.asked.headers:
        await whole(exchange)
        return
    await exchange.head(
        200, media_type(exchange.body), f"ETag: {exchange.etag}", f"Content-Length: {len(exchange.body)}"
    )
    await exchange.send(half(exchange.body))
    exchange.close()


@behaviour
async def cut_once_weak(exchange):
    """As cut-once, with a weak ETag: no range may be requested."""
    if exchange.asked.number > 1:
        await whole(exchange)
        return
    await exchange.head(200, f"ETag: W/{exchange.etag}", f"Content-Length: {len(exchange.body)}")
    await exchange.send(half(exchange.body))
    exchange.close()


@behaviour
async def cut_then_changed(exchange):
    """As cut-once, but the picture is another one, with another ETag, when the range is requested."""
    if "range" in exchange.asked.headers:
        body = exchange.origin.picture(f"http://{exchange.asked.host}/changed{exchange.asked.path}")
        await exchange.reply(200, body, media_type(body), 'ETag: "another"')
        return
    await cut_once(exchange)


@behaviour
async def cut_then_mixed(exchange):
    """As cut-once, but the range comes as 206 with another ETag: the two halves must not be joined."""
    if "range" in exchange.asked.headers:
        await _rest(exchange, 'ETag: "another"')
        return
    await cut_once(exchange)


@behaviour
async def cut_then_wrong_start(exchange):
    """As cut-once, but the 206 begins at another byte than requested."""
    if "range" in exchange.asked.headers:
        size = len(exchange.body)
        await exchange.reply(206, exchange.body[1:], f"Content-Range: bytes 1-{size - 1}/{size}")
        return
    await cut_once(exchange)


@behaviour
async def cut_then_wrong_total(exchange):
    """As cut-once, but the 206 has another total than before."""
    if "range" in exchange.asked.headers:
        start, size = _start(exchange), len(exchange.body)
        await exchange.reply(206, exchange.body[start:], f"Content-Range: bytes {start}-{size - 1}/{size + 999}")
        return
    await cut_once(exchange)


@behaviour
async def cut_then_multipart(exchange):
    """As cut-once, but the 206 is multipart/byteranges."""
    if "range" in exchange.asked.headers:
        await exchange.reply(206, b"--x\r\n\r\nabc\r\n--x--\r\n", "Content-Type: multipart/byteranges; boundary=x")
        return
    await cut_once(exchange)


@behaviour
async def cut_then_unsatisfiable(exchange):
    """As cut-once, but the range is refused with 416; a request without one gets the picture."""
    if "range" in exchange.asked.headers:
        await exchange.reply(416, b"", "Content-Range: bytes */3")
    elif exchange.asked.number > 1:
        await whole(exchange)
    else:
        await cut_once(exchange)


@behaviour
async def cut_thrice(exchange):
    """A quarter of the picture at a time, by ranges, each response cut off."""
    body = exchange.body
    start = _start(exchange)
    status = 206 if start else 200
    fields = [f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}"] if start else []
    await exchange.head(status, *fields, f"ETag: {exchange.etag}", f"Content-Length: {len(body) - start}")
    await exchange.send(body[start : start + len(body) // 4 + 1])
    exchange.close()


@behaviour
async def chunked(exchange):
    """A well-formed picture in chunks."""
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    await exchange.send(*_chunks(exchange.body), b"0\r\n\r\n")


@behaviour
async def chunked_ended_early(exchange):
    """A chunked body without its last chunk."""
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    await exchange.send(*_chunks(half(exchange.body)))
    exchange.close()


@behaviour
async def chunked_broken(exchange):
    """A chunk size that is no number."""
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    await exchange.send(*_chunks(half(exchange.body)), b"zz\r\n", exchange.body, b"\r\n0\r\n\r\n")
    exchange.close()


@behaviour
async def chunked_broken_late(exchange):
    """A chunk size that is no number, a moment after half of the picture."""
    exchange.close()
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    await exchange.send(*_chunks(half(exchange.body)))
    await asyncio.sleep(0.1)
    await exchange.send(b"zz\r\n", exchange.body, b"\r\n0\r\n\r\n")


@behaviour
async def chunked_endless_size(exchange):
    """A chunk size line that never ends."""
    exchange.close()
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    while True:
        await exchange.send(b"0" * 16384)


@behaviour
async def chunked_trailers(exchange):
    """A chunked picture with trailers."""
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked", "Trailer: X-Sum")
    await exchange.send(*_chunks(exchange.body), b"0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n")


@behaviour
async def chunked_trailer_flood(exchange):
    """A chunked picture with endless trailers."""
    exchange.close()
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    await exchange.send(*_chunks(exchange.body), b"0\r\n")
    for number in range(1 << 30):
        await exchange.send(f"X-Flood-{number}: {'a' * 200}\r\n".encode())


@behaviour
async def chunk_extensions(exchange):
    """A chunk whose size is followed by an endless extension."""
    exchange.close()
    await exchange.head(200, media_type(exchange.body), "Transfer-Encoding: chunked")
    await exchange.send(b"10;")
    while True:
        await exchange.send(b"a" * 1000)


@behaviour
async def until_close(exchange):
    """A picture without any framing: the end of the connection is its end."""
    await exchange.head(200, media_type(exchange.body), "Connection: close")
    await exchange.send(exchange.body)
    exchange.close()


@behaviour
async def longer_than_announced(exchange):
    """More bytes than Content-Length says: half of the picture is announced."""
    await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body) // 2}")
    await exchange.send(exchange.body)
    exchange.close()


@behaviour
async def two_lengths(exchange):
    """Two Content-Length fields that differ."""
    size = len(exchange.body)
    await exchange.head(200, f"Content-Length: {size}", f"Content-Length: {size // 2}")
    await exchange.send(exchange.body)
    exchange.close()


@behaviour
async def negative_length(exchange):
    """Content-Length: -1."""
    await exchange.head(200, media_type(exchange.body), "Content-Length: -1")
    await exchange.send(exchange.body)
    exchange.close()


@behaviour
async def empty(exchange):
    """200 and no bytes."""
    await exchange.reply(200, b"", "Content-Type: image/jpeg")


@behaviour
async def endless(exchange):
    """An endless body without a length."""
    exchange.close()
    await exchange.head(200, "Content-Type: image/jpeg")
    while True:
        await exchange.send(exchange.body * 20)


@behaviour
async def chunks_of_one_byte(exchange):
    """An endless body, each byte of it in a chunk of its own."""
    exchange.close()
    await exchange.head(200, "Content-Type: image/jpeg", "Transfer-Encoding: chunked")
    while True:
        await exchange.send(b"1\r\nx\r\n" * 1000)


@behaviour
async def chunk_extension_for_each_byte(exchange):
    """An endless body, with 60 kB of chunk extension before each byte."""
    exchange.close()
    await exchange.head(200, "Content-Type: image/jpeg", "Transfer-Encoding: chunked")
    while True:
        await exchange.send(b"1;a=" + b"a" * 60_000 + b"\r\nx\r\n")


@behaviour
async def length_with_zeros(exchange):
    """A picture, its Content-Length after 5,000 zeros."""
    await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body):05000}")
    await exchange.send(exchange.body)


@behaviour
async def status_below_100(exchange):
    """An endless body under the status 099, which is neither interim nor final."""
    exchange.close()
    await exchange.send(b"HTTP/1.1 099 X\r\n\r\n")
    while True:
        await exchange.send(bytes(100_000))


@behaviour
async def informational_body(exchange):
    """An interim response with a body of many gigabytes."""
    exchange.close()
    await exchange.head(104, f"Content-Length: {10**12}")
    while True:
        await exchange.send(bytes(100_000))


@behaviour
async def endless_chunked(exchange):
    """An endless chunked body."""
    exchange.close()
    await exchange.head(200, "Content-Type: image/jpeg", "Transfer-Encoding: chunked")
    while True:
        await exchange.send(*_chunks(exchange.body * 20))


@behaviour
async def announces_too_much(exchange):
    """A Content-Length of 100 TB."""
    exchange.close()
    await exchange.head(200, "Content-Type: image/jpeg", "Content-Length: 100000000000000")
    while True:
        await exchange.send(exchange.body)


@behaviour
async def drip(exchange):
    """16 bytes a second."""
    exchange.close()
    await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body)}")
    for start in range(0, len(exchange.body), 16):
        await exchange.send(exchange.body[start : start + 16])
        await asyncio.sleep(1)


@behaviour
async def drip_headers(exchange):
    """A header field every 50 ms, endlessly."""
    exchange.close()
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(1 << 30):
        await exchange.send(f"X-{number}: a\r\n".encode())
        await asyncio.sleep(0.05)


@behaviour
async def header_flood(exchange):
    """Endless header fields."""
    exchange.close()
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(1 << 30):
        await exchange.send(f"X-Flood-{number}: {'a' * 200}\r\n".encode())


@behaviour
async def header_many(exchange):
    """A hundred thousand short header fields, and the picture."""
    fields = [f"X-{number}: a" for number in range(100_000)]
    await exchange.reply(200, exchange.body, media_type(exchange.body), *fields)


@behaviour
async def header_folded(exchange):
    """A header field over several lines (obsolete line folding)."""
    await exchange.reply(200, exchange.body, media_type(exchange.body), "X-Folded: a\r\n b\r\n\tc")


@behaviour
async def header_long(exchange):
    """One header field of a megabyte."""
    await exchange.reply(200, exchange.body, "X-Long: " + "a" * (1 << 20))


# encodings


@behaviour
async def gzipped(exchange):
    """gzip on a picture, unasked."""
    await exchange.reply(200, gzip.compress(exchange.body), media_type(exchange.body), "Content-Encoding: gzip")


@behaviour
async def deflated(exchange):
    """Content-Encoding: deflate, as RFC 9110 has it (zlib format)."""
    await exchange.reply(200, zlib.compress(exchange.body), "Content-Encoding: deflate")


@behaviour
async def deflated_raw(exchange):
    """Content-Encoding: deflate without the zlib header, as some servers have it."""
    packer = zlib.compressobj(wbits=-15)
    await exchange.reply(200, packer.compress(exchange.body) + packer.flush(), "Content-Encoding: deflate")


@behaviour
async def gzip_cut(exchange):
    """A gzip body that ends early, with a Content-Length that agrees."""
    await exchange.reply(200, half(gzip.compress(exchange.body)), "Content-Encoding: gzip")


@behaviour
async def gzip_cut_in_transit(exchange):
    """A gzip body whose connection closes half way, with a strong ETag: it must not be resumed."""
    packed = gzip.compress(exchange.body)
    if exchange.asked.number > 1:
        await exchange.reply(200, packed, "Content-Encoding: gzip", 'ETag: "packed"')
        return
    await exchange.head(200, "Content-Encoding: gzip", 'ETag: "packed"', f"Content-Length: {len(packed)}")
    await exchange.send(half(packed))
    exchange.close()


@behaviour
async def gzip_corrupt(exchange):
    """A gzip body whose checksum is wrong."""
    packed = bytearray(gzip.compress(exchange.body))
    packed[-6] ^= 0xFF
    await exchange.reply(200, bytes(packed), "Content-Encoding: gzip")


@behaviour
async def gzip_bomb(exchange):
    """1 GiB of zeros in a megabyte of gzip."""
    await exchange.head(200, "Content-Type: image/jpeg", "Content-Encoding: gzip", "Transfer-Encoding: chunked")
    packer = zlib.compressobj(wbits=31)
    for _ in range(1024):
        await exchange.send(*_chunks(packer.compress(bytes(1 << 20))))
    await exchange.send(*_chunks(packer.flush()), b"0\r\n\r\n")


@behaviour
async def gzip_twice(exchange):
    """gzip within gzip, both of them announced."""
    await exchange.reply(200, gzip.compress(gzip.compress(exchange.body)), "Content-Encoding: gzip, gzip")


@behaviour
async def gzip_members(exchange):
    """A gzip body of two members, of which a browser shows the first."""
    body = gzip.compress(exchange.body) + gzip.compress(exchange.body)
    await exchange.reply(200, body, "Content-Encoding: gzip")


@behaviour
async def gzip_misnamed(exchange):
    """Content-Encoding: gzip on a body that is no gzip."""
    await exchange.reply(200, exchange.body, "Content-Encoding: gzip")


@behaviour
async def brotli_misnamed(exchange):
    """Content-Encoding: br on a body that is no brotli."""
    await exchange.reply(200, b"\x0b\x02\x80" + exchange.body, "Content-Encoding: br")


@behaviour
async def brotli_coded(exchange):
    """br on a picture, unasked."""
    await exchange.reply(200, brotli.compress(exchange.body, quality=1), "Content-Encoding: br")


@behaviour
async def zstd_coded(exchange):
    """zstd on a picture, unasked."""
    zstd = import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    await exchange.reply(200, zstd.compress(exchange.body), "Content-Encoding: zstd")


@behaviour
async def coded_in_no_coding(exchange):
    """Content-Encoding names things that are no codings."""
    await exchange.reply(200, exchange.body, "Content-Encoding: UTF-8, aws-chunked, image/jpeg")


# types


@behaviour
async def wrong_type(exchange):
    """A picture as text/plain."""
    await exchange.reply(200, exchange.body, "Content-Type: text/plain")


@behaviour
async def missing_type(exchange):
    """A picture without a Content-Type."""
    await exchange.reply(200, exchange.body)


@behaviour
async def webp_as_jpeg(exchange):
    """WebP under a name that ends in .jpg, as image/jpeg."""
    await exchange.reply(200, picture(exchange.asked.number, Format.WEBP), "Content-Type: image/jpeg")


@behaviour
async def svg_as_png(exchange):
    """An SVG with a script in it, as image/png."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    await exchange.reply(200, svg, "Content-Type: image/png")


# redirects


@behaviour
async def redirect(exchange):
    """301 to a picture beside it, by a relative Location."""
    await exchange.reply(301, b"", "Location: ../picture/moved.jpg")


@behaviour
async def redirect_elsewhere(exchange):
    """302 to another origin of the same machine: http://elsewhere.example."""
    await exchange.reply(302, b"", "Location: http://elsewhere.example/picture/moved.jpg")


@behaviour
async def redirect_circle(exchange):
    """302 to itself."""
    await exchange.reply(302, b"", f"Location: {exchange.asked.target}")


@behaviour
async def redirect_for_ever(exchange):
    """302 to a new URL each time."""
    await exchange.reply(302, b"", f"Location: /redirect-for-ever/{exchange.origin.count()}.jpg")


@behaviour
async def redirect_private(exchange):
    """302 to a private address."""
    await exchange.reply(302, b"", "Location: http://10.0.0.1/latest/meta-data/")


@behaviour
async def redirect_file(exchange):
    """302 to a file: URL."""
    await exchange.reply(302, b"", "Location: file:///etc/passwd")


@behaviour
async def redirect_bad_port(exchange):
    """302 to a port that no browser opens."""
    await exchange.reply(302, b"", "Location: http://elsewhere.example:25/1.jpg")


@behaviour
async def redirect_data(exchange):
    """302 to a picture in the Location itself."""
    await exchange.reply(302, b"", "Location: data:image/png;base64,iVBORw0KGgo=")


@behaviour
async def redirect_websocket(exchange):
    """302 to a WebSocket."""
    await exchange.reply(302, b"", "Location: ws://elsewhere.example/1.jpg")


@behaviour
async def redirect_credentials(exchange):
    """302 to a URL with a name and a password in it."""
    await exchange.reply(302, b"", "Location: http://admin:admin@elsewhere.example/1.jpg")


@behaviour
async def redirect_mapped(exchange):
    """302 to a private address, written as IPv6."""
    await exchange.reply(302, b"", "Location: http://[::ffff:a00:1]/1.jpg")


@behaviour
async def redirect_number(exchange):
    """302 to a private address, written as one number."""
    await exchange.reply(302, b"", "Location: http://0xa000001/1.jpg")


@behaviour
async def redirect_two_locations(exchange):
    """302 with two Locations, the second of them a private address."""
    await exchange.reply(302, b"", "Location: /picture/moved.jpg", "Location: http://10.0.0.1/1.jpg")


@behaviour
async def redirect_nowhere(exchange):
    """302 without a Location."""
    await exchange.reply(302)


@behaviour
async def redirect_unparsable(exchange):
    """302 to a text that is no URL."""
    await exchange.reply(302, b"", "Location: http://[::")


@behaviour
async def redirect_non_ascii(exchange):
    """302 whose Location has raw UTF-8 and a space in it."""
    await exchange.reply(302, b"", "Location: /picture/图 片.jpg")


# ranges and conditions that were not asked for


@behaviour
async def partial_unasked(exchange):
    """206 to a request without a range."""
    size = len(exchange.body)
    await exchange.reply(206, exchange.body, f"Content-Range: bytes 0-{size - 1}/{size}")


@behaviour
async def partial_without_range(exchange):
    """206 to a request without a range, and nothing that says which part it is."""
    await exchange.reply(206, exchange.body, media_type(exchange.body))


@behaviour
async def partial_multipart(exchange):
    """206 with parts between boundaries, to a request without a range."""
    await exchange.reply(206, b"--b\r\n\r\n" + exchange.body, "Content-Type: multipart/byteranges; boundary=b")


@behaviour
async def status_226(exchange):
    """A whole picture under a success other than 200."""
    await exchange.reply(226, exchange.body, media_type(exchange.body))


@behaviour
async def ranges_on_whole(exchange):
    """200 with a Content-Range of another body."""
    await exchange.reply(200, exchange.body, media_type(exchange.body), "Content-Range: bytes 5-9/1000000")


@behaviour
async def not_modified_unasked(exchange):
    """304 to a request without a condition."""
    await exchange.head(304, f"ETag: {exchange.etag}")


@behaviour
async def changes_every_time(exchange):
    """Another picture under the same URL at every request."""
    body = picture(exchange.asked.number, Format.JPEG)
    await exchange.reply(200, body, "Content-Type: image/jpeg", f'ETag: "{exchange.asked.number}"')


# connections


@behaviour
async def hang(exchange):
    """No response at all."""
    await exchange.hang()


@behaviour
async def hang_in_body(exchange):
    """Half of the picture, then silence."""
    await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body)}")
    await exchange.send(half(exchange.body))
    await exchange.hang()


@behaviour
async def reset(exchange):
    """The connection is reset before any response."""
    exchange.reset()


@behaviour
async def reset_in_body(exchange):
    """The connection is reset half way through the picture."""
    await exchange.head(200, media_type(exchange.body), f"Content-Length: {len(exchange.body)}")
    await exchange.send(half(exchange.body))
    exchange.reset()


@behaviour
async def closes_at_once(exchange):
    """The connection is closed before any response."""
    exchange.close()


@behaviour
async def closes_kept_alive(exchange):
    """Whole pictures, but each connection is silently closed after its first response."""
    await whole(exchange)
    exchange.close()


@behaviour
async def http09(exchange):
    """The picture without status line or header, as HTTP/0.9 had it."""
    await exchange.send(exchange.body)
    exchange.close()


@behaviour
async def not_http(exchange):
    """The greeting of a mail server."""
    await exchange.send(b"220 mail.example ESMTP\r\n")
    exchange.close()


@behaviour
async def sets_cookies(exchange):
    """A picture and a cookie."""
    await exchange.reply(200, exchange.body, media_type(exchange.body), "Set-Cookie: track=1; Path=/; Max-Age=9999")


@behaviour
async def asks_no_robots(exchange):
    """A picture with X-Robots-Tag: noimageindex."""
    await exchange.reply(200, exchange.body, media_type(exchange.body), "X-Robots-Tag: noindex, noimageindex")


MISBEHAVIOURS = {name: (do.__doc__ or "").splitlines()[0] for name, do in BEHAVIOURS.items() if name not in HONEST}
"""Name -> what it does, in a line."""


def _in_an_hour():
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


def _chunks(body):
    return [b"%x\r\n" % len(body), body, b"\r\n"] if body else []


def _start(exchange):
    return int(exchange.asked.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


async def _rest(exchange, *fields):
    start, size = _start(exchange), len(exchange.body)
    await exchange.reply(206, exchange.body[start:], f"Content-Range: bytes {start}-{size - 1}/{size}", *fields)
