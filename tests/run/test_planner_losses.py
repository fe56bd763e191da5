"""Lost copies and lost stores: rows are cleared, a store that may come back stops the run, what is back is used."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3

import pytest
from tests.origin import Origin
from tests.run.test_run import make_world

from rehost.cli.commands.queries import _read_status
from rehost.cli.output.tables import Style
from rehost.errors import StoreError
from rehost.model import Reason
from rehost.upkeep.undo import Undone
from rehost.wiring import databases, upkeep
from rehost.wiring.run import open_run


@pytest.fixture
def mood():
    """What the origin does for a path, where a test changes that."""
    return {}


@pytest.fixture
def store_world(tmp_path, mood, request):
    """A world with twelve links; its ledger is in the rows' database or, with the parameter `apart`, in its own."""
    more = {"REHOST_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"} if hasattr(request, "param") else {}
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin:
        world = make_world(tmp_path, origin, {"IMAGE_VERIFY": "structure", **more})
        world.add(*(world.link("permissive", f"{number}.jpg") for number in range(1, 13)))
        yield world


@pytest.fixture
def images(store_world):
    return store_world.folder / "images"


def sql_in_ledger(world, statement):
    name = world.settings.ledger_url.rpartition("/")[2]
    with contextlib.closing(sqlite3.connect(world.folder / name)) as connection, connection:
        return list(connection.execute(statement))


async def last_run(world):
    async with databases.open_queries(world.settings) as queries:
        return (await queries.runs("cases", 1))[0].run


async def run_anyway(world):
    async with open_run(world.settings, source=None, listen=world.events.append, accepts_loss=True) as run:
        return await run.execute()


@pytest.mark.parametrize("store_world", ["apart"], indirect=True)
async def test_a_row_of_a_lost_copy_is_cleared_if_the_ledger_is_apart(store_world, images, mood):
    await store_world.run()
    mood["/permissive/2.jpg"] = "not-found"
    shutil.rmtree(images / "2")

    await store_world.run()

    assert store_world.locals().keys() == {1, *range(3, 13)}


async def test_invariant_5_a_row_of_a_lost_copy_is_cleared_and_undo_restores_it_once_the_file_is_back(
    store_world, images, mood
):
    await store_world.run()
    before = store_world.locals()
    mood["/permissive/2.jpg"] = "not-found"
    (images / "2").rename(images.parent / "kept")

    ended = await store_world.run()
    run = await last_run(store_world)
    at_once = await upkeep.undo(store_world.settings, run=run)

    assert ended.failed == {Reason.GONE: 1}
    assert store_world.locals() == {key: url for key, url in before.items() if key != 2}
    assert at_once == {"cases": Undone(restored=0, left=1)}
    (images.parent / "kept").rename(images / "2")
    assert await upkeep.undo(store_world.settings, run=run) == {"cases": Undone(restored=1, left=0)}
    assert store_world.locals() == before


async def test_a_row_that_takes_no_null_is_cleared_with_an_empty_text(store_world, images, mood):
    store_world.sql("ALTER TABLE ad_cases DROP COLUMN main_image_local")
    store_world.sql("ALTER TABLE ad_cases ADD COLUMN main_image_local TEXT NOT NULL DEFAULT ''")
    await store_world.run()
    before = store_world.locals()
    mood["/permissive/2.jpg"] = "not-found"
    (images / "2").rename(images.parent / "kept")
    await store_world.run()

    assert store_world.locals() == {**before, 2: ""}
    (images.parent / "kept").rename(images / "2")
    undone = await upkeep.undo(store_world.settings, run=await last_run(store_world))
    assert (undone["cases"].restored, store_world.locals()) == (1, before)


async def test_a_row_that_refuses_to_be_cleared_is_tried_again_by_the_next_run(store_world, images, mood, caplog):
    await store_world.run()
    store_world.sql(
        "CREATE TRIGGER keep BEFORE UPDATE ON ad_cases WHEN new.main_image_local IS NULL"
        " BEGIN SELECT RAISE(ABORT, 'kept'); END"
    )
    mood["/permissive/2.jpg"] = mood["/permissive/3.jpg"] = "not-found"
    shutil.rmtree(images / "2")
    shutil.rmtree(images / "3")
    await store_world.run()
    assert len(store_world.locals()) == 12
    assert sum("row not cleared" in message for message in caplog.messages) == 2
    store_world.sql("DROP TRIGGER keep")

    await store_world.run()

    assert store_world.locals().keys() == {1, *range(4, 13)}


async def test_a_lost_file_that_is_back_is_adopted_without_a_request_though_its_link_waits(store_world, images, mood):
    await store_world.run()
    before = store_world.locals()
    mood["/permissive/2.jpg"] = "not-found"
    (images / "2").rename(images.parent / "kept")
    await store_world.run()
    asked = store_world.origin.count()
    (images.parent / "kept").rename(images / "2")

    ended = await store_world.run()

    assert (ended.adopted, ended.failed, store_world.origin.count()) == (1, {}, asked)
    assert store_world.locals() == before


async def test_a_file_that_is_no_picture_makes_a_waiting_link_due_only_once(store_world, images, mood):
    mood["/permissive/2.jpg"] = "not-found"
    await store_world.run()
    (images / "2").mkdir()
    (images / "2/main_image.jpg").write_bytes(b"<html>")
    await store_world.run()
    asked = store_world.origin.count()

    ended = await store_world.run()

    assert (ended.failed, store_world.origin.count()) == ({}, asked)
    (images / "2/main_image.jpg").unlink()
    await store_world.run()
    (images / "2/main_image.jpg").write_bytes(store_world.bytes_of(1))
    assert (await store_world.run()).adopted == 1


@pytest.mark.parametrize("content", ["/theirs.jpg", "https://cdn.example/static/images/2/main_image.jpg"])
async def test_a_local_url_that_others_wrote_stays_though_the_copy_is_lost(store_world, images, mood, content):
    await store_world.run()
    store_world.sql("UPDATE ad_cases SET main_image_local = ? WHERE case_id = 2", content)
    mood["/permissive/2.jpg"] = "not-found"
    shutil.rmtree(images / "2")

    await store_world.run()

    assert store_world.locals()[2] == content


async def test_a_store_that_is_not_mounted_stops_the_run_and_loses_nothing(store_world, images, mood):
    await store_world.run()
    before, asked = store_world.locals(), store_world.origin.count()
    mood["/permissive/2.jpg"] = "not-found"
    images.rename(images.parent / "elsewhere")

    with pytest.raises(StoreError, match=rf"{images} does not exist, .*--accept-loss"):
        await store_world.run()
    with pytest.raises(StoreError, match="does not exist"):
        await databases.plan(store_world.settings)
    [status], _, _ = await _read_status(store_world.settings, (), failed=False)
    with pytest.raises(StoreError, match="does not exist"):
        await upkeep.undo(store_world.settings, run=1)

    assert status.store.startswith(f"{images} does not exist")
    assert status.store in " ".join(status.text(Style(is_on=False)).split())
    assert not images.exists()
    assert store_world.locals() == before
    (images.parent / "elsewhere").rename(images)
    ended = await store_world.run()
    [status], _, _ = await _read_status(store_world.settings, (), failed=False)
    assert (ended.held, ended.failed, store_world.origin.count(), status.store) == (0, {}, asked, None)


async def test_a_store_that_is_back_after_an_accepted_loss_brings_back_what_was_lost(store_world, images, mood):
    await store_world.run()
    before = store_world.locals()
    mood["/permissive/2.jpg"] = "not-found"
    images.rename(images.parent / "elsewhere")

    accepted = await run_anyway(store_world)
    cleared = store_world.locals()

    assert (accepted.held, accepted.failed) == (11, {Reason.GONE: 1})
    assert cleared == {key: url for key, url in before.items() if key != 2}
    shutil.rmtree(images)
    (images.parent / "elsewhere").rename(images)
    asked = store_world.origin.count()
    ended = await store_world.run()
    assert (ended.adopted, ended.failed, store_world.origin.count()) == (12, {}, asked)
    assert store_world.locals() == before


async def test_a_picture_of_a_former_link_in_a_store_that_is_back_is_not_taken_for_the_new_ones(store_world, images):
    await store_world.run()
    images.rename(images.parent / "elsewhere")
    await run_anyway(store_world)
    changed = store_world.link("permissive", "changed.jpg")
    store_world.sql("UPDATE ad_cases SET main_image = ? WHERE case_id = 2", changed)
    await store_world.run()
    shutil.rmtree(images)
    (images.parent / "elsewhere").rename(images)

    await store_world.run()

    assert store_world.bytes_of(2) == Origin.picture(changed)


async def test_another_store_in_its_place_stops_the_run(store_world, images):
    await store_world.run()
    (images / ".rehost/store-id").write_text("f" * 32)

    with pytest.raises(StoreError, match=r"is another store \(.rehost/store-id holds ffffffff\)"):
        await store_world.run()


async def test_a_store_with_its_marker_and_without_a_tenth_of_its_files_stops_the_run(store_world, images):
    await store_world.run()
    before = store_world.locals()
    for number in range(1, 12):
        shutil.rmtree(images / str(number))

    with pytest.raises(StoreError, match=r"^11 of the 12 copies .* missing from .*--accept-loss"):
        await store_world.run()

    assert store_world.locals() == before
    assert (await run_anyway(store_world)).held == 11


async def test_a_few_missing_files_are_fetched_again(store_world, images):
    await store_world.run()
    for number in range(1, 11):
        shutil.rmtree(images / str(number))

    assert (await store_world.run()).held == 10


@pytest.mark.parametrize("left", [[], [".rehost"]])
async def test_deleted_files_and_cleared_rows_are_a_redo(store_world, images, left):
    await store_world.run()
    for each in images.iterdir():
        if each.name not in left:
            shutil.rmtree(each)
    store_world.sql("UPDATE ad_cases SET main_image_local = NULL")

    assert (await store_world.run()).held == 12


async def test_a_store_of_an_earlier_version_gets_its_marker(store_world, images):
    await store_world.run()
    (images / ".rehost/store-id").unlink()
    sql_in_ledger(store_world, "DELETE FROM rehost_stores")

    ended = await store_world.run()

    assert ended.held == 0
    assert sql_in_ledger(store_world, "SELECT store FROM rehost_stores") == [
        ((images / ".rehost/store-id").read_text().strip(),)
    ]
