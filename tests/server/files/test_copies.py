import asyncio
import hashlib
import os
import re
import socket
import time
from email.utils import parsedate_to_datetime

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.pictures import WRITABLE, picture
from tests.server.conftest import KEY, PREFIX, by_granian, by_uvicorn, media_type
from tests.server.lint import complaints
from tests.server.wire import ask, request

from rehost.clock import Clock
from rehost.model import Format
from rehost.server.files.copies import CopyFiles
from rehost.server.files.response import IMMUTABLE, REVALIDATED
from rehost.store.base import Gone
from rehost.store.local import LocalStore

URL = f"{PREFIX}/{KEY}"

pytestmark = pytest.mark.usefixtures("copy")


async def test_copy_is_served_whole_with_its_headers(port, copy, content):
    reply = await ask(port, URL)

    assert (reply.status, reply.body) == (200, content)
    assert reply["content-type"] == "image/png"
    assert reply["content-length"] == str(len(content))
    assert reply["accept-ranges"] == "bytes"
    assert reply["cache-control"] == REVALIDATED
    assert reply["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert reply["last-modified"].endswith(" GMT")


@pytest.mark.parametrize("kind", WRITABLE)
async def test_media_type_comes_from_the_bytes(port, root, kind):
    (root / "liar.jpg").write_bytes(picture(2, kind))

    reply = await ask(port, f"{PREFIX}/liar.jpg")

    assert reply["content-type"] == kind.media_type


@pytest.mark.parametrize("target", [URL, f"{PREFIX}/missing.png", f"{URL}?v=0123456789abcdef", "/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_every_response_has_the_safe_headers(port, target, method):
    reply = await ask(port, target, method)

    assert reply["x-content-type-options"] == "nosniff"
    assert reply["content-security-policy"] == "default-src 'none'; sandbox"
    assert reply["cross-origin-resource-policy"] == "cross-origin"
    if reply.status == 404 and target.startswith(PREFIX):
        assert reply["cache-control"] == "max-age=60"
    elif reply.status >= 400:
        assert reply["cache-control"] == "no-store"


async def test_any_file_in_the_store_is_served_as_a_picture_or_not_at_all(port, root, shared):
    """Polyglots, bombs, pages and disputed pictures: no browser is to take one for anything else."""
    files = [path for path in sorted((shared / "corpus").glob("*/*")) if path.is_file()]
    types = set()
    for path in files:
        (root / "foreign.jpg").write_bytes(path.read_bytes())
        reply = await ask(port, f"{PREFIX}/foreign.jpg", "HEAD")
        assert reply["x-content-type-options"] == "nosniff", path
        assert reply["content-security-policy"] == "default-src 'none'; sandbox", path
        if reply.status == 200:
            types.add(reply["content-type"])
        else:
            assert reply.status == 404, path

    assert types == {kind.media_type for kind in Format}


@pytest.mark.parametrize(("status", "word"), [(410, b"Gone"), (451, b"Unavailable For Legal Reasons")])
async def test_a_copy_that_was_taken_down_is_gone_also_when_a_backup_is_put_back(port, root, content, status, word):
    digest, other = hashlib.sha256(content).hexdigest(), picture(3, Format.PNG, 400, 300)
    async with LocalStore(root, clock=Clock()) as store:
        await store.mark_gone([Gone(KEY, digest, status, 1)])
        before = await ask(port, f"{PREFIX}/other.png")
        await store.remove(await store.file_ids([KEY]))

        replies = [await ask(port, URL, method) for method in ("GET", "HEAD")]
        (root / KEY).parent.mkdir()
        (root / KEY).write_bytes(content)
        restored = await ask(port, f"{URL}?v={digest[:16]}")
        (root / KEY).write_bytes(other)
        replaced = await ask(port, URL)
        (root / KEY).unlink()
        await store.unmark_gone([KEY], 1)
        allowed = await ask(port, URL)

    assert (before.status, allowed.status) == (404, 404)
    assert [(reply.status, reply.body.strip()) for reply in (*replies, restored)] == [
        (status, word), (status, b""), (status, word)
    ]  # fmt: skip
    for reply in (*replies, restored):
        assert reply["content-type"] == "text/plain; charset=utf-8"
        assert reply["x-content-type-options"] == "nosniff"
        assert reply["cache-control"] == "max-age=60"
        assert int(reply["content-length"]) == len(word) + 1
        assert "etag" not in dict(reply.fields)
    assert (replaced.status, replaced.body) == (200, other)


async def test_a_451_names_who_blocks_the_copy(root, copy):
    files = CopyFiles(root, media_type, blocked_by="https://shop.example/legal")
    async with LocalStore(root, clock=Clock()) as store:
        await store.mark_gone([Gone("1/x.png", "-", 451, 1), Gone("2/x.png", "-", 410, 2)])
    async with by_uvicorn(files) as port:
        legal, gone = [await ask(port, f"/{number}/x.png") for number in (1, 2)]

    assert (legal.status, legal["link"]) == (451, '<https://shop.example/legal>; rel="blocked-by"')
    assert (gone.status, dict(gone.fields).get("link")) == (410, None)


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-9"}])
async def test_head_is_get_without_the_body(port, headers, content):
    got = await ask(port, URL)

    reply = await ask(port, URL, "HEAD", **headers)

    assert (reply.status, reply.body) == (200, b"")
    assert [field for field in reply.fields if field[0] != "date"] == [f for f in got.fields if f[0] != "date"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(port, copy, method):
    reply = await ask(port, URL, method)

    assert reply.status == 405
    assert reply["allow"] == "GET, HEAD"
    assert copy.exists()


async def test_unchanged_copy_is_304(port):
    first = await ask(port, URL)

    by_tag = await ask(port, URL, if_none_match=first["etag"])
    by_date = await ask(port, URL, if_modified_since=first["last-modified"])

    for reply in (by_tag, by_date):
        assert (reply.status, reply.body) == (304, b"")
        assert reply["etag"] == first["etag"]
        assert reply["cache-control"] == first["cache-control"]


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
    async with by_uvicorn(CopyFiles(tmp_path / "restored", media_type)) as other:
        again = await ask(other, f"/{KEY}", if_none_match=first["etag"])

    assert (again.status, again["etag"]) == (304, first["etag"])


async def test_cache_control_is_what_the_operator_wants(root, content):
    digest = hashlib.sha256(content).hexdigest()
    found = {}
    for wanted in ("public, max-age=3600", ""):
        async with by_uvicorn(CopyFiles(root, media_type, wanted)) as port:
            replies = [await ask(port, f"/{KEY}{query}") for query in ("", "?v=0123456789abcdef", f"?v={digest[:16]}")]
            found[wanted] = [reply["cache-control"] for reply in replies]

    assert found == {"public, max-age=3600": ["public, max-age=3600"] * 2 + [IMMUTABLE], "": [None, None, IMMUTABLE]}


async def test_failed_precondition_is_412(port):
    reply = await ask(port, URL, if_match='"another"')

    assert reply.status == 412
    assert reply["cache-control"] == "no-store"


async def test_one_range_is_sent_alone(port, content):
    reply = await ask(port, URL, range="bytes=100-299")

    assert (reply.status, reply.body) == (206, content[100:300])
    assert reply["content-range"] == f"bytes 100-299/{len(content)}"
    assert reply["content-type"] == "image/png"


async def test_several_ranges_come_in_parts(port, content):
    reply = await ask(port, URL, range="bytes=0-9,1000-1999,-10")

    assert reply.status == 206
    boundary = re.fullmatch(r"multipart/byteranges; boundary=([0-9a-f]{32})", reply["content-type"])[1]
    head, *parts, end = reply.body.split(f"--{boundary}".encode())
    assert (head, end) == (b"", b"--\r\n")
    assert [part.removesuffix(b"\r\n").partition(b"\r\n\r\n")[2] for part in parts] == [
        content[:10],
        content[1000:2000],
        content[-10:],
    ]
    assert f"Content-Range: bytes 1000-1999/{len(content)}".encode() in parts[1]


async def test_range_after_the_end_is_416(port, content):
    reply = await ask(port, URL, range="bytes=99999999-")

    assert reply.status == 416
    assert reply["content-range"] == f"bytes */{len(content)}"
    assert reply["cache-control"] == "no-store"


async def test_if_range_continues_only_the_same_bytes(port, content):
    first = await ask(port, URL)

    same = await ask(port, URL, range="bytes=10-", if_range=first["etag"])
    other = await ask(port, URL, range="bytes=10-", if_range='"another"')

    assert (same.status, same.body) == (206, content[10:])
    assert (other.status, other.body) == (200, content)


async def test_matching_digest_in_the_url_makes_the_response_immutable(port, content):
    digest = hashlib.sha256(content).hexdigest()

    reply = await ask(port, f"{URL}?v={digest[:16]}")

    assert (reply.status, reply.body) == (200, content)
    assert reply["cache-control"] == IMMUTABLE
    assert reply["etag"] == f'"{digest}"'


@pytest.mark.parametrize("query", ["v=0123456789abcdef", "v=", "v=x", "v=%00", "w=1", "v"])
async def test_other_digest_in_the_url_does_not(port, query):
    reply = await ask(port, f"{URL}?{query}")

    assert reply.status == 200
    assert reply["cache-control"] == REVALIDATED


async def test_large_copy_arrives_whole(port, root):
    content = picture(4, Format.PNG) + bytes(range(256)) * 20_000
    (root / "large.png").write_bytes(content)

    whole = await ask(port, f"{PREFIX}/large.png")
    most = await ask(port, f"{PREFIX}/large.png", range="bytes=1-")

    assert whole.body == content
    assert most.body == content[1:]


@pytest.mark.parametrize(
    "content",
    [b"", b"<html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"text"],
)
async def test_file_that_is_no_picture_is_404(port, root, content):
    (root / "page.png").write_bytes(content)

    reply = await ask(port, f"{PREFIX}/page.png")

    assert reply.status == 404


async def test_failing_disk_is_503(root, content):
    def fail(_):
        raise OSError(5, "Input/output error")

    async with by_uvicorn(CopyFiles(root, fail)) as port:
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


@pytest.mark.parametrize("serve", [by_uvicorn, by_granian])
async def test_other_applications_mount_the_copies_in_one_line(root, content, serve):
    application = Starlette(routes=[Mount(PREFIX, CopyFiles(root, media_type))])

    async with serve(application) as port:
        reply = await ask(port, URL)
        missing = await ask(port, f"{PREFIX}/")

    assert (reply.status, reply.body) == (200, content)
    assert missing.status == 404


async def test_folder_that_appears_later_is_served(tmp_path, content):
    root = tmp_path / "later"
    async with by_uvicorn(CopyFiles(root, media_type)) as port:
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


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", URL, {}),
        ("HEAD", URL, {}),
        ("GET", f"{URL}?v=DIGEST", {}),
        ("GET", URL, {"if_none_match": "*"}),
        ("GET", URL, {"range": "bytes=0-99"}),
        ("GET", URL, {"range": "bytes=0-99,500-599"}),
        ("GET", URL, {"range": "bytes=99999999-"}),
        ("GET", f"{PREFIX}/missing.png", {}),
        ("POST", URL, {}),
    ],
)
async def test_httplint_finds_no_problem(port, content, method, target, headers):
    reply = await ask(port, target.replace("DIGEST", hashlib.sha256(content).hexdigest()), method, **headers)

    found = complaints(reply, method)
    if (reply["content-type"] or "").startswith("multipart/byteranges"):
        # httplint asks for what RFC 9110, section 15.3.7.2, forbids: the parts have it
        found.remove("This response is partial, but doesn't have a Content-Range header. (field-content-range)")
    assert found == []
