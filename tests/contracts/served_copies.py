"""How copies are served over HTTP, whatever store they are in: a test class of each store inherits this.

It gives a `port`, which serves them below PREFIX, and a `place` to `put` and `delete` them and to `open` the store.
The copy with the bytes `content` has KEY.
"""

import hashlib
import re

import pytest
from tests.pictures import WRITABLE, picture
from tests.server.conftest import KEY, PREFIX
from tests.server.lint import complaints
from tests.server.wire import ask

from rehost.model import Format
from rehost.server.files.response import IMMUTABLE, REVALIDATED
from rehost.store.base import Gone

URL = f"{PREFIX}/{KEY}"


class ServedCopies:
    async def test_copy_is_served_whole_with_its_headers(self, port, content):
        reply = await ask(port, URL)

        assert (reply.status, reply.body) == (200, content)
        assert reply["content-type"] == "image/png"
        assert reply["content-length"] == str(len(content))
        assert reply["accept-ranges"] == "bytes"
        assert reply["cache-control"] == REVALIDATED
        assert reply["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
        assert reply["last-modified"].endswith(" GMT")

    @pytest.mark.parametrize("kind", WRITABLE)
    async def test_media_type_comes_from_the_bytes(self, port, place, kind):
        place.put("liar.jpg", picture(2, kind))

        reply = await ask(port, f"{PREFIX}/liar.jpg")

        assert reply["content-type"] == kind.media_type

    @pytest.mark.parametrize("target", [URL, f"{PREFIX}/missing.png", f"{URL}?v=0123456789abcdef", "/"])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    async def test_every_response_has_the_safe_headers(self, port, target, method):
        reply = await ask(port, target, method)

        assert reply["x-content-type-options"] == "nosniff"
        assert reply["content-security-policy"] == "default-src 'none'; sandbox"
        assert reply["cross-origin-resource-policy"] == "cross-origin"
        if reply.status == 404 and target.startswith(PREFIX):
            assert reply["cache-control"] == "max-age=60"
        elif reply.status >= 400:
            assert reply["cache-control"] == "no-store"

    @pytest.mark.parametrize(("status", "word"), [(410, b"Gone"), (451, b"Unavailable For Legal Reasons")])
    async def test_a_copy_that_was_taken_down_is_gone_also_when_a_backup_is_put_back(
        self, port, place, content, status, word
    ):
        digest, other = hashlib.sha256(content).hexdigest(), picture(3, Format.PNG, 400, 300)
        async with place.open() as store:
            await store.mark_gone([Gone(KEY, digest, status, 1)])
            before = await ask(port, f"{PREFIX}/other.png")
            await store.remove(await store.file_ids([KEY]))

            replies = [await ask(port, URL, method) for method in ("GET", "HEAD")]
            place.put(KEY, content)
            restored = await ask(port, f"{URL}?v={digest[:16]}")
            place.put(KEY, other)
            replaced = await ask(port, URL)
            place.delete(KEY)
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

    @pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-9"}])
    async def test_head_is_get_without_the_body(self, port, headers):
        got = await ask(port, URL)

        reply = await ask(port, URL, "HEAD", **headers)

        assert (reply.status, reply.body) == (200, b"")
        assert [field for field in reply.fields if field[0] != "date"] == [f for f in got.fields if f[0] != "date"]

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    async def test_other_methods_are_refused(self, port, method, content):
        reply = await ask(port, URL, method)

        assert reply.status == 405
        assert reply["allow"] == "GET, HEAD"
        assert (await ask(port, URL)).body == content

    async def test_unchanged_copy_is_304(self, port):
        first = await ask(port, URL)

        by_tag = await ask(port, URL, if_none_match=first["etag"])
        by_date = await ask(port, URL, if_modified_since=first["last-modified"])

        for reply in (by_tag, by_date):
            assert (reply.status, reply.body) == (304, b"")
            assert reply["etag"] == first["etag"]
            assert reply["cache-control"] == first["cache-control"]

    async def test_failed_precondition_is_412(self, port):
        reply = await ask(port, URL, if_match='"another"')

        assert reply.status == 412
        assert reply["cache-control"] == "no-store"

    async def test_one_range_is_sent_alone(self, port, content):
        reply = await ask(port, URL, range="bytes=100-299")

        assert (reply.status, reply.body) == (206, content[100:300])
        assert reply["content-range"] == f"bytes 100-299/{len(content)}"
        assert reply["content-type"] == "image/png"

    async def test_several_ranges_come_in_parts(self, port, content):
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

    async def test_range_after_the_end_is_416(self, port, content):
        reply = await ask(port, URL, range="bytes=99999999-")

        assert reply.status == 416
        assert reply["content-range"] == f"bytes */{len(content)}"
        assert reply["cache-control"] == "no-store"

    async def test_if_range_continues_only_the_same_bytes(self, port, content):
        first = await ask(port, URL)

        same = await ask(port, URL, range="bytes=10-", if_range=first["etag"])
        other = await ask(port, URL, range="bytes=10-", if_range='"another"')

        assert (same.status, same.body) == (206, content[10:])
        assert (other.status, other.body) == (200, content)

    async def test_matching_digest_in_the_url_makes_the_response_immutable(self, port, content):
        digest = hashlib.sha256(content).hexdigest()

        reply = await ask(port, f"{URL}?v={digest[:16]}")

        assert (reply.status, reply.body) == (200, content)
        assert reply["cache-control"] == IMMUTABLE
        assert reply["etag"] == f'"{digest}"'

    @pytest.mark.parametrize("query", ["v=0123456789abcdef", "v=", "v=x", "v=%00", "w=1", "v"])
    async def test_other_digest_in_the_url_does_not(self, port, query):
        reply = await ask(port, f"{URL}?{query}")

        assert reply.status == 200
        assert reply["cache-control"] == REVALIDATED

    async def test_large_copy_arrives_whole(self, port, place):
        content = picture(4, Format.PNG) + bytes(range(256)) * 20_000
        place.put("large.png", content)

        whole = await ask(port, f"{PREFIX}/large.png")
        most = await ask(port, f"{PREFIX}/large.png", range="bytes=1-")

        assert whole.body == content
        assert most.body == content[1:]

    @pytest.mark.parametrize(
        "content",
        [b"", b"<html><script>alert(1)</script>", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"text"],
    )
    async def test_file_that_is_no_picture_is_404(self, port, place, content):
        place.put("page.png", content)

        reply = await ask(port, f"{PREFIX}/page.png")

        assert reply.status == 404

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
    async def test_httplint_finds_no_problem(self, port, content, method, target, headers):
        reply = await ask(port, target.replace("DIGEST", hashlib.sha256(content).hexdigest()), method, **headers)

        found = complaints(reply, method)
        if (reply["content-type"] or "").startswith("multipart/byteranges"):
            # httplint asks for what RFC 9110, section 15.3.7.2, forbids: the parts have it
            found.remove("This response is partial, but doesn't have a Content-Range header. (field-content-range)")
        assert found == []
