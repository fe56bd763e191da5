"""Copies that a run replaced come back from the trash, with files, ledger and rows together, on both databases."""

from __future__ import annotations

import pytest
from tests.databases import execute
from tests.pictures import picture
from tests.upkeep.keepers import as_held, digest_of, keeper

from rehost.model import Format
from rehost.store.base import Cause
from rehost.upkeep.undo import Undone

__all__ = ["keeper"]


async def test_undo_puts_the_replaced_copy_back_and_can_itself_be_undone(database, keeper):
    old, new = picture(1), picture(2)
    async with keeper() as one:
        await one.first(old)
        run = await one.replace(new)

        undone = await one.undo(run)

        assert undone == Undone(restored=1, left=0, files=1)
        assert (one.file(), await one.held()) == (old, as_held(old))
        of_undo = await one.last_run()
        assert of_undo > run
        assert await one.undo(run) == Undone(restored=0, left=1)
        assert await one.last_run() == of_undo
        assert await one.undo(of_undo) == Undone(restored=1, left=0, files=1)
        assert (one.file(), await one.held()) == (new, as_held(new))


async def test_undo_puts_a_copy_of_another_format_back_and_its_row(database, keeper):
    old, new = picture(1), picture(2, Format.PNG)
    async with keeper() as one:
        await one.first(old)
        run = await one.replace(new, "png")
        assert (one.file(), one.file("1/main_image.png")) == (None, new)

        undone = await one.undo(run)

        assert undone == Undone(restored=1, left=0, files=1)
        assert (one.file(), one.file("1/main_image.png"), await one.held()) == (old, None, as_held(old))
        assert await one.peer.locals() == {1: "/static/images/1/main_image.jpg"}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ad_cases SET main_image_local = '/mine.png'",
        "UPDATE ad_cases SET main_image = 'https://a.example/other'",
        "UPDATE rehost_links SET url = 'https://a.example/other'",
        "UPDATE rehost_links SET state = 'leased', attempts = 1",
    ],
)
async def test_a_copy_whose_row_or_link_has_changed_since_stays(database, keeper, change):
    async with keeper() as one:
        await one.first(picture(1))
        run = await one.replace(picture(2))
        await execute(database, change)

        undone = await one.undo(run)

        assert undone == Undone(restored=0, left=1)
        assert one.file() == picture(2)


@pytest.mark.parametrize("fault", ["deleted", "damaged"])
async def test_bytes_that_are_no_longer_whole_in_the_trash_are_not_put_back(database, keeper, fault):
    async with keeper() as one:
        await one.first(picture(1))
        run = await one.replace(picture(2))
        [[trashed]] = [group async for group in one.store.trashed()]
        if fault == "deleted":
            await one.store.delete_trashed([trashed])
        else:
            [path] = one.store.path("x").parent.glob(".rehost/trash/*/*/*")
            path.write_bytes(picture(3))

        undone = await one.undo(run)

        assert undone == Undone(restored=0, left=1, gone=1)
        assert (one.file(), await one.held()) == (picture(2), as_held(picture(2)))


async def test_a_file_that_was_removed_gets_its_key_back_if_that_is_free(database, keeper):
    async with keeper() as one:
        await one.first(picture(1))
        run = await one.peer.ledger.runs.begin("cases", verb="prune")
        for number in (7, 8, 9):
            key, content = f"{number}/main_image.jpg", picture(number)
            one.put(key, content)
            digest = digest_of(content)
            await execute(
                database,
                "INSERT INTO rehost_changes"
                " (run, source, row_key, position, url, changed_at, before_key, before_digest)"
                f" SELECT {run}, 'cases', '{number}', 0, '', noted_at, '{key}', '{digest}' FROM rehost_links",
            )
            await one.store.trash(await one.store.file_ids([key]), Cause.REMOVED)
        one.store.path("8/main_image.jpg").parent.mkdir(exist_ok=True)
        one.store.path("8/main_image.jpg").write_bytes(b"of somebody else")

        undone = await one.undo(run)

        assert undone == Undone(restored=0, left=1, files=2)
        assert [one.file(f"{number}/main_image.jpg") for number in (7, 8, 9)] == [
            picture(7),
            b"of somebody else",
            picture(9),
        ]
        assert await one.undo(run) == Undone(restored=0, left=3)
