"""The copies in a bucket over HTTP: as from a disk, or by redirect."""

import asyncio
import contextlib
import hashlib
import http.client
import resource
import socket
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from tests.contracts.served_copies import ServedCopies
from tests.pictures import picture
from tests.s3 import BUCKET
from tests.server.conftest import KEY, PREFIX, by_granian, by_uvicorn, media_type
from tests.server.lint import complaints
from tests.server.wire import ask, request
from tests.store.test_s3 import Opener

from rehost.clock import Clock
from rehost.model import Format
from rehost.server.app import Site
from rehost.server.files.copies import REDIRECTED, SIGNED_SECONDS, CopyFiles
from rehost.server.files.objects import ObjectFinder
from rehost.server.files.response import IMMUTABLE
from rehost.store.base import Gone
from rehost.store.bucket import BucketClient

URL = f"{PREFIX}/{KEY}"


class Place(Opener):
    """A store in a bucket, as tests change it."""

    def put(self, key, content, media_type="image/png", digest=None):
        known = {"x-amz-meta-sha256": hashlib.sha256(content).hexdigest() if digest is None else digest}
        self.server.put(BUCKET, f"{self.bucket.prefix}/{key}", content, {"content-type": media_type, **known})

    def delete(self, key):
        self.server.delete(BUCKET, f"{self.bucket.prefix}/{key}")

    def open(self):
        return self()

    def finder(self, clock=None, **aws):
        env = {**self.server.env(), **aws}
        client = BucketClient(self.bucket, env, Clock(), outage_seconds=0.5, request_seconds=5.0)
        return ObjectFinder(client, media_type, clock or Clock())

    def redirecting(self):
        finder = self.finder()
        return CopyFiles(finder, locate=finder.locate)


class LaterClock(Clock):
    """Goes faster when a test says so."""

    ahead = 0.0

    def monotonic(self):
        return super().monotonic() + self.ahead


@pytest.fixture
def place(s3_server, tmp_path, content):
    found = Place(s3_server, tmp_path)
    found.put(".rehost/store-id", b"the-id-of-this-store")
    found.put(KEY, content)
    return found


@pytest.fixture
def application(place):
    return Site(CopyFiles(place.finder()), PREFIX)


@pytest.fixture
async def port(application):
    async with by_granian(application) as port:
        yield port


@pytest.fixture
def no_copy_is_new(monkeypatch):
    monkeypatch.setattr("rehost.server.files.response.NEW", timedelta(hours=-1))  # so that they have a Last-Modified


@pytest.mark.usefixtures("no_copy_is_new")
class TestCopiesInABucket(ServedCopies):
    pass


def fetch(url, method="GET", **headers):
    """Ask the bucket itself, without any credentials; return status, headers and body."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request(method, f"{parts.path}?{parts.query}", headers=headers)
        reply = connection.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_redirect_leads_to_the_bytes_and_is_kept_for_less_time_than_it_works(place, content, serve, method):
    async with serve(Site(place.redirecting(), PREFIX)) as port:
        reply = await ask(port, URL, method, range="bytes=0-9", if_none_match="*")
    status, headers, body = fetch(reply["location"], method)

    assert (reply.status, reply["cache-control"]) == (307, REDIRECTED)
    assert int(REDIRECTED.rpartition("=")[2]) < SIGNED_SECONDS
    assert f"X-Amz-Expires={SIGNED_SECONDS:.0f}&" in reply["location"]
    assert (status, body) == (200, content if method == "GET" else b"")
    assert (headers["content-type"], headers["content-length"]) == ("image/png", str(len(content)))
    assert complaints(reply, method) == []


async def test_a_range_follows_the_redirect(place, content):
    async with by_uvicorn(place.redirecting()) as port:
        reply = await ask(port, f"/{KEY}")

    status, _, body = fetch(reply["location"], Range="bytes=10-19")

    assert (status, body) == (206, content[10:20])


async def test_nothing_but_pictures_is_redirected_to(place):
    place.put("1/page.png", b"<html><script>alert(1)</script>")
    place.put("1/lying.png", picture(1, Format.PNG), media_type="text/html")
    place.put(".rehost/quarantine/x.png", picture(1, Format.PNG))
    async with place.open() as store:
        await store.mark_gone([Gone("1/gone.png", "", 451, 1)])
    async with by_uvicorn(place.redirecting()) as port:
        replies = [
            await ask(port, f"/{name}")
            for name in ("1/page.png", "1/no.png", ".rehost/quarantine/x.png", ".rehost/store-id", "1/gone.png")
        ]
        lying = await ask(port, "/1/lying.png")

    assert [reply.status for reply in replies] == [404, 404, 404, 404, 451]
    assert (lying.status, lying["content-type"], lying.body) == (200, "image/png", picture(1, Format.PNG))


async def test_the_name_of_a_copy_that_has_its_digest_makes_the_response_immutable(place, content):
    digest = hashlib.sha256(content).hexdigest()
    names = [f"1/main_image.{digits}.png" for digits in (digest[:16], "0123456789abcdef")]
    for name in names:
        place.put(name, content)
    async with by_uvicorn(CopyFiles(place.finder(), "public, max-age=3600")) as port:
        replies = [await ask(port, f"/{name}") for name in names]

    assert [reply["cache-control"] for reply in replies] == [IMMUTABLE, "public, max-age=3600"]


async def test_an_object_that_does_not_say_its_digest_has_that_of_its_bytes(place, content):
    place.put("1/foreign.png", content, digest="")
    place.put("1/wrong.png", content, digest="no digest")
    large = picture(4, Format.PNG) + bytes(range(256)) * 6000
    place.put("1/large.png", large, digest="")
    async with by_uvicorn(CopyFiles(place.finder())) as port:
        replies = [await ask(port, f"/1/{name}.png", "HEAD") for name in ("foreign", "wrong", "large")]

    digests = [hashlib.sha256(each).hexdigest() for each in (content, content, large)]
    assert [reply["etag"] for reply in replies] == [f'"{digest}"' for digest in digests]


async def test_a_known_copy_is_not_looked_up_again_for_a_minute_and_then_it_is(place, content, s3_faults):
    clock = LaterClock()
    finder = place.finder(clock, **s3_faults.env())
    async with by_uvicorn(CopyFiles(finder)) as port:
        tag = (await ask(port, f"/{KEY}"))["etag"]
        requests = len(s3_faults.requests)
        known = [(await ask(port, f"/{KEY}", if_none_match=tag)).status for _ in range(5)]
        asked = len(s3_faults.requests) - requests
        place.delete(KEY)
        clock.ahead = 61.0
        gone = (await ask(port, f"/{KEY}", if_none_match=tag)).status
        place.put(KEY, content)
        back = await ask(port, f"/{KEY}")

    assert (known, asked, gone) == ([304] * 5, 0, 404)
    assert (back.status, back.body) == (200, content)


async def test_a_copy_that_was_removed_or_replaced_meanwhile_is_not_sent_under_the_headers_of_before(place):
    other = picture(3, Format.PNG, 400, 300)
    async with by_uvicorn(CopyFiles(place.finder())) as port:
        first = await ask(port, f"/{KEY}")
        place.put(KEY, other)
        replaced = await ask(port, f"/{KEY}")
        async with place.open() as store:
            await store.mark_gone([Gone(KEY, hashlib.sha256(other).hexdigest(), 410, 1)])
        place.delete(KEY)
        gone = await ask(port, f"/{KEY}")

    assert first["etag"] != replaced["etag"] == f'"{hashlib.sha256(other).hexdigest()}"'
    assert (replaced.body, gone.status) == (other, 410)


async def test_a_bucket_that_refuses_or_is_not_there_is_503_in_seconds(place, s3_faults, caplog):
    s3_faults.refuse()
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    for aws in (s3_faults.env(), wrong):
        async with by_uvicorn(CopyFiles(place.finder(**aws))) as port:
            reply = await asyncio.wait_for(ask(port, f"/{KEY}"), 30)

        assert (reply.status, reply["retry-after"], reply["cache-control"]) == (503, "10", "no-store")
    assert "refuses access" in caplog.text


async def test_a_bucket_that_hangs_is_503_in_seconds_and_serves_again_afterwards(
    place, own_s3_server, content, tmp_path
):
    hanging = Place(own_s3_server, tmp_path)
    hanging.put(KEY, content)
    async with by_uvicorn(CopyFiles(hanging.finder())) as port:
        own_s3_server.hang()
        away = await asyncio.wait_for(asyncio.gather(*(ask(port, f"/{KEY}") for _ in range(40))), 60)
        own_s3_server.resume()
        there = await ask(port, f"/{KEY}")

    assert {reply.status for reply in away} == {503}
    assert (there.status, there.body) == (200, content)


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_memory_stays_flat_and_reading_ends_when_clients_go_away(place, serve, s3_faults):
    size = 40_000_000
    place.put("large.png", picture(4, Format.PNG) + bytes(size))
    finder = place.finder(**s3_faults.env())
    await finder.digest(await finder.find("large.png"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with serve(CopyFiles(finder)) as port:
        slow = []
        for _ in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            writer.write(request("/large.png"))
            await reader.readexactly(1)  # the answer has begun; the rest is not read
            slow.append(writer)
        reply = await asyncio.wait_for(ask(port, f"/{KEY}"), 60)
        for writer in slow:
            writer.transport.abort()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        requests = -1
        while requests != len(s3_faults.requests):  # what was being read then
            requests = len(s3_faults.requests)
            await asyncio.sleep(0.5)

    assert reply.status == 200
    assert grown < 200_000, "KiB; all bodies together are 1.2 GB"
    assert s3_faults.count("GET", "large.png") < 30 * size / (64 * 1024) / 5
