"""What an attacker's servers do: behaviours like those of tests/misbehaviours.py, sent as fast as they are taken.

A program as well, because an attack in the process of the tests would slow the honest origin down:

    attackers.py serve                  prints its ports as JSON: the attacks over HTTP, and TLS handshakes that drip;
                                        ends with its stdin
    attackers.py names FOLDER COMMAND   becomes the command in this network namespace, where a DNS server answers (or
                                        does not), an honest origin listens, and FOLDER/connects counts connections

"""

import asyncio
import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path

from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.misbehaviours import media_type
from tests.origin import Origin

ATTACKS = {}
PIECE = 1 << 18
FIRST_ADDRESS = int(IPv4Address("93.184.0.1"))
MANY_ADDRESSES = 3000


def attack(function):
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


async def flood(exchange, head, *pieces):
    """Send a head, then the same pieces for ever."""
    exchange.close()
    await exchange.send(head)
    block = b"".join(pieces)
    block *= max(1, PIECE // len(block))
    while True:
        await exchange.send(block)


# statuses


@attack
async def status_099(exchange):
    """A status that is neither interim nor final, and a body that never ends."""
    await flood(exchange, b"HTTP/1.1 099 X\r\n\r\n", bytes(1024))


@attack
async def status_099_counted(exchange):
    """The same with a length of a terabyte."""
    await flood(exchange, b"HTTP/1.1 099 X\r\nContent-Length: 1000000000000\r\n\r\n", bytes(1024))


@attack
async def status_000_chunked(exchange):
    """The same in chunks."""
    await flood(exchange, b"HTTP/1.1 000 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n", bytes(1024), b"\r\n")


@attack
async def status_999(exchange):
    """A status beyond all classes, and a body that never ends."""
    await flood(exchange, b"HTTP/1.1 999 X\r\n\r\n", bytes(1024))


@attack
async def status_600(exchange):
    """The picture under a status beyond all classes."""
    await exchange.reply(600, exchange.body, media_type(exchange.body))


@attack
async def interim_flood(exchange):
    """Interim responses for ever, as fast as they are taken."""
    await flood(exchange, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")


@attack
async def interim_bodies(exchange):
    """Interim responses that announce bodies, and send them."""
    await flood(exchange, b"", b"HTTP/1.1 102 X\r\nContent-Length: 65536\r\n\r\n", bytes(65536))


@attack
async def interim_drip(exchange):
    """An interim response ten times a second."""
    exchange.close()
    while True:
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.1)


# framing


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"


@attack
async def one_byte_chunks(exchange):
    """A body in chunks of one byte."""
    await flood(exchange, CHUNKED, b"1\r\nx\r\n")


@attack
async def chunks_of_ten(exchange):
    """A body in chunks of ten bytes, which is twice as much as what is around them."""
    await flood(exchange, CHUNKED, b"a\r\nxxxxxxxxxx\r\n")


@attack
async def chunk_extensions(exchange):
    """An extension of 60 kB before each byte."""
    await flood(exchange, CHUNKED, b"1;", b"x" * 60_000, b"\r\nx\r\n")


@attack
async def chunk_zeros(exchange):
    """A chunk size with 60 kB of zeros before each byte."""
    await flood(exchange, CHUNKED, b"0" * 60_000, b"1\r\nx\r\n")


@attack
async def chunk_extensions_of_names(exchange):
    """60 kB of short extensions before each byte."""
    await flood(exchange, CHUNKED, b"1", b";a=b" * 15_000, b"\r\nx\r\n")


@attack
async def trailers(exchange):
    """Trailers for ever."""
    await flood(exchange, CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: " + b"a" * 200 + b"\r\n")


@attack
async def fields(exchange):
    """Header fields for ever."""
    await flood(exchange, b"HTTP/1.1 200 OK\r\n", b"X: " + b"a" * 200 + b"\r\n")


@attack
async def one_field(exchange):
    """One header field that never ends."""
    await flood(exchange, b"HTTP/1.1 200 OK\r\nX: ", b"a" * 1024)


@attack
async def reason_phrase(exchange):
    """A status line that never ends."""
    await flood(exchange, b"HTTP/1.1 200 ", b"O" * 1024)


@attack
async def blank_lines(exchange):
    """Blank lines before the status line, for ever."""
    await flood(exchange, b"", b"\r\n")


# fields


@attack
async def length_of_digits(exchange):
    """A length of thousands of digits, all but one of them zeros."""
    await exchange.head(200, f"Content-Length: {'0' * 5000}{len(exchange.body)}")
    await exchange.send(exchange.body)


@attack
async def retry_after_digits(exchange):
    """429, with a Retry-After of thousands of digits."""
    await exchange.reply(429, b"", f"Retry-After: {'9' * 5000}")


@attack
async def retry_after_date(exchange):
    """503, with a Retry-After beyond every calendar."""
    await exchange.reply(
        503, b"", "Retry-After: Fri, 31 Dec 9999 23:59:59 -2359", "Date: Mon, 01 Jan 0001 00:00:00 +2359"
    )


@attack
async def odd_fields(exchange):
    """The picture, with fields and a status line that hold what databases and terminals do not take."""
    odd = b"\x00\xff\xfe\x1b[2J\xe2\x80\xae"
    lines = [
        b"HTTP/1.1 200 " + odd,
        b'ETag: "' + odd + b'"',
        b"Last-Modified: " + odd,
        b"Content-Type: image/jpeg" + odd,
    ]
    lines += [b"Content-Disposition: " + odd, b"Content-Length: %d" % len(exchange.body), b"", exchange.body]
    await exchange.send(b"\r\n".join(lines))


@attack
async def odd_page(exchange):
    """A page instead of a picture, of bytes that databases and terminals do not take."""
    await exchange.reply(200, b"<html>\x00\xff\xfe\x1b[2J\xe2\x80\xae" * 20, "Content-Type: text/html")


@attack
async def odd_location(exchange):
    """A redirect to an address with such bytes in its host, or in its path."""
    exchange.close()
    host = b"\xff\x1b.test" if exchange.asked.number % 2 else exchange.asked.headers["host"].encode()
    await exchange.send(
        b"HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: http://" + host + b"/\x00\xff\x1b.jpg\r\n\r\n"
    )


# content codings


@attack
async def gzip_bomb(exchange):
    """Zeros for ever, a thousand to a byte."""
    exchange.close()
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    packer = zlib.compressobj(wbits=31)
    while True:
        await exchange.send(packer.compress(bytes(1 << 24)))


@attack
async def gzip_nothing(exchange):
    """gzip that decodes to nothing, for ever: empty blocks (RFC 1951, section 3.2.4)."""
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"") + packer.flush(zlib.Z_SYNC_FLUSH)
    await flood(exchange, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + head, b"\x00\x00\x00\xff\xff")


@attack
async def gzip_header(exchange):
    """A file name in the header of gzip that never ends (RFC 1952, section 2.3)."""
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08" + bytes(6)
    await flood(exchange, head, b"a" * 1024)


# slowness


@attack
async def drip(exchange):
    """A byte every tenth of a second."""
    exchange.close()
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        await exchange.send(b"x")
        await asyncio.sleep(0.1)


@attack
async def drip_chunks(exchange):
    """A chunk of one byte every tenth of a second."""
    exchange.close()
    await exchange.send(CHUNKED)
    while True:
        await exchange.send(b"1\r\nx\r\n")
        await asyncio.sleep(0.1)


@attack
async def drip_head(exchange):
    """A byte of the head every tenth of a second."""
    exchange.close()
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0.1)


@attack
async def silent(exchange):
    """Nothing at all."""
    await exchange.hang()


# redirects


@attack
async def redirect_long(exchange):
    """A redirect to an ever longer URL."""
    await exchange.reply(302, b"", f"Location: {exchange.asked.target}{'a' * 6000}")


@attack
async def redirect_slow(exchange):
    """Redirects for ever, each after a second."""
    await asyncio.sleep(1)
    await exchange.reply(302, b"", f"Location: /redirect-slow/{exchange.origin.count()}.jpg")


@attack
async def redirect_names(exchange):
    """A redirect to another name of the attacker at each hop."""
    port = exchange.asked.headers["host"].rpartition(":")[2]
    await exchange.reply(302, b"", f"Location: http://n{exchange.origin.count()}.evil.test:{port}/redirect-names/1.jpg")


@attack
async def redirect_to_closed_port(exchange):
    """A redirect to a port of an innocent host where nothing listens."""
    await exchange.reply(302, b"", "Location: http://good-0.test:4444/1.jpg")


@attack
async def redirect_to_closed_scheme(exchange):
    """A redirect to an innocent host, by a scheme that it does not offer."""
    await exchange.reply(302, b"", "Location: https://good-0.test/1.jpg")


# pictures


@attack
async def webp_heavy(exchange):
    """A 15 kB animation of 331 frames of 4000 x 4000 pixels; the number in the path makes it another one."""
    await exchange.reply(200, heavy_webp(exchange.asked.path), "Content-Type: image/webp")


@attack
async def gif_heavy(exchange):
    """The same as a GIF, whose bytes are more."""
    await exchange.reply(200, heavy_gif(exchange.asked.path), "Content-Type: image/gif")


@cache
def heavy_webp(name, side=4000, frames=331):
    """Return an animation whose frames are one chunk repeated: no encoder has to make them."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), _colour(name)).save(file, "WEBP", lossless=True, method=0)
    single = file.getvalue()[12:]
    frame = bytes(6) + (side - 1).to_bytes(3, "little") * 2 + (40).to_bytes(3, "little") + b"\x02" + single
    canvas = b"\x02\0\0\0" + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBP" + _chunk(b"VP8X", canvas) + _chunk(b"ANIM", bytes(6)) + _chunk(b"ANMF", frame) * frames
    return _chunk(b"RIFF", body)


@cache
def heavy_gif(name, side=4000, frames=25):
    """Return an animation whose frames are one block repeated."""
    file = io.BytesIO()
    Image.new("P", (side, side)).save(file, "GIF")
    single = file.getvalue()
    start = single.index(b"\x2c\0\0\0\0")
    comment = name.encode()[-200:]
    extension = b"\x21\xfe" + bytes([len(comment)]) + comment + b"\0"
    return single[:start] + extension + single[start:-1] * frames + b"\x3b"


def _chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def _colour(name):
    number = zlib.crc32(name.encode())
    return number & 255, number >> 8 & 255, number >> 16 & 255


# the process of the attacks


def play(_host, path, _headers):
    return ATTACKS.get(path.split("/")[1])


def drip_handshakes(listener):
    """Begin a TLS record for every client, and send a byte of it every tenth of a second."""

    async def one(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read(1)
            for byte in b"\x16\x03\x03\x40\x00" + bytes(16384):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.1)
        writer.close()

    async def serve():
        async with await asyncio.start_server(one, sock=listener) as server:
            await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()


def serve():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    drip_handshakes(listener)
    with Origin(play) as origin:
        sys.stdout.write(json.dumps({"http": origin.port, "tls": listener.getsockname()[1]}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    os._exit(0)


@contextlib.contextmanager
def attackers():
    """Run the attacks in a process of their own; yield their ports."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait(timeout=30)


# names


def answer(query, *, tcp):
    """Return a DNS answer (RFC 1035, section 4): `*.silent.test` gets none, `many.test` thousands of addresses."""
    end, labels = 12, []
    while query[end]:
        labels.append(query[end + 1 : end + 1 + query[end]].decode().lower())
        end += 1 + query[end]
    name, kind = ".".join(labels), int.from_bytes(query[end + 1 : end + 3])
    if name.endswith("silent.test"):
        return None
    addresses = ["127.0.0.1"] if kind == 1 else []
    if name.endswith("many.test"):
        addresses = [str(IPv4Address(FIRST_ADDRESS + number)) for number in range(MANY_ADDRESSES)] if kind == 1 else []
    is_cut = len(addresses) > 20 and not tcp
    records = [b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + socket.inet_aton(each) for each in addresses]
    flags = 0x8580 | (0x0200 if is_cut else 0)
    count = 0 if is_cut else len(records)
    head = query[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + query[12 : end + 5]
    return head + b"".join(records[:count])


def answer_names():
    """Answer on 127.0.0.1:53, in threads."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    tcp = socket.create_server(("127.0.0.1", 53), backlog=256)

    def by_udp():
        while True:
            query, client = udp.recvfrom(4096)
            reply = answer(query, tcp=False)
            if reply is not None:
                udp.sendto(reply, client)

    def by_tcp():
        while True:
            client, _ = tcp.accept()
            with client, contextlib.suppress(OSError):
                while size := client.recv(2, socket.MSG_WAITALL):
                    query = client.recv(int.from_bytes(size), socket.MSG_WAITALL)
                    reply = answer(query, tcp=True)
                    if reply is not None:
                        client.sendall(struct.pack(">H", len(reply)) + reply)

    for each in (by_udp, by_tcp):
        threading.Thread(target=each, daemon=True).start()


def connects():
    """Return how many connections were opened in this network namespace (RFC 4022: tcpActiveOpens)."""
    names, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Tcp:"]
    return int(values[names.index("ActiveOpens")])


def play_names(folder, ready):
    """Answer names and serve pictures until the parent process has ended."""
    parent = os.getppid()
    answer_names()
    with Origin(play, port=80):
        os.write(ready, b"1")
        os.close(ready)
        while os.getppid() == parent:
            (folder / "connects").write_text(str(connects()))
            time.sleep(0.05)
    os._exit(0)


def become(folder, command):
    """Prepare this network and mount namespace, then run the command in place of this process."""
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        sys.exit("not in a network namespace of its own: nothing was tried")
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver 127.0.0.1\noptions {os.environ.get('RESOLVER_OPTIONS', 'timeout:5')}\n")
    for line in (
        "ip link set lo up",
        "ip route add local 0.0.0.0/0 dev lo",
        f"mount --bind {resolver} {Path('/etc/resolv.conf').resolve()}",
    ):
        subprocess.run(line.split(), check=True)
    ready, theirs = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        play_names(folder, theirs)
    os.close(theirs)
    os.read(ready, 1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        become(Path(sys.argv[2]), sys.argv[3:])
