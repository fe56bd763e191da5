"""Thumbnails: small, upright, made once, kept within a bound; and the copy itself if none can be made."""

from __future__ import annotations

import asyncio
import hashlib
import io
from contextlib import asynccontextmanager
from functools import partial

import PIL.Image
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.pictures import picture
from tests.server.conftest import by_granian, by_uvicorn, media_type
from tests.server.wire import ask

from rehost.clock import Clock
from rehost.images.verifier import Thumbnailer
from rehost.model import Format
from rehost.server.dashboard.thumbnails import SIDE_PIXELS, SMALL_BYTES, Thumbnails
from rehost.server.files.copies import CopyFiles
from rehost.server.files.finder import FileFinder
from rehost.server.files.response import IMMUTABLE, REVALIDATED
from rehost.server.resources import Lazy
from rehost.store.base import Gone
from rehost.store.local import LocalStore

KEY = "1/main_image.png"


def noisy(width=900, height=1200, kind="PNG", **options):
    content = io.BytesIO()
    PIL.Image.effect_noise((width, height), 60).convert("RGB").save(content, kind, **options)
    return content.getvalue()


class Counting:
    """Counts the thumbnails that real decoder processes make."""

    def __init__(self, maker):
        self.maker = maker
        self.made = 0

    async def make(self, path, side):
        self.made += 1
        return await self.maker.make(path, side)


@pytest.fixture
def makers():
    return []


@pytest.fixture
def make_thumbnails(root, makers):
    @asynccontextmanager
    async def opening():
        async with Thumbnailer(
            max_pixels=50_000_000, max_frames=2000, max_total_pixels=10**9, decode_memory_bytes=512 << 20, processes=1
        ) as maker:
            makers.append(Counting(maker))
            yield makers[0]

    return partial(Thumbnails, CopyFiles(FileFinder(root, media_type)), Lazy(opening))


@pytest.fixture
def thumbs(make_thumbnails):
    return make_thumbnails()


@pytest.fixture
async def port(thumbs):
    async with by_uvicorn(Starlette(routes=[Mount("/thumbs", thumbs)])) as port:
        yield port
    await thumbs.close()


def put(root, content, key=KEY):
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def shown(reply):
    image = PIL.Image.open(io.BytesIO(reply.body))
    image.load()
    return image


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_large_copy_has_a_small_thumbnail(root, thumbs, serve):
    content = noisy()
    put(root, content)
    digest = hashlib.sha256(content).hexdigest()

    async with serve(Starlette(routes=[Mount("/thumbs", thumbs)])) as port:
        reply = await ask(port, f"/thumbs/{KEY}?v={digest[:16]}")
        plain = await ask(port, f"/thumbs/{KEY}")
        known = await ask(port, f"/thumbs/{KEY}", if_none_match=reply["etag"])
        head = await ask(port, f"/thumbs/{KEY}", "HEAD")
    await thumbs.close()

    assert (reply.status, reply["content-type"], reply["cache-control"]) == (200, "image/webp", IMMUTABLE)
    assert shown(reply).size == (SIDE_PIXELS * 3 // 4, SIDE_PIXELS)
    assert len(reply.body) < len(content) / 10
    assert (plain.body, plain["cache-control"]) == (reply.body, REVALIDATED)
    assert (known.status, known.body, head.status, head.body) == (304, b"", 200, b"")
    assert reply["content-security-policy"] == "default-src 'none'; sandbox"


async def test_concurrent_requests_make_one_thumbnail(root, port, makers):
    put(root, noisy())

    replies = await asyncio.gather(*(ask(port, f"/thumbs/{KEY}") for _ in range(20)))

    assert len({reply.body for reply in replies}) == 1
    assert makers[0].made == 1


async def test_replaced_copy_gets_a_new_thumbnail(root, port):
    put(root, noisy())
    first = await ask(port, f"/thumbs/{KEY}")
    (root / "spool").write_bytes(noisy(1200, 900))
    (root / "spool").rename(root / KEY)

    second = await ask(port, f"/thumbs/{KEY}")

    assert (shown(first).size, shown(second).size) == ((360, 480), (480, 360))


async def test_small_copy_is_served_as_it_is(root, port, makers):
    content = picture(1, Format.PNG, 40, 30)
    assert len(content) < SMALL_BYTES
    put(root, content)

    reply = await ask(port, f"/thumbs/{KEY}")

    assert (reply.body, reply["content-type"], makers) == (content, "image/png", [])


async def test_copy_without_a_thumbnail_is_served_as_it_is_and_tried_once(root, port, makers):
    content = noisy()[:200_000]
    put(root, content)

    replies = [await ask(port, f"/thumbs/{KEY}") for _ in range(2)]

    assert {reply.body for reply in replies} == {content}
    assert makers[0].made == 1


async def test_rotated_photograph_is_shown_upright(root, port):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees (TIFF tag Orientation)
    put(root, noisy(900, 600, "JPEG", exif=exif), "1/x.jpg")

    reply = await ask(port, "/thumbs/1/x.jpg")

    assert shown(reply).size == (320, 480)


async def test_only_copies_have_thumbnails(root, port):
    put(root, noisy(), "../secret.png")
    put(root, noisy(), ".rehost/x.png")

    for target in ("missing.png", "../secret.png", ".rehost/x.png", "%2e%2e/secret.png", ""):
        assert (await ask(port, f"/thumbs/{target}")).status == 404, target


async def test_memory_is_bounded(root, make_thumbnails, makers):
    thumbnails = make_thumbnails(max_bytes=60_000)
    async with by_uvicorn(Starlette(routes=[Mount("/thumbs", thumbnails)])) as port:
        for number in range(4):
            put(root, noisy(), f"{number}.png")
            reply = await ask(port, f"/thumbs/{number}.png")
        await ask(port, "/thumbs/0.png")
    await thumbnails.close()

    assert len(reply.body) < 60_000
    assert 0 < thumbnails.kept_bytes <= 60_000
    assert makers[0].made == 5  # the first one had been dropped


async def test_a_thumbnail_of_a_copy_that_was_taken_down_is_gone_though_it_was_kept(root, thumbs, port):
    put(root, noisy())
    before = await ask(port, f"/thumbs/{KEY}")
    async with LocalStore(root, clock=Clock()) as store:
        await store.mark_gone([Gone(KEY, "-", 410, 1)])
        await store.remove(await store.file_ids([KEY]))

    after = await ask(port, f"/thumbs/{KEY}")

    assert (before.status, thumbs.kept_bytes > 0) == (200, True)
    assert (after.status, after.body) == (410, b"Gone\n")
