"""What no row needs goes to the trash, and nothing else does; on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.databases import execute
from tests.pictures import picture
from tests.upkeep.keepers import Keeper, as_held, digest_of, keeper

from rehost.clock import Clock
from rehost.errors import LedgerError
from rehost.store.base import Cause
from rehost.upkeep.prune import Amount
from rehost.upkeep.undo import Undone

__all__ = ["keeper"]

STRAY = "7/main_image.png"


class Later(Clock):
    """A clock that is ahead."""

    def __init__(self, **time: float) -> None:
        super().__init__()
        self._ahead = timedelta(**time)

    def now(self):
        return super().now() + self._ahead


async def without_row(one: Keeper) -> bytes:
    """Hold a copy, and delete its row; return its bytes."""
    await one.first(content := picture(1))
    await execute(one.peer.database, "DELETE FROM ad_cases")
    return content


async def test_what_no_row_needs_is_found_and_left_without_yes(database, keeper):
    async with keeper() as one:
        content = await without_row(one)
        one.put(STRAY, b"stray")

        pruned = await one.prune()

        assert (pruned.dry, pruned.strays, pruned.copies) == (True, Amount(1, 5), Amount(1, len(content)))
        assert (one.file(), one.file(STRAY), pruned.run) == (content, b"stray", None)
        assert await execute(database, "SELECT key FROM rehost_links") == [("1/main_image.jpg",)]


async def test_it_goes_to_the_trash_and_undo_brings_it_back(database, keeper):
    async with keeper() as one:
        content = await without_row(one)
        same_cell = "7/main_image.gif"
        one.put(STRAY, b"stray")
        one.put(same_cell, b"another")

        pruned = await one.prune(dry=False)

        assert (pruned.strays, pruned.copies, pruned.kept) == (Amount(2, 12), Amount(1, len(content)), 0)
        assert [one.file(key) for key in ("1/main_image.jpg", STRAY, same_cell)] == [None, None, None]
        assert await one.trashed() == {digest_of(each) for each in (content, b"stray", b"another")}
        assert await execute(database, "SELECT state, key, present FROM rehost_links") == [("wanted", None, False)]
        assert (await one.prune(dry=False)).found == 0
        assert await one.undo(pruned.run) == Undone(restored=0, left=0, files=3)
        assert [one.file(key) for key in ("1/main_image.jpg", STRAY, same_cell)] == [content, b"stray", b"another"]


async def test_a_row_that_is_back_gets_its_copy_again_without_a_request(database, keeper):
    async with keeper() as one:
        content = await without_row(one)
        pruned = await one.prune(dry=False)
        await one.undo(pruned.run)
        await execute(database, "INSERT INTO ad_cases VALUES (1, 'p', 't', 'https://a.example/1/1', NULL)")

        await one.plan()
        [task] = await one.peer.lease_all()
        adopted = await one.adopt(task)
        await one.recorder().record(9, [adopted])

        assert (await one.held(), one.file()) == (as_held(content), content)


async def test_what_a_row_or_a_run_may_need_stays(database, keeper):
    async with keeper() as one:
        await one.first(picture(1), number=1)
        for number in (2, 3, 4):
            await one.first(picture(number), number=number)
        needed = {
            "20/main_image.png": b"pointed at by another row, under another prefix",
            "3/main_image.jpg": picture(3),  # its row has no link any more, but its local URL
            "30/main_image.png": b"a day old at most",
            "notes/todo.txt": b"no copy's name",
            "4/main_image.jpg": picture(4),
            "50/main_image.png": b"at the place of a link without a copy",
        }
        for key, content in needed.items():
            one.put(key, content, days_old=0.5 if key.startswith("30/") else 2)
        await execute(
            database,
            "UPDATE ad_cases SET main_image_local = 'https://cdn.example/x/20/main_image.png?v=1' WHERE case_id = 2",
        )
        await execute(database, "UPDATE ad_cases SET main_image = NULL WHERE case_id = 3")
        await execute(database, "INSERT INTO ad_cases VALUES (50, 'p', 't', 'https://a.example/50', NULL)")

        pruned = await one.prune(dry=False)

        assert (pruned.found, pruned.young, pruned.run) == (0, 1, None)
        assert {key: one.file(key) for key in needed} == needed
        assert one.file("2/main_image.jpg") == picture(2)
        assert await one.trashed() == set()


async def test_more_than_a_tenth_stops_it_until_it_is_allowed(database, keeper):
    async with keeper() as one:
        await one.first(picture(1))
        keys = [f"{number}/main_image.png" for number in range(100, 111)]
        for key in keys:
            one.put(key, key.encode())

        stopped = await one.prune(dry=False)

        assert (stopped.stopped, stopped.strays.files, stopped.run) == (True, 11, None)
        assert all(one.file(key) for key in keys)
        allowed = await one.prune(dry=False, most=1.0)
        assert (allowed.stopped, allowed.strays.files) == (False, 11)
        assert not any(one.file(key) for key in keys)


async def test_ten_strays_are_no_reason_to_stop(database, keeper):
    async with keeper() as one:
        for number in range(100, 110):
            one.put(f"{number}/main_image.png", b"stray")

        assert not (await one.prune(dry=False)).stopped


async def test_it_is_refused_while_a_run_visits_links(database, keeper):
    async with keeper() as one:
        content = await without_row(one)
        await execute(database, "INSERT INTO ad_cases VALUES (2, 'p', 't', 'https://a.example/2', NULL)")
        await one.peer.note()
        await one.peer.lease_all()

        with pytest.raises(LedgerError, match="A run over cases is in progress"):
            await one.prune(dry=False)

        assert one.file() == content


async def test_a_file_that_another_worker_replaces_meanwhile_stays(database, keeper):
    async with keeper() as one:
        one.put(STRAY, b"stray")

        class Hasty:
            """A store in whose place another worker puts a file after the identities are read."""

            def __getattr__(self, name):
                return getattr(one.store, name)

            async def file_ids(self, keys):
                seen = await one.store.file_ids(keys)
                one.put(STRAY, b"a new one")
                return seen

        await one.pruner(store=Hasty()).prune(dry=False)

        assert one.file(STRAY) == b"a new one"


@pytest.mark.parametrize(
    ("clock", "grace", "left"),
    [
        (Later(days=6), None, {Cause.REMOVED, Cause.REPLACED}),
        (Later(days=8), None, {Cause.REPLACED}),
        (Later(days=31), None, set()),
        (Later(), timedelta(0), set()),
    ],
    ids=["6 days", "8 days", "31 days", "grace 0"],
)
async def test_the_trash_keeps_what_was_removed_for_a_week_and_what_was_replaced_for_a_month(
    database, keeper, clock, grace, left
):
    async with keeper() as one:
        await one.first(picture(1))
        await one.replace(picture(2))
        one.put(STRAY, b"stray")
        await one.prune(dry=False)
        options = {} if grace is None else {"grace": dict.fromkeys(Cause, grace)}

        dry = await one.pruner(clock=clock).prune(**options)
        assert await one.trashed() == {digest_of(picture(1)), digest_of(b"stray")}
        pruned = await one.pruner(clock=clock).prune(dry=False, **options)

        assert {each.cause async for group in one.store.trashed() for each in group} == left
        assert dry.expired == pruned.expired
        assert {cause for cause, amount in pruned.expired.items() if not amount.files} == left
