"""Errors of the disk are reported in words, and the order of system calls survives a loss of power."""

import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
from tests.contracts.store import put

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.store.base import Placement
from rehost.store.filesystem import list_keys
from rehost.store.local import LocalStore


async def test_root_that_is_a_file_is_reported(tmp_path):
    (tmp_path / "images").write_text("a file")

    with pytest.raises(
        StoreError, match=r"images cannot be used: a file is where a folder should be: move the file away"
    ):
        async with LocalStore(tmp_path / "images", clock=Clock()):
            pass


async def test_root_below_a_file_is_reported(tmp_path):
    (tmp_path / "data").write_text("a file")

    with pytest.raises(StoreError, match="a file is where a folder should be"):
        async with LocalStore(tmp_path / "data" / "images", clock=Clock()):
            pass


@pytest.mark.parametrize("root", ["/proc/rehost", "/proc/rehost/images"])
async def test_root_that_cannot_be_created_is_reported(root):
    with pytest.raises(StoreError) as caught:
        async with LocalStore(Path(root), clock=Clock()):
            pass

    advice = "the folder does not exist and cannot be created: choose a folder on another file system."
    where = "" if root == "/proc/rehost" else "/proc/rehost: "
    assert str(caught.value) == f"The store {root} cannot be used: {where}{advice}"


async def test_lack_of_inodes_is_not_reported_as_lack_of_space(tmpfs):
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


async def test_full_disk_is_reported_at_the_start(tmpfs):
    folder = tmpfs("size=1m,nr_inodes=4")
    for number in range(os.statvfs(folder).f_favail):
        (folder / str(number)).touch()

    with pytest.raises(StoreError, match="no inodes left"):
        async with LocalStore(folder, clock=Clock()):
            pass


async def test_read_only_store_is_reported_and_nothing_changes(tmpfs):
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


async def test_too_many_open_files_are_reported(store):
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


async def test_folder_with_the_name_of_a_copy_is_reported(store, root):
    (root / "1" / "x.png").mkdir(parents=True)

    with pytest.raises(StoreError, match="a folder has the name of a copy"):
        await put(store, "1/x.png", b"picture")


async def test_deleted_spool_is_reported(store):
    with pytest.raises(StoreError, match="the file is gone"):
        await store.sync([store.spool()])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("fdatasync", "EIO", "the disk is failing"),
        ("fdatasync", "ENOSPC", "the disk is full"),
        ("fdatasync", "EDQUOT", "quota"),
        ("rename", "EIO", "the disk is failing"),
        ("rename", "EACCES", "permission denied"),
        ("mkdir", "EACCES", "permission denied"),
        ("mkdir", "EDQUOT", "quota"),
        ("flock", "ENOLCK", "does not support locks"),
    ],
)
def test_disk_error_is_reported_as_a_sentence_and_nothing_is_committed(one_group, strace, call, error, message):
    fail = strace(f"inject={call}:error={error}:when=1+", calls=call)

    ended = one_group(3, "picture", under=fail)

    assert ended.returncode == 1
    assert ended.stderr.startswith("StoreError: The store ")
    assert message in ended.stderr
    assert "committed" not in ended.stdout


def test_nothing_is_committed_after_a_failed_folder_sync(one_group, strace, root):
    one_group(1, "old")
    fail = strace("inject=fsync:error=EIO:when=1+", calls="fsync")

    ended = one_group(1, "new", under=fail)

    assert "the disk is failing" in ended.stderr
    assert "committed" not in ended.stdout


async def test_failed_sync_is_not_repeated(store, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    spool = store.spool()
    spool.write_bytes(b"picture")
    with monkeypatch.context() as context:
        context.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreError, match="the disk is failing"):
            await store.sync([spool])

    # the kernel would report success now, and the bytes are not there
    with pytest.raises(StoreError, match="the disk is failing"):
        await store.sync([spool])


# After a loss of power the order of system calls counts: sync the file, rename it, sync the folder, commit the row.
CALLS = "fsync,fdatasync,syncfs,linkat,rename,write"


def steps(trace, root):
    """Return the system calls on the store in order, as (name, path below the root), without those on its marker."""
    found = []
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+\s+(\w+)\((.*)", line)
        paths = [path.removeprefix(str(root)) for path in re.findall(rf"{re.escape(str(root))}[^\">]*", line)]
        if call and call[1] == "write" and "committed" in call[2]:
            found.append(("commit", ""))
        elif call and call[1] != "write" and paths and "store-id" not in paths[-1]:
            found.append((call[1], paths[-1]))
    return found


@pytest.fixture
def recorded(one_group, strace, root):
    def run(count):
        ended = one_group(count, "picture", under=strace(calls=CALLS))
        assert ended.returncode == 0, ended.stderr
        return steps(strace.trace, root)

    return run


def test_small_group_syncs_each_file_before_its_rename_and_each_folder_after(recorded):
    done = recorded(3)

    commit = done.index(("commit", ""))
    renames = [index for index, (what, _) in enumerate(done) if what == "rename"]
    file_syncs = [index for index, (what, path) in enumerate(done) if what == "fdatasync" and "/spool/" in path]
    assert len(file_syncs) == len(renames) == 3
    assert max(file_syncs) < min(renames) < max(renames) < commit
    for folder in ("/0", "/1", "/2", ""):
        assert max(renames) < done.index(("fsync", folder), max(renames)) < commit


def test_large_group_uses_syncfs_before_the_renames_and_after(recorded):
    done = recorded(40)
    if not any(what == "syncfs" for what, _ in done):
        pytest.skip("the temporary folder is on a file system whose syncfs is not relied on")

    order = [what for what, _ in done if what in {"syncfs", "rename", "commit"}]

    assert order == ["syncfs", *["rename"] * 40, "syncfs", "commit"]


def test_replaced_file_gets_its_second_name_before_the_rename(one_group, recorded):
    one_group(1, "old")

    done = recorded(1)

    names = [what for what, _ in done if what in {"linkat", "rename", "commit"}]
    assert names == ["linkat", "rename", "commit", "rename"]  # the last one moves the second name to the trash


def test_a_link_to_itself_is_no_key(tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "whole.png").touch()

    assert list(list_keys(tmp_path)) == ["whole.png"]
