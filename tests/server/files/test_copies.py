import asyncio
import hashlib
import os
import socket
import time
from email.utils import parsedate_to_datetime

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.contracts.served_copies import ServedCopies
from tests.pictures import picture
from tests.server.conftest import KEY, PREFIX, by_granian, by_uvicorn, media_type
from tests.server.lint import complaints
from tests.server.wire import ask, request

from rehost.clock import Clock
from rehost.model import Format
from rehost.server.files.copies import CopyFiles
from rehost.server.files.finder import FileFinder
from rehost.server.files.response import IMMUTABLE
from rehost.server.files.send import WHOLE_BYTES
from rehost.store.base import Gone
from rehost.store.local import LocalStore

URL = f"{PREFIX}/{KEY}"

pytestmark = pytest.mark.usefixtures("copy")


class TestCopiesOnADisk(ServedCopies):
    pass


async def test_any_file_in_the_store_is_served_as_a_picture_or_not_at_all(port, place, shared):
    """Polyglots, bombs, pages and disputed pictures: no browser is to take one for anything else."""
    files = [path for path in sorted((shared / "corpus").glob("*/*")) if path.is_file()]
    types = set()
    for number, path in enumerate(files):
        place.put(f"{number}/foreign.jpg", path.read_bytes())
        reply = await ask(port, f"{PREFIX}/{number}/foreign.jpg", "HEAD")
        assert reply["x-content-type-options"] == "nosniff", path
        assert reply["content-security-policy"] == "default-src 'none'; sandbox", path
        if reply.status == 200:
            types.add(reply["content-type"])
        else:
            assert reply.status == 404, path

    assert types == {kind.media_type for kind in Format}


async def test_a_451_names_who_blocks_the_copy(root, copy):
    files = CopyFiles(FileFinder(root, media_type), blocked_by="https://shop.example/legal")
    async with LocalStore(root, clock=Clock()) as store:
        await store.mark_gone([Gone("1/x.png", "-", 451, 1), Gone("2/x.png", "-", 410, 2)])
    async with by_uvicorn(files) as port:
        legal, gone = [await ask(port, f"/{number}/x.png") for number in (1, 2)]

    assert (legal.status, legal["link"]) == (451, '<https://shop.example/legal>; rel="blocked-by"')
    assert (gone.status, dict(gone.fields).get("link")) == (410, None)


async def test_replaced_copy_is_sent_again(port, copy, root):
    first = await ask(port, URL)
    spool = root / "spool"
    spool.write_bytes(picture(3, Format.PNG, 400, 300))
    os.utime(spool, ns=(0, copy.stat().st_mtime_ns))
    spool.rename(copy)

    reply = await ask(port, URL, if_none_match=first["etag"])

    assert reply.status == 200
    assert reply["etag"] != first["etag"]
    assert reply.body == picture(3, Format.PNG, 400, 300)


async def test_entity_tag_is_the_same_on_another_server_and_after_a_restore(port, tmp_path, content):
    first = await ask(port, URL)
    restored = tmp_path / "restored" / KEY
    restored.parent.mkdir(parents=True)
    restored.write_bytes(content)
    os.utime(restored, (1, 1))
    async with by_uvicorn(CopyFiles(FileFinder(tmp_path / "restored", media_type))) as other:
        again = await ask(other, f"/{KEY}", if_none_match=first["etag"])

    assert (again.status, again["etag"]) == (304, first["etag"])


async def test_cache_control_is_what_the_operator_wants(root, content):
    digest = hashlib.sha256(content).hexdigest()
    found = {}
    for wanted in ("public, max-age=3600", ""):
        async with by_uvicorn(CopyFiles(FileFinder(root, media_type), wanted)) as port:
            replies = [await ask(port, f"/{KEY}{query}") for query in ("", "?v=0123456789abcdef", f"?v={digest[:16]}")]
            found[wanted] = [reply["cache-control"] for reply in replies]

    assert found == {"public, max-age=3600": ["public, max-age=3600"] * 2 + [IMMUTABLE], "": [None, None, IMMUTABLE]}


async def test_failing_disk_is_503(root, content):
    def fail(_):
        raise OSError(5, "Input/output error")

    async with by_uvicorn(CopyFiles(FileFinder(root, fail))) as port:
        reply = await ask(port, f"/{KEY}")

    assert reply.status == 503
    assert reply["cache-control"] == "no-store"
    assert reply["retry-after"] == "10"


@pytest.mark.parametrize(("seconds_old", "is_sent"), [(65, True), (50, False), (-3600, False)])
async def test_a_new_copy_has_no_last_modified_which_could_be_after_date(port, copy, seconds_old, is_sent):
    """Servers take Date once a second, and later when they are busy."""
    written = time.time() - seconds_old
    os.utime(copy, (written, written))

    reply = await ask(port, URL)

    assert reply.status == 200
    sent = reply["last-modified"]
    assert (sent and parsedate_to_datetime(sent).timestamp()) == (int(written) if is_sent else None)
    assert complaints(reply) == []


@pytest.mark.parametrize(("size", "kinds"), [(WHOLE_BYTES, ["body"]), (WHOLE_BYTES + 1, ["pathsend"])])
async def test_server_sends_large_copies_by_itself_and_small_ones_come_in_one_message(root, content, size, kinds):
    (root / "1.png").write_bytes(content.ljust(size, b"-"))
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/1.png", "query_string": b"", "headers": []}
    await CopyFiles(FileFinder(root, media_type))({**scope, "extensions": {"http.response.pathsend": {}}}, None, send)

    assert [message["type"] for message in sent] == [f"http.response.{kind}" for kind in ("start", *kinds)]
    assert sent[-1].get("body", (root / "1.png").read_bytes()) == (root / "1.png").read_bytes()
    assert sent[-1].get("path", str(root / "1.png")) == str(root / "1.png")


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_other_applications_mount_the_copies_in_one_line(root, content, serve):
    application = Starlette(routes=[Mount(PREFIX, CopyFiles(FileFinder(root, media_type)))])

    async with serve(application) as port:
        reply = await ask(port, URL)
        missing = await ask(port, f"{PREFIX}/")

    assert (reply.status, reply.body) == (200, content)
    assert missing.status == 404


async def test_folder_that_appears_later_is_served(tmp_path, content):
    root = tmp_path / "later"
    async with by_uvicorn(CopyFiles(FileFinder(root, media_type))) as port:
        before = await ask(port, "/1/x.png")
        (root / "1").mkdir(parents=True)
        (root / "1" / "x.png").write_bytes(content)
        after = await ask(port, "/1/x.png")

    assert (before.status, after.status) == (404, 200)


async def test_slow_clients_do_not_block_a_fast_one(port, root, content):
    (root / "large.png").write_bytes(picture(4, Format.PNG) + bytes(4_000_000))
    slow = []
    for number in range(200):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(request(f"{PREFIX}/large.png", **({"range": "bytes=5-"} if number % 2 else {})))
        await reader.readexactly(1)  # the answer has begun; the rest is not read
        slow.append(writer)

    reply = await asyncio.wait_for(ask(port, URL), 5)

    assert reply.body == content
    for writer in slow:
        writer.transport.abort()
