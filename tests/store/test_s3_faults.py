"""A bucket on a server that fails in every way: nothing partial, nothing lost, and each end of it in a sentence."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from contextlib import asynccontextmanager

import pytest
from tests.contracts.store import content, in_trash, listing, put
from tests.s3 import BUCKET
from tests.s3_faults import Fault

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.model import Bucket
from rehost.store.base import Cause, Placement
from rehost.store.bucket import REQUEST_SECONDS, BucketClient
from rehost.store.s3 import S3Store

PICTURE = bytes(range(256)) * 400  # 102,400 bytes
MOST_SECONDS = 60


@asynccontextmanager
async def opened(server, folder, outage_seconds=30.0, min_free_bytes=0, request_seconds=REQUEST_SECONDS, **aws):
    """Open a store on the server, or through a proxy before it."""
    behind = getattr(server, "server", server)
    bucket = Bucket(BUCKET, behind.fresh_prefix())
    behind.put(BUCKET, f"{bucket.prefix}/.rehost/store-id", b"the-id-of-this-store")
    client = BucketClient(bucket, server.env(**aws), Clock(), outage_seconds, request_seconds)

    async def guard(keys, work):
        await work(keys)

    async with S3Store(
        client, bucket, folder / "spool", clock=Clock(), guard=guard, min_free_bytes=min_free_bytes
    ) as store:
        yield store


@pytest.fixture
async def store(s3_faults, tmp_path):
    async with opened(s3_faults, tmp_path) as store:
        yield store


@pytest.fixture
async def impatient(s3_faults, tmp_path):
    """A store that allows a second and a half for a request without a body."""
    async with opened(s3_faults, tmp_path, request_seconds=1.5) as store:
        yield store


@pytest.fixture
async def hasty(s3_faults, tmp_path):
    """A store that gives up after a moment."""
    async with opened(s3_faults, tmp_path, outage_seconds=0.5) as store:
        yield store


def is_sentence(error: Exception) -> bool:
    text = str(error)
    return len(text) < 500 and "\n" not in text and "Debug" not in text and "<" not in text and text.endswith(".")


async def put_many(store: S3Store, number: int) -> list[str]:
    placements = [Placement(store.spool(), f"{each}/x.png") for each in range(number)]
    for each in placements:
        each.spool.write_bytes(PICTURE + each.key.encode())
    await store.place(placements)
    return [each.key for each in placements]


# --- requests that fail, and then do not


@pytest.mark.parametrize(
    "fault",
    [
        Fault(times=4, status=503, code="SlowDown"),
        Fault(times=4, status=500),
        Fault(times=4, cut_after=50_000),  # of the body
        Fault(times=4, swallow=True),  # it has arrived
        Fault(times=1, delay=0.3),
    ],
    ids=["slow-down", "error", "cut", "swallowed", "slow"],
)
async def test_a_put_that_fails_for_a_while_is_done_once_and_whole(store, s3_faults, fault):
    s3_faults.add(fault)

    await put(store, "1/x.png", PICTURE)

    assert fault.times == 0 or fault.swallow  # after a swallowed answer it asks what is there
    assert await listing(store) == ["1/x.png"]
    assert await content(store, "1/x.png") == PICTURE
    assert list(await store.states(["1/x.png"])) == ["1/x.png"]


async def test_a_put_of_which_no_answer_ever_comes_is_known_to_be_done(store, s3_faults):
    s3_faults.add(Fault(swallow=True))

    await put(store, "1/x.png", PICTURE)

    assert await content(store, "1/x.png") == PICTURE


async def test_after_an_error_another_object_under_the_name_does_not_pass_for_ours(store, s3_faults):
    await put(store, "1/x.png", PICTURE[::-1])
    s3_faults.add(Fault(times=3, status=500))

    await put(store, "1/x.png", PICTURE)

    assert await content(store, "1/x.png") == PICTURE


async def test_a_copy_whose_answer_is_cut_is_read_again_from_its_start(store, s3_faults):
    await put(store, "1/x.png", PICTURE)
    fault = s3_faults.add(Fault("GET", "1/x.png", times=2, cut_answer_after=60_000))

    assert await content(store, "1/x.png") == PICTURE
    assert fault.times == 0


async def test_a_listing_that_is_cut_goes_on_where_it_was(store, s3_faults, request):
    number = 1100 if request.config.getoption("full") else 50  # a page of the server has 1000
    keys = [f"{each}/x.png" for each in range(number)]
    spools = [store.spool() for _ in keys]
    for spool in spools:
        spool.write_bytes(b"x")
    await store.place([Placement(spool, key) for spool, key in zip(spools, keys, strict=True)])
    cut = Fault("GET", times=4, cut_answer_after=3000)
    found: list[str] = []
    if number < 1000:
        s3_faults.add(cut)

    async for group in store.keys():
        found += group
        if not s3_faults.faults:
            s3_faults.add(cut)

    assert sorted(found) == sorted(keys)
    assert not cut.times


@pytest.mark.parametrize("key", [".rehost/trash", ""])  # the copy, and the deletion
async def test_a_move_to_the_trash_that_fails_for_a_while_is_done(store, s3_faults, key):
    await put(store, "1/x.png", PICTURE)
    seen = await store.file_ids(["1/x.png"])
    s3_faults.add(Fault("PUT" if key else "POST", key, times=4, swallow=True))

    await store.trash(seen, Cause.REMOVED)

    assert await listing(store) == []
    assert {each.digest for each in await in_trash(store)} == {hashlib.sha256(PICTURE).hexdigest()}


async def test_a_server_that_was_away_is_waited_for(store, s3_faults, caplog):
    caplog.set_level(logging.WARNING, "rehost.store.bucket")
    s3_faults.refuse()
    placing = asyncio.create_task(put_many(store, 5))
    async with asyncio.timeout(MOST_SECONDS):
        while not caplog.messages:
            await asyncio.sleep(0.01)
    s3_faults.accept()

    assert sorted(await placing) == await listing(store)
    assert [message for message in caplog.messages if "waiting for it" in message][1:] == []
    assert "answers again" in caplog.messages[-1]


async def test_puts_that_are_under_way_when_the_server_is_killed_or_hangs_are_done_once_it_is_back(
    own_s3_server, tmp_path
):
    async with opened(own_s3_server, tmp_path, outage_seconds=MOST_SECONDS) as store:
        placing = asyncio.create_task(put_many(store, 60))
        async with asyncio.timeout(MOST_SECONDS):
            while not any(name.endswith(".png") for name in own_s3_server.objects(BUCKET)):
                await asyncio.sleep(0)
        await asyncio.to_thread(own_s3_server.kill)
        await asyncio.to_thread(own_s3_server.start)
        keys = await placing
        own_s3_server.hang()
        again = asyncio.create_task(put_many(store, 20))
        done, _ = await asyncio.wait([again], timeout=0.5)
        assert not done
        own_s3_server.resume()
        await again

        bodies = [await content(store, key) for key in keys]
        assert bodies == [PICTURE + key.encode() for key in keys]
        # Once in a while SeaweedFS leaves objects out of its listing that it has, if it was killed while it wrote them.
        assert set(await listing(store)) == set(keys) & {
            name.split("/", 1)[1] for name in own_s3_server.objects(BUCKET)
        }


# --- slow connections


@pytest.mark.parametrize(("size", "is_late"), [(2**22, False), (100, True)], ids=["large", "small"])
async def test_a_body_has_time_to_be_sent_at_a_slow_rate(impatient, s3_faults, caplog, size, is_late):
    """A second and a half for the request, and minutes for 4 MB at 32 KB a second."""
    s3_faults.add(Fault(key="1/x.png", delay=4.0))

    await put(impatient, "1/x.png", bytes(size))

    assert any("waiting for it: Connection timed out" in each for each in caplog.messages) == is_late
    assert s3_faults.count("PUT", "1/x.png") == 1
    assert await content(impatient, "1/x.png") == bytes(size)


async def test_time_for_a_body_is_no_outage(s3_faults, tmp_path, monkeypatch):
    """The first try takes all of its time, longer than a server may be away; the second one succeeds."""
    monkeypatch.setattr("rehost.store.bucket.SLOWEST", 1 << 20)
    async with opened(s3_faults, tmp_path, outage_seconds=3.0, request_seconds=1.5) as store:
        s3_faults.add(Fault(key="1/x.png", cut_after=0, hold_request=threading.Event(), times=1))

        await put(store, "1/x.png", PICTURE)

    assert s3_faults.count("PUT", "1/x.png") == 2


async def test_a_body_that_arrives_slowly_is_read_to_its_end(impatient, s3_faults):
    await put(impatient, "1/x.png", body := PICTURE * 100)
    s3_faults.add(Fault("GET", "1/x.png", pause=0.4))

    assert await content(impatient, "1/x.png") == body
    assert s3_faults.count("GET", "1/x.png") == 1


async def test_a_body_that_stops_arriving_is_asked_for_again(impatient, s3_faults):
    await put(impatient, "1/x.png", body := PICTURE * 100)
    s3_faults.add(Fault("GET", "1/x.png", pause=30.0, times=1))

    assert await content(impatient, "1/x.png") == body
    assert s3_faults.count("GET", "1/x.png") == 2


# --- requests that fail for good


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=507, code="The disk is full"), "cannot be used, after 0 seconds of trying: .*disk is full"),
        (Fault(status=503, code="SlowDown"), "cannot be used, after 0 seconds of trying: .*SlowDown"),
        (Fault(cut_after=1000), "cannot be used, after 0 seconds of trying"),
        (Fault(status=403, code="AccessDenied"), "refuses access .*AccessDenied.*: check AWS_ACCESS_KEY_ID"),
        (Fault(status=404, code="NoSuchBucket"), "There is no bucket pictures at http"),
    ],
    ids=["full", "slow-down", "cut", "denied", "no-bucket"],
)
async def test_a_put_that_goes_on_failing_ends_in_a_sentence_and_leaves_nothing_partial(hasty, s3_faults, fault, words):
    s3_faults.add(fault)

    with pytest.raises(StoreError, match=words) as caught:
        await put(hasty, "1/x.png", PICTURE)

    s3_faults.clear()
    assert is_sentence(caught.value)
    assert await listing(hasty) == []


@pytest.mark.parametrize("call", ["keys", "states", "as_file", "file_ids", "trash", "identity", "quarantined"])
async def test_what_reads_or_removes_on_a_server_that_is_away_ends_in_a_sentence(hasty, s3_faults, monkeypatch, call):
    monkeypatch.setattr("rehost.store.s3._LOCKED_SECONDS", 0.1)
    await put(hasty, "1/x.png", PICTURE)
    seen = await hasty.file_ids(["1/x.png"])
    s3_faults.refuse()
    calls = {
        "keys": lambda: listing(hasty),
        "states": lambda: hasty.states(["1/x.png"]),
        "as_file": lambda: content(hasty, "1/x.png"),
        "file_ids": lambda: hasty.file_ids(["1/x.png"]),
        "trash": lambda: hasty.trash(seen, Cause.REMOVED),
        "identity": hasty.identity,
        "quarantined": hasty.quarantined,
    }

    with pytest.raises(StoreError, match="cannot be used") as caught:
        await calls[call]()

    assert is_sentence(caught.value)
    s3_faults.accept()
    assert await content(hasty, "1/x.png") == PICTURE


async def test_a_server_that_never_answered_is_not_waited_for_as_long_as_one_that_did(s3_faults, tmp_path, monkeypatch):
    monkeypatch.setattr("rehost.store.bucket.FIRST_SECONDS", 0.3)

    with pytest.raises(StoreError, match="after 0 seconds of trying") as caught:
        async with opened(s3_faults, tmp_path, outage_seconds=600.0, AWS_ENDPOINT_URL="http://127.0.0.1:1"):
            pass

    assert is_sentence(caught.value)


async def test_processes_agree_on_the_id_of_a_bucket_whose_server_ignores_conditions(s3_faults, tmp_path):
    s3_faults.ignores_conditions = True
    bucket = Bucket(BUCKET, s3_faults.server.fresh_prefix())

    async def identity(number: int) -> str:
        client = BucketClient(bucket, s3_faults.env(), Clock())
        async with S3Store(client, bucket, tmp_path / str(number), clock=Clock(), guard=None) as store:  # type: ignore[arg-type]
            return await store.identity()

    assert len(set(await asyncio.gather(*map(identity, range(5))))) == 1


# --- the disk of the spools


async def test_a_full_disk_of_the_spools_is_said_in_a_sentence(s3_faults, tmp_path, tmpfs):
    folder = tmpfs("size=64k")
    async with opened(s3_faults, folder) as store:
        await put(store, "1/small.png", b"x")
        s3_faults.server.put(BUCKET, f"{store.where.split('/', 3)[3]}/1/large.png", PICTURE)

        with pytest.raises(StoreError) as caught:
            await content(store, "1/large.png")

        assert is_sentence(caught.value)
        assert str(folder) in str(caught.value)


async def test_spools_are_refused_below_the_floor_of_free_space(s3_faults, tmp_path):
    async with opened(s3_faults, tmp_path, min_free_bytes=2**60) as store:
        with pytest.raises(StoreError, match="IMAGE_MIN_FREE_BYTES"):
            store.spool()
