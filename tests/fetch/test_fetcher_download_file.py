import asyncio
import hashlib
import os
import resource
from contextlib import contextmanager

import pytest

from rehost.errors import StoreError
from rehost.fetch.fetcher import Spool
from rehost.http.errors import BodyTooLarge


@contextmanager
def disk_of(size):
    """Limit every file of this process to `size` bytes: the kernel then cuts writes short, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_bytes_are_written_and_hashed(tmp_path):
    spool = Spool(tmp_path / "spool", 100)
    spool.start()

    for data in (b"one", b"", b"two"):
        spool.write(data)
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"onetwo"
    assert (spool.size, spool.digest) == (6, hashlib.sha256(b"onetwo").hexdigest())


def test_starting_again_drops_what_was_written(tmp_path):
    spool = Spool(tmp_path / "spool", 100)
    spool.start()
    spool.write(b"a longer first try")

    spool.start()
    spool.write(b"second")
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"second"
    assert (spool.size, spool.digest) == (6, hashlib.sha256(b"second").hexdigest())


def test_byte_beyond_the_limit_is_not_written(tmp_path):
    spool = Spool(tmp_path / "spool", 10)
    spool.start()
    spool.write(b"0123456789")

    with pytest.raises(BodyTooLarge):
        spool.write(b"x")
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"0123456789"


async def test_file_of_an_earlier_attempt_is_resumed(tmp_path):
    (tmp_path / "old").write_bytes(b"onetwo and what never reached the caller")
    spool = Spool(tmp_path / "new", 100)
    spool.take_over(tmp_path / "old")

    ready = await spool.resume(6)
    spool.write(b"three")
    spool.close()

    assert ready
    assert (tmp_path / "new").read_bytes() == b"onetwothree"
    assert (spool.size, spool.digest) == (11, hashlib.sha256(b"onetwothree").hexdigest())
    assert not (tmp_path / "old").exists()


async def test_file_that_has_lost_bytes_is_not_resumed(tmp_path):
    (tmp_path / "spool").write_bytes(b"one")
    spool = Spool(tmp_path / "spool", 100)

    assert not await spool.resume(6)
    spool.remove()


def test_full_disk_stops_the_run_and_is_explained(tmp_path):
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.start()

    with disk_of(1000), pytest.raises(StoreError) as caught, spool.explained():
        spool.write(bytes(4000))
    spool.remove()

    assert "IMAGE_STORAGE_DIR" in str(caught.value)
    assert str(tmp_path / "spool") in str(caught.value)


@pytest.mark.parametrize("act", ["start", "resume", "take_over"])
def test_missing_folder_stops_the_run_and_is_explained(tmp_path, act):
    spool = Spool(tmp_path / "none" / "spool", 100)
    acts = {
        "start": spool.start,
        "resume": lambda: asyncio.run(spool.resume(1)),
        "take_over": lambda: spool.take_over(tmp_path / "old"),
    }

    with pytest.raises(StoreError, match="No such file or directory"):
        acts[act]()


def test_file_may_be_removed_and_closed_twice(tmp_path):
    spool = Spool(tmp_path / "spool", 100)
    spool.start()

    spool.remove()
    spool.remove()
    spool.close()

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names, not paths
