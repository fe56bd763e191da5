import os
import resource
import subprocess

import pytest
from tests.contracts.store import listing, put

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.store.base import Placement
from rehost.store.local import LocalStore


async def test_root_that_is_a_file_is_said(tmp_path):
    (tmp_path / "images").write_text("a file")

    with pytest.raises(StoreError, match=r"images: a file has the place of a folder: move the file away"):
        async with LocalStore(tmp_path / "images", clock=Clock()):
            pass


async def test_root_below_a_file_is_said(tmp_path):
    (tmp_path / "data").write_text("a file")

    with pytest.raises(StoreError, match="a file has the place of a folder"):
        async with LocalStore(tmp_path / "data" / "images", clock=Clock()):
            pass


async def test_below_the_floor_there_are_no_spools(root):
    async with LocalStore(root, clock=Clock(), min_free_bytes=2**62) as store:
        with pytest.raises(StoreError, match="less than IMAGE_MIN_FREE_BYTES"):
            store.spool()


async def test_floor_reached_during_a_run_stops_new_spools_and_keeps_those_in_flight(tmpfs):
    folder = tmpfs("size=1m")
    async with LocalStore(folder, clock=Clock(), min_free_bytes=600_000) as store:
        spool = store.spool()
        spool.write_bytes(bytes(500_000))

        await store.sync([spool])
        await store.place([Placement(spool, "1/x.png")])

        with pytest.raises(StoreError, match="less than IMAGE_MIN_FREE_BYTES"):
            store.spool()
        assert await listing(store) == ["1/x.png"]


async def test_space_made_is_seen_at_the_next_start(tmpfs):
    folder = tmpfs("size=1m")
    (folder / "other").write_bytes(bytes(900_000))
    async with LocalStore(folder, clock=Clock(), min_free_bytes=600_000) as store:
        with pytest.raises(StoreError):
            store.spool()
    (folder / "other").unlink()

    async with LocalStore(folder, clock=Clock(), min_free_bytes=600_000) as store:
        assert store.spool()


async def test_no_inodes_are_told_from_no_space(tmpfs):
    folder = tmpfs("size=4m,nr_inodes=24")
    async with LocalStore(folder, clock=Clock()) as store:
        spool = store.spool()
        spool.write_bytes(b"picture")
        await store.sync([spool])
        for number in range(os.statvfs(folder).f_favail):
            (folder / str(number)).touch()

        with pytest.raises(StoreError, match="no inodes left"):
            await store.place([Placement(spool, "row/x.png")])

        assert not (folder / "row").exists()


async def test_disk_full_at_the_start_is_said(tmpfs):
    folder = tmpfs("size=1m,nr_inodes=4")
    for number in range(os.statvfs(folder).f_favail):
        (folder / str(number)).touch()

    with pytest.raises(StoreError, match="no inodes left"):
        async with LocalStore(folder, clock=Clock()):
            pass


async def test_read_only_store_is_said_and_nothing_has_changed(tmpfs):
    folder = tmpfs("size=1m")
    async with LocalStore(folder, clock=Clock()) as store:
        await put(store, "1/x.png", b"old")
        await store.confirm(["1/x.png"])
        spool = store.spool()
        spool.write_bytes(b"new")
        await store.sync([spool])
        # over the same paths: a file system with files that are open for writing cannot be remounted
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

        with pytest.raises(StoreError, match="read-only"):
            await store.place([Placement(spool, "1/x.png")])

        assert store.path("1/x.png").read_bytes() == b"old"
        subprocess.run(["umount", folder], check=True)


async def test_too_many_open_files_are_said(store):
    spool = store.spool()
    spool.write_bytes(b"picture")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        with pytest.raises(StoreError, match="too many open files"):
            await store.sync([spool])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_folder_in_the_place_of_a_copy_is_said(store, root):
    (root / "1" / "x.png").mkdir(parents=True)

    with pytest.raises(StoreError, match="a folder has the name of a copy"):
        await put(store, "1/x.png", b"picture")


async def test_spool_that_somebody_deleted_is_said(store):
    with pytest.raises(StoreError, match="it is gone"):
        await store.sync([store.spool()])


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("fdatasync", "EIO", "the disk fails"),
        ("fdatasync", "ENOSPC", "the disk is full"),
        ("fdatasync", "EDQUOT", "quota"),
        ("rename", "EIO", "the disk fails"),
        ("rename", "EACCES", "permission denied"),
        ("mkdir", "EACCES", "permission denied"),
        ("mkdir", "EDQUOT", "quota"),
        ("flock", "ENOLCK", "no locks"),
    ],
)
def test_what_the_disk_says_is_a_sentence_and_no_commit(one_group, strace, call, error, said):
    fail = strace(f"inject={call}:error={error}:when=1+", calls=call)

    ended = one_group(3, "picture", under=fail)

    assert ended.returncode == 1
    assert ended.stderr.startswith("StoreError: The store ")
    assert said in ended.stderr
    assert "committed" not in ended.stdout


def test_folder_sync_that_fails_is_no_commit(one_group, strace, root):
    one_group(1, "old")
    fail = strace("inject=fsync:error=EIO:when=1+", calls="fsync")

    ended = one_group(1, "new", under=fail)

    assert "the disk fails" in ended.stderr
    assert "committed" not in ended.stdout


async def test_sync_that_failed_is_not_tried_again(store, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    spool = store.spool()
    spool.write_bytes(b"picture")
    with monkeypatch.context() as context:
        context.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match="the disk fails"):
            await store.sync([spool])

    # the kernel would report success now, and the bytes are not there
    with pytest.raises(StoreError, match="the disk fails"):
        await store.sync([spool])
