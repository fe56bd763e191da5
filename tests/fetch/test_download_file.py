import asyncio
import hashlib
import os
import resource
from contextlib import contextmanager

import pytest

from rehost.errors import Permanent, StoreError
from rehost.fetch.download_file import Spool
from rehost.model import Reason


@contextmanager
def disk_of(size):
    """Let no file of this process grow beyond `size` bytes: the kernel then cuts writes short, as a full disk does."""
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


def test_starting_over_forgets_what_was_written(tmp_path):
    spool = Spool(tmp_path / "spool", 100)
    spool.start()
    spool.write(b"a longer first try")

    spool.start()
    spool.write(b"second")
    spool.close()

    assert (tmp_path / "spool").read_bytes() == b"second"
    assert (spool.size, spool.digest) == (6, hashlib.sha256(b"second").hexdigest())


def test_not_a_byte_more_than_allowed_is_written(tmp_path):
    spool = Spool(tmp_path / "spool", 10)
    spool.start()
    spool.write(b"0123456789")

    with pytest.raises(Permanent) as caught:
        spool.write(b"x")
    spool.close()

    assert caught.value.reason is Reason.TOO_LARGE
    assert (tmp_path / "spool").read_bytes() == b"0123456789"


async def test_an_earlier_attempt_is_gone_on_with(tmp_path):
    (tmp_path / "old").write_bytes(b"onetwo and what never reached the caller")
    spool = Spool(tmp_path / "new", 100)
    spool.take_over(tmp_path / "old")

    ready = await spool.reread(6)
    spool.write(b"three")
    spool.close()

    assert ready
    assert (tmp_path / "new").read_bytes() == b"onetwothree"
    assert (spool.size, spool.digest) == (11, hashlib.sha256(b"onetwothree").hexdigest())
    assert not (tmp_path / "old").exists()


async def test_a_file_that_has_lost_bytes_is_not_gone_on_with(tmp_path):
    (tmp_path / "spool").write_bytes(b"one")
    spool = Spool(tmp_path / "spool", 100)

    assert not await spool.reread(6)
    spool.remove()


def test_a_disk_that_takes_a_part_stops_the_run_with_a_sentence(tmp_path):
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.start()

    with disk_of(1000), pytest.raises(StoreError) as caught:
        spool.write(bytes(4000))
    spool.remove()

    assert "IMAGE_STORAGE_DIR" in str(caught.value)
    assert str(tmp_path / "spool") in str(caught.value)


@pytest.mark.parametrize("act", ["start", "reread", "take_over"])
def test_a_folder_that_is_not_there_stops_the_run_with_a_sentence(tmp_path, act):
    spool = Spool(tmp_path / "none" / "spool", 100)
    acts = {
        "start": spool.start,
        "reread": lambda: asyncio.run(spool.reread(1)),
        "take_over": lambda: spool.take_over(tmp_path / "old"),
    }

    with pytest.raises(StoreError, match="No such file or directory"):
        acts[act]()


def test_closing_and_removing_twice_is_no_error(tmp_path):
    spool = Spool(tmp_path / "spool", 100)
    spool.start()

    spool.remove()
    spool.remove()
    spool.close()

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - the folder's own word for it
