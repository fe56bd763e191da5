"""Ledger and store side by side: every difference is named, on both databases."""

from __future__ import annotations

from tests.databases import execute
from tests.pictures import picture
from tests.upkeep.keepers import Keeper, digest_of, keeper

from rehost.clock import Clock
from rehost.ledger.copies import Copies
from rehost.ledger.usage import Duplicates, Part, UsageQueries
from rehost.store.base import Cause
from rehost.store.layout import Layout
from rehost.upkeep.usage import Usage, measure

__all__ = ["keeper"]


async def measured(one: Keeper) -> Usage:
    database = one.peer.database
    return await measure(UsageQueries(database), Copies(database), one.store, {"cases": Layout()}, Clock())


async def test_every_difference_between_ledger_and_store_is_named(database, keeper):
    async with keeper() as one:
        for number, content in ((1, picture(1)), (2, picture(1)), (3, picture(3)), (4, picture(4))):
            await one.first(content, number=number)
        await one.replace(picture(5))  # the first one's
        await execute(database, "DELETE FROM ad_cases WHERE case_id = 4")
        await execute(database, "INSERT INTO ad_cases VALUES (50, 'p', 't', 'https://a.example/50', NULL)")
        await one.peer.note()
        one.store.path("2/main_image.jpg").unlink()
        one.put("3/main_image.jpg", b"cut")
        one.put("7/main_image.png", b"stray")
        one.put("50/main_image.png", b"found")
        one.put("notes/todo.txt", b"mine")
        one.put("8/main_image.png", b"decoy")
        await one.store.quarantine(await one.store.file_ids(["8/main_image.png"]))

        usage = await measured(one)

        ledger, store = usage.ledger, usage.store
        total = sum(map(len, (picture(5), picture(1), picture(3), picture(4))))
        assert (ledger.copies, ledger.size) == (4, total)
        assert ledger.sources == [Part("cases", 4, total)]
        assert ledger.hosts == [Part("a.example", 4, total)]
        assert (ledger.formats[0].name, ledger.without_row.copies, ledger.duplicates.copies) == ("jpg", 1, 0)
        assert (store.copies.files, store.missing, store.resized) == (3, 1, 1)
        assert store.copies.size == len(picture(5)) + 3 + len(picture(4))
        assert store.copies.disk_size >= store.copies.files * 512
        sizes = [(each.files, each.size) for each in (store.strays, store.found, store.others, store.quarantine)]
        assert sizes == [(1, 5), (1, 5), (1, 4), (1, 5)]
        trash = store.trash[Cause.REPLACED]
        assert (trash.files, trash.size, trash.due) == (1, len(picture(1)), 0)
        assert store.trash[Cause.REMOVED].files == 0
        assert usage.full_in_days == store.free / ledger.bytes_per_day


async def test_copies_with_the_same_bytes_rescued_ones_and_tombstones_are_counted(database, keeper):
    async with keeper() as one:
        for number in (1, 2, 3):
            await one.first(picture(1), number=number)
        await execute(database, "UPDATE rehost_links SET rescued = 'an archive' WHERE entry = 3")
        digest = digest_of(picture(1))
        await execute(database, f"INSERT INTO rehost_tombstones VALUES ('digest', '{digest}', 1, true)")

        ledger = (await measured(one)).ledger

        size = len(picture(1))
        assert ledger.duplicates == Duplicates(digests=1, copies=2, size=2 * size)
        assert (ledger.rescued.copies, ledger.rescued.size, ledger.tombstones) == (1, size, 1)


async def test_growth_is_counted_by_month(database, keeper):
    async with keeper() as one:
        for number in (1, 2, 3):
            await one.first(picture(number), number=number)
        days = "62 * 86400" if database.is_sqlite else "interval '62 days'"
        await execute(database, f"UPDATE rehost_links SET held_at = held_at - {days} WHERE entry = 1")

        months = (await measured(one)).ledger.months

        assert len(months) == 12
        assert [each.copies for each in months[-1:]] == [2]
        assert sum(each.copies for each in months) == 3
        [old] = [each for each in months[:-1] if each.copies]
        assert (old.copies, old.size) == (1, len(picture(1)))
        assert [each.month for each in months] == sorted(each.month for each in months)
