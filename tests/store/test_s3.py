import asyncio
import hashlib
import ssl
import subprocess
import sys

import pytest
import trustme
from tests.contracts.store import StoreContract, content, in_trash, listing, put
from tests.fakes import FakeClock
from tests.s3 import BUCKET

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.model import Bucket
from rehost.store import bucket
from rehost.store.base import Cause, Gone, Placement
from rehost.store.bucket import BucketClient
from rehost.store.s3 import IMMUTABLE, S3Store, read_marker


class Opener:
    """Opens stores in one place of the test's bucket, as several processes would."""

    def __init__(self, server, folder):
        self.server = server
        self.bucket = Bucket(BUCKET, server.fresh_prefix())
        self.folder = folder
        self.in_use = set()  # keys that the guard keeps

    async def guard(self, keys, work):
        await work(set(keys) - self.in_use)

    def client(self, **aws):
        return BucketClient(self.bucket, {**self.server.env(), **aws}, Clock(), outage_seconds=5.0)

    def __call__(self, *, reads_only=False, **aws):
        folder = self.folder / "spool"
        return S3Store(self.client(**aws), self.bucket, folder, clock=Clock(), guard=self.guard, reads_only=reads_only)

    def objects(self):
        found = self.server.objects(BUCKET, f"{self.bucket.prefix}/")
        return {name.removeprefix(f"{self.bucket.prefix}/"): size for name, size in found.items()}


@pytest.fixture
def opener(s3_server, tmp_path):
    return Opener(s3_server, tmp_path)


@pytest.fixture
async def store(opener):
    opener.server.put(BUCKET, f"{opener.bucket.prefix}/.rehost/store-id", b"the-id-of-this-store")
    async with opener() as store:
        yield store


class TestS3Store(StoreContract):
    pass


async def test_an_object_says_its_type_its_digest_and_that_it_never_changes(store, opener):
    await put(store, "1/x.0123456789abcdef.png", b"picture")

    found = opener.server.get(BUCKET, f"{opener.bucket.prefix}/1/x.0123456789abcdef.png")

    assert found.body == b"picture"
    assert (found.content_type, found.cache_control) == ("image/png", IMMUTABLE)
    assert found.metadata["sha256"] == hashlib.sha256(b"picture").hexdigest()


async def test_what_is_in_use_is_neither_removed_nor_trashed_nor_quarantined_nor_undone(store, opener):
    await put(store, "1/x.png", b"picture")
    opener.in_use.add("1/x.png")
    seen = await store.file_ids(["1/x.png"])

    await store.remove(seen)
    await store.trash(seen, Cause.REPLACED)
    await store.quarantine(seen)
    await store.undo(["1/x.png"])

    assert await content(store, "1/x.png") == b"picture"
    assert await in_trash(store) == []


async def test_confirmed_object_is_not_undone(store):
    await put(store, "1/x.png", b"picture")
    await store.confirm(["1/x.png"])

    await store.undo(["1/x.png"])

    assert await listing(store) == ["1/x.png"]


async def test_emptying_the_trash_deletes_nothing_that_came_meanwhile(store):
    await put(store, "1/x.png", b"picture")
    await store.trash(await store.file_ids(["1/x.png"]), Cause.REPLACED)
    due = await in_trash(store)
    await put(store, "1/x.png", b"picture")
    await store.trash(await store.file_ids(["1/x.png"]), Cause.REPLACED)

    await store.delete_trashed(due)

    assert [each.digest for each in await in_trash(store)] == [due[0].digest]
    assert (await store.spool_from_trash(due[0].digest)).read_bytes() == b"picture"


async def test_damaged_bytes_in_the_trash_do_not_hide_the_right_ones(store, opener):
    await put(store, "1/x.png", b"picture")
    await store.trash(await store.file_ids(["1/x.png"]), Cause.REMOVED)
    [good] = await in_trash(store)
    for number in range(3):
        damaged = f"{opener.bucket.prefix}/.rehost/trash/{good.name.rpartition('/')[0]}/{number:016x}"
        opener.server.put(BUCKET, damaged, b"damaged", {"x-amz-meta-sha256": good.digest})

    assert (await store.spool_from_trash(good.digest)).read_bytes() == b"picture"


async def test_an_object_that_others_uploaded_is_in_the_trash_under_its_digest(store, opener):
    opener.server.put(BUCKET, f"{opener.bucket.prefix}/1/x.png", b"picture")

    await store.trash(await store.file_ids(["1/x.png"]), Cause.REMOVED)

    assert [each.digest for each in await in_trash(store)] == [hashlib.sha256(b"picture").hexdigest()]


async def test_another_process_undoes_nothing_of_ours(store, opener):
    await put(store, "1/x.png", b"picture")
    async with opener() as other:
        await other.undo(["1/x.png"])

    assert await listing(store) == ["1/x.png"]


async def test_processes_that_open_an_empty_bucket_at_once_agree_on_its_id(opener):
    async def identity():
        async with opener() as store:
            return await store.identity()

    assert len(set(await asyncio.gather(*(identity() for _ in range(5))))) == 1


async def test_a_bucket_whose_marker_is_gone_or_another_is_no_longer_the_store(store, opener):
    await put(store, "1/x.png", b"picture")
    opener.server.delete(BUCKET, f"{opener.bucket.prefix}/.rehost/store-id")

    with pytest.raises(StoreError, match="no longer the store that it was"):
        await store.identity()


async def test_more_than_a_page_is_listed_and_deleted(store):
    keys = [f"{number}/x.png" for number in range(1100)]
    spools = [store.spool() for _ in keys]
    for spool in spools:
        spool.write_bytes(b"x")
    await store.place([Placement(spool, key) for spool, key in zip(spools, keys, strict=True)])

    assert await listing(store) == sorted(keys)
    assert len(await store.states(keys)) == 1100
    await store.remove(await store.file_ids(keys))
    assert await listing(store) == []


async def test_spools_go_with_the_process(opener):
    async with opener() as store:
        store.spool().write_bytes(b"untrusted")

    assert [path for path in opener.folder.rglob("*") if path.is_file() and path.name != "lock"] == []


async def test_marks_of_takedowns_are_objects_of_their_own_and_can_be_taken_back(store, opener):
    marks = [Gone("1/x.png", "ab" * 32, 410, 1), Gone("1/x.png", "ab" * 32, 451, 2), Gone("2/x.png", "", 410, 1)]
    await store.mark_gone(marks)
    assert len([name for name in opener.objects() if name.startswith(".rehost/gone/")]) == 3

    await store.unmark_gone(["1/x.png", "2/x.png"], 1)

    [left] = [name for name in opener.objects() if name.startswith(".rehost/gone/")]
    assert left.split("/")[4] == "2"


async def test_a_store_that_only_reads_creates_nothing(opener):
    async with opener(reads_only=True) as store:
        assert await listing(store) == []
        assert await content(store, "1/x.png") is None

    assert opener.objects() == {}
    assert list(opener.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("aws", "words"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses access .The request signature"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses access"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "at http://127.0.0.1:1 cannot be used, .*: Connection refused"),
        *(
            ({"AWS_ENDPOINT_URL": nonsense}, "no address such as")
            for nonsense in ("nonsense", "http://a:b", "http://127.0.0.1:99999", "http://a[b", "http://a b")
        ),
        ({"AWS_REGION": "far away"}, "AWS_REGION has characters"),
        ({"AWS_ACCESS_KEY_ID": "a\nb"}, "AWS_ACCESS_KEY_ID has characters"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "Missing SecretAccessKey"),
        (
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
            },
            "no credentials for the bucket",
        ),
    ],
)
async def test_a_bucket_that_cannot_be_used_is_said_in_a_sentence(opener, aws, words):
    with pytest.raises(StoreError, match=words) as caught:
        async with opener(**aws):
            pass

    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


async def test_a_certificate_that_nobody_vouches_for_is_the_cause_that_is_said(opener, monkeypatch):
    monkeypatch.setattr(bucket, "FIRST_SECONDS", 0.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        client = opener.client(AWS_ENDPOINT_URL=f"https://127.0.0.1:{port}")

        with pytest.raises(StoreError, match="TLS: UnknownIssuer"):
            await client.head("x")


async def test_a_server_that_has_answered_may_be_away_for_longer_than_a_new_one(opener, s3_faults, monkeypatch):
    monkeypatch.setattr(bucket, "FIRST_SECONDS", 1.0)  # else obstore's own retries take real seconds
    clock = FakeClock(hurry=True)
    client = BucketClient(opener.bucket, s3_faults.env(), clock, outage_seconds=5.0)
    waited = []
    for _ in range(2):
        s3_faults.refuse()
        start = clock.monotonic()
        with pytest.raises(StoreError, match="cannot be used, after"):
            await client.head("x")
        waited.append(clock.monotonic() - start)
        s3_faults.accept()
        assert await client.head("x") is None

    assert 1 <= waited[0] < 5 <= waited[1]


async def test_a_bucket_that_does_not_exist_is_named(opener):
    opener.bucket = Bucket("no-such-bucket", "x")

    with pytest.raises(StoreError, match="no bucket no-such-bucket at http"):
        async with opener():
            pass
    with pytest.raises(StoreError, match="no bucket no-such-bucket at http"):
        async with opener(reads_only=True) as store:
            await listing(store)
    with pytest.raises(StoreError, match="no bucket no-such-bucket at http"):
        await read_marker(opener.client())


def test_a_store_in_a_folder_needs_no_obstore(opener, monkeypatch):
    program = "import sys, rehost.wiring.run, rehost.wiring.server; sys.exit('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0

    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StoreError, match=r"pip install '\.\[s3\]'"):
        opener.client()
