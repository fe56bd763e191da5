import hashlib
import os
import stat
import subprocess
import sys

import pytest
from tests.contracts.store import FixedNamesContract, listing, put

from rehost.clock import Clock
from rehost.errors import StoreError
from rehost.store.base import Cause, Placement
from rehost.store.local import LocalStore


class TestLocalStore(FixedNamesContract):
    pass


async def test_missing_folders_are_created(root):
    async with LocalStore(root, clock=Clock()):
        pass

    assert root.is_dir()


async def test_after_a_clean_end_only_copies_the_marker_the_lock_and_the_trash_remain(root):
    async with LocalStore(root, clock=Clock()) as store:
        await put(store, "1/x.png", b"old")
        await put(store, "1/x.png", b"new")
        await store.confirm(["1/x.png"])
        store.spool().write_bytes(b"abandoned")

    remaining = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    digest = hashlib.sha256(b"old").hexdigest()
    replaced = f".rehost/trash/replaced/{digest[:2]}/{digest}"
    assert remaining == {"1/x.png", ".rehost/lock", ".rehost/store-id", replaced}
    assert list((root / ".rehost/work").iterdir()) == []


async def test_a_store_keeps_its_identity_and_one_that_is_not_there_has_none(root):
    async with LocalStore(root, clock=Clock()) as store:
        first = await store.identity()
    async with LocalStore(root, clock=Clock()) as store:
        assert await store.identity() == first
        root.rename(root.parent / "elsewhere")
        with pytest.raises(StoreError, match=f"{root} is no longer the store that it was"):
            await store.identity()
        (root.parent / "elsewhere").rename(root)


async def test_spool_is_on_the_file_system_of_the_store(store, root):
    store.spool().touch()

    assert store.spool().parent.stat().st_dev == root.stat().st_dev


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
async def test_other_servers_may_read_as_the_umask_allows(root, umask, file_mode, folder_mode):
    before = os.umask(umask)
    try:
        async with LocalStore(root, clock=Clock()) as store:
            spool = store.spool()
            spool.write_bytes(b"picture")
            spool.chmod(0o600)
            await store.sync([spool])
            await store.place([Placement(spool, "a/1/x.png")])
    finally:
        os.umask(before)

    assert stat.S_IMODE((root / "a/1/x.png").stat().st_mode) == file_mode
    assert stat.S_IMODE((root / "a/1").stat().st_mode) == folder_mode
    assert stat.S_IMODE((root / "a").stat().st_mode) == folder_mode
    assert stat.S_IMODE((root / ".rehost").stat().st_mode) == 0o700


@pytest.mark.parametrize("key", ["../x.png", "/etc/x.png", ".rehost/lock", "a/../../x.png", "a//b.png", "a\0.png", ""])
async def test_key_outside_the_store_is_refused(store, tmp_path, key):
    spool = store.spool()
    spool.write_bytes(b"picture")

    with pytest.raises(StoreError, match="not the name of a copy"):
        await store.place([Placement(spool, key)])
    with pytest.raises(StoreError, match="not the name of a copy"):
        await store.remove(await store.file_ids([key]))

    assert spool.exists()


async def test_folders_are_removed_with_their_last_copy(store, root):
    await put(store, "a/b/x.png", b"picture")

    await store.remove(await store.file_ids(["a/b/x.png"]))

    assert not (root / "a").exists()


@pytest.mark.parametrize("how", ["undo", "remove", "quarantine"])
async def test_a_folder_goes_with_the_last_of_several_copies(store, root, how):
    keys = [f"p/q/{number}.png" for number in range(3)]
    for key in keys:
        await put(store, key, b"picture")

    await getattr(store, how)(keys if how == "undo" else await store.file_ids(keys))

    assert not (root / "p").exists()
    assert await listing(store) == []


async def test_folder_with_another_file_in_it_stays(store, root):
    await put(store, "1/x.png", b"picture")
    (root / "1" / "notes.txt").write_text("mine")

    await store.remove(await store.file_ids(["1/x.png"]))

    assert (root / "1" / "notes.txt").read_text() == "mine"


async def test_listing_skips_hidden_files_and_links_to_folders(store, root, tmp_path):
    await put(store, "1/x.png", b"picture")
    (root / "1" / ".x.png.part").touch()
    (root / ".trash").mkdir()
    (root / ".trash" / "y.png").touch()
    (root / "lost+found").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "z.png").touch()
    (root / "2").symlink_to(tmp_path / "elsewhere")
    (root / "3").symlink_to(root)
    (root / "gone.png").symlink_to(root / "missing.png")

    assert await listing(store) == ["1/x.png"]


async def test_listing_yields_groups_of_bounded_size(store, root):
    for number in range(2500):
        (root / f"{number}.png").touch()

    groups = store.keys()

    assert [len(group) async for group in groups] == [1000, 1000, 500]


async def test_listing_that_is_abandoned_early_leaves_nothing_open(store, root):
    for number in range(1500):
        (root / f"{number}.png").touch()

    keys = store.keys()
    await anext(keys)
    await keys.aclose()  # an open folder would be a ResourceWarning, which is an error here


async def test_quarantine_keeps_every_copy_for_the_operator(store, root):
    for content in (b"decoy", b"another"):
        await put(store, "1/x.png", content)
        await store.quarantine(await store.file_ids(["1/x.png"]))

    found = sorted(path.read_bytes() for path in (root / ".rehost/quarantine").rglob("*") if path.is_file())
    assert found == [b"another", b"decoy"]


async def test_undo_leaves_the_file_of_another_worker_alone(root):
    async with LocalStore(root, clock=Clock()) as late, LocalStore(root, clock=Clock()) as owner:
        await put(owner, "1/x.png", b"old")
        await owner.confirm(["1/x.png"])
        await put(late, "1/x.png", b"late")
        await put(owner, "1/x.png", b"new")

        await late.undo(["1/x.png"])
        await owner.confirm(["1/x.png"])

        assert owner.path("1/x.png").read_bytes() == b"new"


async def test_undo_of_a_late_worker_brings_back_the_owners_file(root):
    async with LocalStore(root, clock=Clock()) as late, LocalStore(root, clock=Clock()) as owner:
        await put(owner, "1/x.png", b"old")
        await owner.confirm(["1/x.png"])
        await put(owner, "1/x.png", b"new")
        await put(late, "1/x.png", b"late")
        await owner.confirm(["1/x.png"])

        await late.undo(["1/x.png"])

        assert owner.path("1/x.png").read_bytes() == b"new"


async def test_invariant_3_a_name_is_complete_or_absent(store, root):
    await put(store, "1/x.png", b"old")
    await store.confirm(["1/x.png"])
    (root / "2").write_text("a file where a folder should be")
    placements = [Placement(store.spool(), key) for key in ("0/x.png", "1/x.png", "2/x.png")]
    for placement in placements:
        placement.spool.write_bytes(b"new")
    await store.sync([placement.spool for placement in placements])

    with pytest.raises(StoreError, match="a file is where a folder should be"):
        await store.place(placements)

    assert store.path("1/x.png").read_bytes() == b"old"
    assert await listing(store) == ["1/x.png", "2"]


async def test_replaced_file_is_copied_where_there_are_no_hard_links(store, root, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(1, "no links here")

    await put(store, "1/x.png", b"old")
    await store.confirm(["1/x.png"])
    monkeypatch.setattr(os, "link", refuse)  # as FAT and some network file systems do
    await put(store, "1/x.png", b"new")

    await store.undo(["1/x.png"])

    assert store.path("1/x.png").read_bytes() == b"old"


SPOOL_COPY = """
import asyncio, sys
from pathlib import Path
from rehost.clock import Clock
from rehost.store.local import LocalStore

async def main():
    async with LocalStore(Path(sys.argv[1]), clock=Clock()) as store:
        for key in ("1/x.jpeg", "2/x.jpeg", "3/x.jpeg"):
            spool = await store.spool_copy(key)
            sys.stdout.write(spool.read_text() + str(spool.is_symlink()) if spool else "none")

asyncio.run(main())
"""


@pytest.mark.parametrize("error", ["", "EPERM", "EOPNOTSUPP", "ENOSYS"])
def test_a_found_file_gets_a_spool_with_and_without_hard_links(root, strace, error):
    for number in (1, 2):
        (root / str(number)).mkdir(parents=True)
    (root / "1/x.jpeg").write_text("bytes ")
    (root / "2/x.jpeg").symlink_to("../1/x.jpeg")
    under = strace(f"inject=link,linkat:error={error}", calls="link,linkat") if error else []

    done = subprocess.run(
        [*under, sys.executable, "-c", SPOOL_COPY, root],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("bytes Falsebytes Falsenone", "")


async def test_no_spools_below_the_minimum_of_free_bytes(root):
    async with LocalStore(root, clock=Clock(), min_free_bytes=2**62) as store:
        with pytest.raises(StoreError, match="less than IMAGE_MIN_FREE_BYTES"):
            store.spool()


async def test_disk_that_fills_up_during_a_run_stops_new_spools_and_keeps_those_in_flight(tmpfs):
    folder = tmpfs("size=1m")
    async with LocalStore(folder, clock=Clock(), min_free_bytes=600_000) as store:
        spool = store.spool()
        spool.write_bytes(bytes(500_000))

        await store.sync([spool])
        await store.place([Placement(spool, "1/x.png")])

        with pytest.raises(StoreError, match="less than IMAGE_MIN_FREE_BYTES"):
            store.spool()
        assert await listing(store) == ["1/x.png"]


async def test_freed_space_is_noticed_at_the_next_start(tmpfs):
    folder = tmpfs("size=1m")
    (folder / "other").write_bytes(bytes(900_000))
    async with LocalStore(folder, clock=Clock(), min_free_bytes=600_000) as store:
        with pytest.raises(StoreError):
            store.spool()
    (folder / "other").unlink()

    async with LocalStore(folder, clock=Clock(), min_free_bytes=600_000) as store:
        assert store.spool()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: (path / "inner").mkdir(parents=True)], ids=["pipe", "folder"])
async def test_what_is_no_file_goes_to_the_trash_and_from_there(root, make):
    (root / "1").mkdir(parents=True)
    make(root / "1/x.png")

    async with LocalStore(root, clock=Clock()) as store:
        await store.trash(await store.file_ids(["1/x.png"]), Cause.REPLACED)
        [[trashed]] = [group async for group in store.trashed()]
        assert (trashed.digest, (root / "1").exists()) == ("", False)
        await store.delete_trashed([trashed])

    assert not list((root / ".rehost/trash/replaced/un").iterdir())
