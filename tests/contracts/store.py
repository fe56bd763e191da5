"""What every store promises (store.base.Store): a test class of each store inherits this and gives a `store`."""

import hashlib
import time
from functools import partial

import pytest

from rehost.errors import StoreError
from rehost.model import Copy, Format
from rehost.store.base import Cause, Placement


async def put(store, key, content):
    """Write a spool and place it, as the recorder does."""
    spool = store.spool()
    spool.write_bytes(content)
    await store.sync([spool])
    await store.place([Placement(spool, key)])
    return spool


async def listing(store):
    groups = store.keys()
    return sorted([key async for group in groups for key in group])


async def in_trash(store):
    return [each async for group in store.trashed() for each in group]


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


async def content(store, key):
    """Return the bytes of a copy; None if there is none."""
    async with store.as_file(key) as path:
        return path.read_bytes() if path.exists() else None


class StoreContract:
    async def test_spools_are_fresh_paths(self, store):
        spools = {store.spool() for _ in range(100)}

        assert len(spools) == 100
        assert not any(spool.exists() for spool in spools)

    async def test_placed_file_has_its_key_and_its_bytes(self, store):
        spool = await put(store, "1/main_image.png", b"picture")

        assert await content(store, "1/main_image.png") == b"picture"
        assert not spool.exists()

    async def test_identity_stays_the_same(self, store):
        first = await store.identity()
        await put(store, "1/x.png", b"picture")

        assert first
        assert await store.identity() == first

    async def test_spool_is_not_listed(self, store):
        store.spool().write_bytes(b"untrusted")

        assert await listing(store) == []

    async def test_every_placed_file_is_listed(self, store):
        keys = [f"{number}/main_image.{Format.PNG}" for number in range(25)] + ["a/b/c.jpg", "top.gif"]
        for key in keys:
            await put(store, key, b"picture")

        assert await listing(store) == sorted(keys)

    async def test_large_group_is_placed(self, store):
        spools = [store.spool() for _ in range(40)]
        for number, spool in enumerate(spools):
            spool.write_bytes(b"%d" % number)

        await store.sync(spools)
        await store.place([Placement(spool, f"{number}/x.png") for number, spool in enumerate(spools)])

        assert [await content(store, f"{number}/x.png") for number in range(40)] == [b"%d" % n for n in range(40)]

    async def test_sync_copies_returns_the_copies_that_exist(self, store):
        keys = [f"{number}/x.png" for number in range(20)]
        for key in keys:
            await put(store, key, b"picture")

        assert await store.sync_copies([*keys, "1/y.png", "none/x.png"]) == set(keys)
        assert await store.sync_copies(["1/y.png", "1/x.png"]) == {"1/x.png"}

    async def test_trashed_file_has_no_key_and_comes_back_as_a_spool(self, store):
        await put(store, "1/x.png", b"picture")
        await put(store, "2/x.png", b"other")
        seen = await store.file_ids(["1/x.png"])

        await store.trash(seen, Cause.REMOVED)

        assert await listing(store) == ["2/x.png"]
        spool = await store.spool_from_trash(digest_of(b"picture"))
        assert spool.read_bytes() == b"picture"
        spool.write_bytes(b"changed") if spool.stat().st_nlink == 1 else spool.unlink()
        assert (await store.spool_from_trash(digest_of(b"picture"))).read_bytes() == b"picture"
        assert await store.spool_from_trash(digest_of(b"never there")) is None

    async def test_what_is_in_quarantine_comes_back_as_a_spool_by_its_key(self, store):
        digest = digest_of(b"picture")
        await put(store, "1/x.png", b"picture")
        await store.quarantine(await store.file_ids(["1/x.png"]))

        assert await store.spool_from_trash(digest) is None
        assert await store.spool_from_trash(digest, "2/x.png") is None
        assert await store.spool_from_trash(digest_of(b"another"), "1/x.png") is None
        assert (await store.spool_from_trash(digest, "1/x.png")).read_bytes() == b"picture"

    async def test_deleted_trash_is_gone(self, store):
        await put(store, "1/x.png", b"picture")
        await store.trash(await store.file_ids(["1/x.png"]), Cause.REMOVED)

        await store.delete_trashed(await in_trash(store))

        assert await in_trash(store) == []
        assert await store.spool_from_trash(digest_of(b"picture")) is None

    async def test_a_file_that_is_back_from_the_trash_can_be_trashed_again(self, store):
        await put(store, "1/x.png", b"picture")
        await store.trash(await store.file_ids(["1/x.png"]), Cause.REMOVED)
        spool = await store.spool_from_trash(digest_of(b"picture"))
        await store.sync([spool])

        placed = await store.place_free([Placement(spool, "1/x.png")])

        assert (placed, await listing(store)) == ({"1/x.png"}, ["1/x.png"])
        await store.trash(await store.file_ids(["1/x.png"]), Cause.REMOVED)
        assert await listing(store) == []
        assert {each.digest for each in await in_trash(store)} == {digest_of(b"picture")}

    async def test_a_key_that_has_a_file_is_not_free(self, store):
        await put(store, "1/x.png", b"old")
        spools = [store.spool(), store.spool()]
        for spool in spools:
            spool.write_bytes(b"new")
        await store.sync(spools)

        placed = await store.place_free([Placement(spools[0], "1/x.png"), Placement(spools[1], "2/x.png")])

        assert placed == {"2/x.png"}
        assert await content(store, "1/x.png") == b"old"
        assert await content(store, "2/x.png") == b"new"
        assert spools[0].exists()

    async def test_undo_removes_a_file_that_replaced_nothing(self, store):
        await put(store, "1/x.png", b"new")

        await store.undo(["1/x.png"])

        assert await listing(store) == []

    async def test_removed_file_is_gone(self, store):
        await put(store, "1/x.png", b"picture")
        await put(store, "1/y.png", b"picture")

        await store.remove(await store.file_ids(["1/x.png"]))

        assert await listing(store) == ["1/y.png"]

    async def test_quarantined_file_has_no_key(self, store):
        await put(store, "1/x.png", b"decoy")

        await store.quarantine(await store.file_ids(["1/x.png"]))

        assert await listing(store) == []
        assert await content(store, "1/x.png") is None

    async def test_missing_copy_has_no_spool(self, store):
        assert await store.spool_copy("1/x.png") is None

    async def test_missing_copy_cannot_be_claimed(self, store):
        assert not await store.claim("1/x.png")
        assert await store.file_ids(["1/x.png"]) == {}

    async def test_missing_copies_are_no_error(self, store):
        await store.remove(await store.file_ids(["1/x.png", "2/y.png"]))
        await store.quarantine(await store.file_ids(["1/x.png"]))
        await store.confirm(["1/x.png"])
        await store.undo(["1/x.png"])

        assert await listing(store) == []

    async def test_empty_groups_do_nothing(self, store):
        await store.sync([])
        assert await store.sync_copies([]) == set()
        await store.place([])
        await store.confirm([])
        await store.undo([])
        await store.remove(await store.file_ids([]))
        await store.quarantine(await store.file_ids([]))
        await store.recover([], {})

        assert await listing(store) == []

    async def test_spool_of_a_copy_has_its_bytes_and_can_be_removed_without_it(self, store):
        await put(store, "1/x.png", b"picture")

        spool = await store.spool_copy("1/x.png")

        assert spool.read_bytes() == b"picture"
        spool.unlink()
        assert await content(store, "1/x.png") == b"picture"

    async def test_copies_are_read_by_size_and_the_quarantine_is_read_and_emptied(self, store):
        for key in ("1/x.png", "2/x.png", "3/x.png", "4/x.png"):
            await put(store, key, b"picture")
        await put(store, "5/x.png", b"another one")
        await store.quarantine(await store.file_ids(["2/x.png"]))
        copy = partial(Copy, digest=digest_of(b"picture"), size=7)

        read = await store.read_copies(["3/x.png", "4/x.png", "5/x.png", "6/x.png"], {7, 8})
        [quarantined] = [group async for group in store.in_quarantine()]
        await store.delete_quarantined(quarantined)

        assert read == [copy("3/x.png"), copy("4/x.png")]
        assert quarantined == [copy("2/x.png")]
        assert [group async for group in store.in_quarantine() if group] == []
        assert await store.read_copies(["3/x.png"], ()) == []

    async def test_states_and_files_say_the_sizes_and_times_of_copies(self, store):
        await put(store, "1/x.png", b"picture")
        await put(store, "2/x.png", b"another one")

        states = await store.states(["1/x.png", "2/x.png", "3/x.png", "no/../key"])
        [listed] = [group async for group in store.files()]

        assert {key: each.size for key, each in states.items()} == {"1/x.png": 7, "2/x.png": 11}
        assert listed == states
        assert all(abs(each.modified - time.time()) < 600 for each in states.values())
        assert all(each.disk_size >= each.size for each in states.values())

    async def test_a_text_that_is_no_key_reaches_no_file(self, store):
        for text in ("../secret.png", ".rehost/store-id", "", "a//b.png"):
            with pytest.raises(StoreError, match="not the name of a copy"):
                async with store.as_file(text):
                    pass


class FixedNamesContract(StoreContract):
    """What a store promises in addition where a key can get other bytes."""

    async def test_undo_brings_back_the_replaced_file(self, store):
        await put(store, "1/x.png", b"old")
        await store.confirm(["1/x.png"])
        await put(store, "1/x.png", b"new")

        await store.undo(["1/x.png"])

        assert store.path("1/x.png").read_bytes() == b"old"

    async def test_confirm_moves_the_replaced_file_to_the_trash(self, store):
        await put(store, "1/x.png", b"old")
        await store.confirm(["1/x.png"])
        await put(store, "1/x.png", b"new")
        await store.confirm(["1/x.png"])

        assert [(each.cause, each.digest, each.size) for each in await in_trash(store)] == [
            (Cause.REPLACED, digest_of(b"old"), 3)
        ]
        assert await listing(store) == ["1/x.png"]

    async def test_confirmed_file_is_not_undone(self, store):
        await put(store, "1/x.png", b"old")
        await store.confirm(["1/x.png"])
        await put(store, "1/x.png", b"new")
        await store.confirm(["1/x.png"])

        await store.undo(["1/x.png"])

        assert store.path("1/x.png").read_bytes() == b"new"

    async def test_undo_brings_back_the_last_of_two_replaced_files(self, store):
        for content in (b"first", b"second", b"third"):
            await put(store, "1/x.png", content)

        await store.undo(["1/x.png"])

        assert store.path("1/x.png").read_bytes() == b"second"

    async def test_two_files_with_one_key_can_be_quarantined(self, store):
        for content in (b"decoy", b"another"):
            await put(store, "1/x.png", content)
            await store.quarantine(await store.file_ids(["1/x.png"]))

        assert await listing(store) == []

    async def test_file_that_was_replaced_since_is_neither_removed_nor_quarantined(self, store):
        for move in (store.remove, store.quarantine):
            await put(store, "1/x.png", b"out of use")
            seen = await store.file_ids(["1/x.png"])
            await put(store, "1/x.png", b"in use")

            await move(seen)

            assert store.path("1/x.png").read_bytes() == b"in use"

    async def test_claimed_file_is_not_undone_by_the_process_that_placed_it(self, store):
        await put(store, "1/x.png", b"picture")

        assert await store.claim("1/x.png")
        await store.undo(["1/x.png"])

        assert store.path("1/x.png").read_bytes() == b"picture"

    async def test_store_without_a_crash_has_nothing_to_recover(self, store):
        await put(store, "1/x.png", b"old")
        await put(store, "1/x.png", b"new")

        assert [files async for files in store.unconfirmed()] == []

    async def test_free_bytes_are_reported(self, store):
        assert await store.free_bytes() > 0
