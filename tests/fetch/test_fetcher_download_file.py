import asyncio
import hashlib
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from rehost.errors import StoreError
from rehost.fetch.fetcher import HELD_BYTES, Spool
from rehost.http.errors import BodyTooLarge


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@contextmanager
def disk_of(size):
    """Limit every file of this process to `size` bytes: the kernel then cuts writes short, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_bytes_are_written_and_hashed(tmp_path, threads):
    spool = Spool(tmp_path / "spool", 100, threads)
    spool.start()

    for data in (b"one", b"", b"two"):
        spool.write(data)
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"onetwo"
    assert (spool.size, spool.digest) == (6, hashlib.sha256(b"onetwo").hexdigest())


def test_starting_again_drops_what_was_written(tmp_path, threads):
    spool = Spool(tmp_path / "spool", 100, threads)
    spool.start()
    spool.write(b"a longer first try")

    spool.start()
    spool.write(b"second")
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"second"
    assert (spool.size, spool.digest) == (6, hashlib.sha256(b"second").hexdigest())


def test_byte_beyond_the_limit_is_not_written(tmp_path, threads):
    spool = Spool(tmp_path / "spool", 10, threads)
    spool.start()
    spool.write(b"0123456789")

    with pytest.raises(BodyTooLarge):
        spool.write(b"x")
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"0123456789"


async def test_file_of_an_earlier_attempt_is_resumed(tmp_path, threads):
    (tmp_path / "old").write_bytes(b"onetwo and what never reached the caller")
    spool = Spool(tmp_path / "new", 100, threads)
    spool.take_over(tmp_path / "old")

    ready = await spool.resume(6)
    spool.write(b"three")
    spool.close()

    assert ready
    assert (tmp_path / "new").read_bytes() == b"onetwothree"
    assert (spool.size, spool.digest) == (11, hashlib.sha256(b"onetwothree").hexdigest())
    assert not (tmp_path / "old").exists()


async def test_file_that_has_lost_bytes_is_not_resumed(tmp_path, threads):
    (tmp_path / "spool").write_bytes(b"one")
    spool = Spool(tmp_path / "spool", 100, threads)

    assert not await spool.resume(6)
    spool.remove()


def test_full_disk_stops_the_run_and_is_explained(tmp_path, threads):
    spool = Spool(tmp_path / "spool", 1 << 20, threads)
    spool.start()
    spool.write(bytes(4000))

    with disk_of(1000), pytest.raises(StoreError) as caught:
        spool.close()
    spool.remove()

    assert "IMAGE_STORAGE_DIR" in str(caught.value)
    assert str(tmp_path / "spool") in str(caught.value)


@pytest.mark.parametrize("act", ["write", "resume", "take_over"])
def test_missing_folder_stops_the_run_and_is_explained(tmp_path, threads, act):
    spool = Spool(tmp_path / "none" / "spool", 100, threads)
    acts = {
        "write": lambda: (spool.start(), spool.write(b"one"), spool.close()),
        "resume": lambda: asyncio.run(spool.resume(1)),
        "take_over": lambda: spool.take_over(tmp_path / "old"),
    }

    with pytest.raises(StoreError, match="No such file or directory"):
        acts[act]()


def test_file_may_be_removed_and_closed_twice(tmp_path, threads):
    spool = Spool(tmp_path / "spool", 100, threads)
    spool.start()
    spool.write(b"one")

    spool.remove()
    spool.remove()
    spool.close()

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names, not paths


async def test_large_body_is_written_in_pieces_and_its_rest_at_the_end(tmp_path, threads):
    body = os.urandom(HELD_BYTES + 300_000)
    spool = Spool(tmp_path / "spool", len(body), threads)
    spool.start()
    for start in range(0, len(body), 200_000):
        spool.write(body[start : start + 200_000])
    written = (tmp_path / "spool").stat().st_size

    await spool.finish()

    assert HELD_BYTES <= written < len(body)
    assert (tmp_path / "spool").read_bytes() == body
    assert (spool.size, spool.digest) == (len(body), hashlib.sha256(body).hexdigest())


async def test_cancelled_end_of_a_body_leaves_the_file_to_its_caller_alone(tmp_path, threads, monkeypatch):
    spool = Spool(tmp_path / "spool", 1 << 20, threads)
    spool.start()
    spool.write(bytes(200_000))
    writes, may_write = threading.Event(), threading.Event()
    write = os.write

    def slow_write(file, data):
        writes.set()
        may_write.wait(60)
        return write(file, data)

    monkeypatch.setattr(os, "write", slow_write)
    finishing = asyncio.create_task(spool.finish())
    await asyncio.to_thread(writes.wait, 60)
    finishing.cancel()
    threading.Timer(0.1, may_write.set).start()
    with suppress(asyncio.CancelledError):
        await finishing

    assert finishing.cancelled()
    assert (tmp_path / "spool").stat().st_size == 200_000
    spool.remove()
    assert not (tmp_path / "spool").exists()


async def test_full_disk_that_a_thread_meets_is_explained(tmp_path, threads):
    spool = Spool(tmp_path / "spool", 1 << 20, threads)
    spool.start()
    spool.write(bytes(200_000))

    with disk_of(1000), pytest.raises(StoreError, match="IMAGE_STORAGE_DIR"):
        await spool.finish()
    spool.remove()
