"""Moves of all copies between a folder and a bucket, on both databases: nothing is lost, nothing is copied twice."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from itertools import count, product

import pytest
from sqlalchemy import insert
from tests.contracts.store import put
from tests.databases import execute, open_database
from tests.s3 import BUCKET
from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

from rehost import process_identity as identity
from rehost.catalogue import TableCatalogue
from rehost.clock import Clock
from rehost.db import now
from rehost.errors import LedgerError, SettingsError, StoreError
from rehost.ledger import Ledger, Worker, migrate
from rehost.ledger.history import Stores
from rehost.ledger.moves import Moves, Phase
from rehost.ledger.schema import links
from rehost.ledger.takedowns import TakedownRecords
from rehost.model import Bucket, KnownStore
from rehost.store.local import LocalStore
from rehost.store.s3 import S3Store
from rehost.wiring.databases import plan
from rehost.wiring.server import files
from rehost.wiring.upkeep import delete_former, open_mover, open_pruner, open_takedowns, settle_move, survey_move

MANY = 6  # pictures in each table


def url_of(table, number):
    return f"http://pictures.example/{table}/{number}.png"


def content_of(url):
    return f"GIF89a at {url}".encode()


class Interrupted(Exception):  # noqa: N818 - as KeyboardInterrupt
    """The process ends here."""


class Removal:
    """A shop whose copies move, and the bucket to which they do."""

    def __init__(self, shop, s3):
        self.shop, self.s3 = shop, s3
        self.bucket = Bucket(BUCKET, s3.server.fresh_prefix())
        self.folder = shop.settings.storage_dir
        shop.settings = replace(shop.settings, aws=s3.env(), spool_dir=shop.folder / "spool")
        self.old = shop.settings
        self.new = replace(self.old, storage_dir=self.bucket)

    async def hold(self, numbers=range(MANY), folder=None):
        """Hold copies as runs leave them: files, ledger and rows."""
        async with open_database(self.shop.url) as database, LocalStore(folder or self.folder, clock=Clock()) as store:
            await migrate(database)
            await Stores(database).use(KnownStore(await store.identity(), store.where, "here"))
            for table, number in product(("goods", "offers"), numbers):
                await database.execute(insert(links).values(self.held(table, number)))
                local = f"/static/images/{table}/{number}.png"
                row = {"key": number, "url": url_of(table, number), "local": local}
                await execute(database, f"INSERT INTO {table} VALUES (:key, :url, :local)", **row)
                path = self.folder / table / f"{number}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content_of(url_of(table, number)))

    def held(self, table, number):
        url, content = url_of(table, number), content_of(url_of(table, number))
        return {
            "source": table,
            "row_key": str(number),
            "position": 0,
            "url": url,
            "host": "pictures.example",
            "present": True,
            "state": "held",
            "due_at": now(),
            "noted_at": now(),
            "held_at": now(),
            "fence": 0,
            "attempts": 0,
            "deaths": 0,
            "held_url": url,
            "format": "png",
            "width": 1,
            "height": 1,
            "frames": 1,
            "key": f"{table}/{number}.png",
            "size": len(content),
            "local_url": f"/static/images/{table}/{number}.png",
            "digest": hashlib.sha256(content).hexdigest(),
        }

    async def plan(self):
        """Plan as a run with the settings of the shop does; return how many copies are lost, and how many links due."""
        planned = await plan(self.shop.settings)
        return sum(each.lost + each.mended for each in planned), sum(each.due for each in planned)

    async def move(self, target=None, *, accepts_loss=False):
        """Move as the command does, with the settings of the shop."""
        place = target or self.bucket
        if (settled := await settle_move(self.shop.settings, place)) is not None:
            return settled
        async with open_mover(self.shop.settings, place, asyncio.Event()) as mover:
            return await asyncio.wait_for(mover.move("here", accepts_loss=accepts_loss), 120)

    def pictures(self, url):
        return [self.shop.origin.picture(url)] if "/picture/" in url else []

    def objects(self):
        names = self.s3.server.objects(BUCKET, f"{self.bucket.prefix}/")
        names = {name.removeprefix(f"{self.bucket.prefix}/") for name in names}
        return {name for name in names if not name.startswith(".rehost/")}

    def files(self):
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*.*"))
        return {str(path) for path in found if ".rehost" not in path.parts}

    def puts(self):
        """The copies that were put, each as often as it was."""
        names = [each.path for each in self.s3.requests if each.method == "PUT" and "/.rehost/" not in each.path]
        return [name.removeprefix(f"/{BUCKET}/{self.bucket.prefix}/") for name in names]

    async def interrupted(self, part, step, number=1, *, moment="before"):
        """Move until a method is called for so many a time, and end there, or after that."""
        calls, original = count(1), getattr(part, step)

        async def method(*arguments, **named):
            is_last = next(calls) == number
            if is_last and moment == "before":
                raise Interrupted
            result = await original(*arguments, **named)
            if is_last:
                raise Interrupted
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(part, step, method)
            await self.move()

    async def use(self, folder):
        """Use a store as a command does that began before."""
        async with open_database(self.shop.url) as database, LocalStore(folder, clock=Clock()) as store:
            await Stores(database).use(KnownStore(await store.identity(), "elsewhere mounted", "here"))

    async def want(self, numbers):
        """Add rows whose pictures a run fetches."""
        for number in numbers:
            await self.shop.add("goods", number, f"http://pictures.example/picture/{number}.png")

    async def forget(self, key):
        async with open_takedowns(self.shop.settings) as (takedowns, targets):
            return await takedowns.take_down(key, await targets.find(key))

    async def empty(self, *, dry=False):
        return await delete_former(self.shop.settings, asyncio.Event(), lambda _report: None, dry=dry)

    async def is_switching(self):
        async with open_database(self.shop.url) as database:
            last = await Moves(database).last()
        return last is not None and last.phase is Phase.SWITCHING

    def bytes_at(self, local):
        """The bytes to which a local URL leads, in the folder or in the bucket; None if there are none."""
        key = local.removeprefix("/static/images/")
        if key in self.objects():
            return self.s3.server.get(BUCKET, f"{self.bucket.prefix}/{key}").body
        path = self.folder / key
        return path.read_bytes() if path.is_file() else None

    async def check(self):
        """Assert that every row points at the whole picture of its link, and that the ledger says the same."""
        for table in ("goods", "offers"):
            query = f"""SELECT photo, photo_local, key, digest, state, rehost_links.local_url FROM {table}
                JOIN rehost_links ON source = '{table}' AND row_key = CAST(id AS text)"""
            for url, local, key, digest, state, known in await self.shop.sql(query):
                content = self.bytes_at(local)
                assert content is not None, f"{local} leads to nothing"
                assert state == "held"
                assert content in {content_of(url), *self.pictures(url)}
                assert hashlib.sha256(content).hexdigest() == digest
                assert local == known == f"/static/images/{key}"


@pytest.fixture
async def removal(shop, s3_faults):
    removal = Removal(shop, s3_faults)
    await removal.hold()
    return removal


async def test_copies_move_to_a_bucket_and_back_and_are_copied_once(removal, shop):
    report = await removal.move()

    assert (report.phase, report.copies, report.copied, report.switched) == ("ended", 12, 12, 12)
    assert len(removal.puts()) == len(removal.objects()) == 12
    await removal.check()
    assert len(removal.files()) == 12, "the former place is left as it is"
    shop.settings = removal.new
    assert await removal.plan() == (0, 0)
    former = await shop.sql("SELECT count(*) FROM rehost_links WHERE former_key IS NOT NULL")
    assert former == [(0,)], "the next run asks the bucket for no former key"

    back = await removal.move(removal.folder)

    assert (back.phase, back.copied, back.there, back.switched) == ("ended", 0, 12, 12)
    shop.settings = removal.old
    assert await removal.plan() == (0, 0)
    await removal.check()
    assert {local for (local,) in await shop.sql("SELECT photo_local FROM goods")} == {
        f"/static/images/goods/{number}.png" for number in range(MANY)
    }
    assert len(removal.puts()) == 12


async def test_copies_move_to_another_folder_under_the_same_names(removal, shop, tmp_path):
    before = await shop.sql("SELECT id, photo_local FROM goods ORDER BY id")

    report = await removal.move(tmp_path / "elsewhere")

    assert (report.phase, report.copied, report.switched) == ("ended", 12, 0)
    shop.settings = replace(removal.old, storage_dir=tmp_path / "elsewhere")
    assert await removal.plan() == (0, 0)
    assert await shop.sql("SELECT id, photo_local FROM goods ORDER BY id") == before
    for path in removal.files():
        assert (tmp_path / "elsewhere" / path).read_bytes() == (removal.folder / path).read_bytes()


async def test_commands_with_the_former_place_refuse_to_work_and_say_so(removal, shop):
    await removal.move()

    with pytest.raises(StoreError, match=f"moved from .*images to {removal.bucket}: set IMAGE_STORAGE_DIR"):
        await removal.plan()
    with pytest.raises(StoreError, match="set IMAGE_STORAGE_DIR"):
        await removal.use(removal.folder)


async def test_commands_with_the_new_place_refuse_to_work_before_it_is_in_use(removal, shop):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "switch")

    assert await removal.plan() == (0, 0)
    with pytest.raises(LedgerError, match="nothing is pruned until"):
        async with open_pruner(removal.old, asyncio.Event()):
            pass
    shop.settings = removal.new
    with pytest.raises(StoreError, match="leave IMAGE_STORAGE_DIR as it is"):
        await removal.plan()


async def test_no_command_works_while_rows_are_changed(removal, shop):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "end")

    for settings in (removal.old, removal.new):
        shop.settings = settings
        with pytest.raises(StoreError, match="to its end first"):
            await removal.plan()
        with pytest.raises(StoreError, match="to its end first"):
            async with open_pruner(settings, asyncio.Event()):
                pass
    with pytest.raises(StoreError, match="to its end first"):
        await removal.use(removal.folder)


async def test_missing_and_damaged_copies_are_listed_and_no_row_changes(removal, shop):
    (removal.folder / "goods/1.png").unlink()
    (removal.folder / "goods/2.png").write_bytes(b"no picture")
    before = await shop.sql("SELECT id, photo_local FROM goods ORDER BY id")

    report = await removal.move()

    assert (report.phase, report.missing, report.there) == ("copying", 2, 10)
    assert [each["file"] for each in report.listed] == ["goods/1.png", "goods/2.png"]
    assert "No such file" in report.listed[0]["evidence"]
    assert "another digest" in report.listed[1]["evidence"]
    assert await shop.sql("SELECT id, photo_local FROM goods ORDER BY id") == before
    assert (await removal.move(accepts_loss=True)).switched == 10
    shop.settings = removal.new
    assert await removal.plan() == (2, 2)


async def test_what_changes_while_copies_are_made_is_moved_as_well(removal, shop):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "switch")
    another = content_of("another")
    (removal.folder / "goods/1.png").write_bytes(another)
    digest = hashlib.sha256(another).hexdigest()
    await shop.sql(f"UPDATE rehost_links SET digest = '{digest}', url = 'another' WHERE key = 'goods/1.png'")
    await shop.sql("UPDATE goods SET photo = 'another' WHERE id = 1")
    await removal.hold([MANY])

    report = await removal.move()

    assert (report.phase, report.copies, report.copied, report.switched) == ("ended", 14, 3, 14)
    await removal.check()


async def test_a_row_whose_link_has_changed_goes_on_to_point_at_its_former_copy(removal, shop):
    await shop.sql("UPDATE goods SET photo = 'http://pictures.example/new.png' WHERE id = 1")

    await removal.move()

    [(local,)] = await shop.sql("SELECT photo_local FROM goods WHERE id = 1")
    assert local.removeprefix("/static/images/") in removal.objects()


async def test_a_local_url_of_others_stays(removal, shop):
    await shop.sql("UPDATE goods SET photo_local = 'https://other.example/1' WHERE id = 1")

    await removal.move()

    assert await shop.sql("SELECT photo_local FROM goods WHERE id = 1") == [("https://other.example/1",)]


async def test_a_link_that_is_visited_is_waited_for_and_no_other_is_leased(removal, shop):
    async with open_database(shop.url) as database:
        ledger = Ledger(
            database, Worker(identity.name(), "here", 1, "me", "0"), lease_seconds=600.0, url=lambda key, _: key
        )
        [(store,)] = await shop.sql("SELECT store FROM rehost_stores")
        await ledger.use(KnownStore(store, str(removal.folder), "here"))
        [task] = await ledger.leases.lease_held([1])
        moving = asyncio.create_task(removal.move())
        while not await removal.is_switching():
            await asyncio.sleep(0.05)
        with pytest.raises(StoreError, match="another place for copies has come into use"):
            await _first(lambda: ledger.leases.lease_held([2]))
        with pytest.raises(StoreError, match="another place for copies has come into use"):
            await ledger.check_store()
        await shop.sql("UPDATE rehost_links SET state = 'wanted' WHERE entry = 3")
        with pytest.raises(StoreError, match="another place for copies has come into use"):
            await _first(lambda: ledger.leases.lease("goods", "pictures.example", 5))
        assert not moving.done()
        await ledger.leases.release([task])
        report = await moving

    assert (report.phase, report.switched) == ("ended", 12)
    assert await shop.sql("SELECT count(*) FROM rehost_links WHERE state = 'leased'") == [(0,)]


async def _first(lease):
    """Return the first links that are leased: none are while the move has their rows."""
    while not (tasks := await lease()):
        await asyncio.sleep(0.01)
    return tasks


async def test_a_move_is_taken_back_before_rows_change(removal):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "switch")

    report = await removal.move(removal.folder)

    assert report.phase == "abandoned"
    assert await removal.plan() == (0, 0)
    await removal.check()
    again = await removal.move()
    assert (again.phase, again.copied) == ("ended", 0), "the copies were there already"
    await removal.check()


async def test_a_move_is_taken_back_while_rows_change(removal, shop):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "rename", 2)
    assert any(local.count(".") > 1 for (local,) in await shop.sql("SELECT photo_local FROM goods"))

    report = await removal.move(removal.folder)

    assert (report.phase, report.copied) == ("ended", 0)
    assert await removal.plan() == (0, 0)
    await removal.check()
    assert all(local.count(".") == 1 for (local,) in await shop.sql("SELECT photo_local FROM goods"))


async def test_a_store_of_something_else_a_place_within_and_another_target_are_refused(removal, tmp_path):
    async with LocalStore(tmp_path / "others", clock=Clock()) as store:
        await put(store, "1/main_image.png", b"other")

    with pytest.raises(StoreError, match="is another store already"):
        await removal.move(tmp_path / "others")
    for place in (removal.folder, removal.folder / "within"):
        with pytest.raises(SettingsError, match="one is the other, or in it"):
            await removal.move(place)
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "switch")
    with pytest.raises(LedgerError, match=f"A move from .* to {removal.bucket} is under way"):
        await removal.move(tmp_path / "elsewhere")


async def test_every_row_is_served_while_rows_change_if_the_server_knows_both_places(removal, shop):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "rename", 2)
    rows = await shop.sql("SELECT photo, photo_local FROM goods UNION SELECT photo, photo_local FROM offers")
    assert len({local.count(".") for _, local in rows}) == 2, "some rows have changed, others have not"
    settings = (
        replace(removal.old, other_storage_dir=removal.bucket),
        replace(removal.new, other_storage_dir=removal.folder, bucket_serving="redirect"),
    )
    for each in settings:
        async with by_uvicorn(files(each)) as port:
            for url, local in rows:
                answer = await ask(port, local.removeprefix("/static/images"))
                assert (answer.status, answer.body) == (200, content_of(url))
            assert (await ask(port, "/goods/none.png")).status == 404


async def test_a_survey_counts_and_changes_nothing(removal, shop):
    report = await survey_move(shop.settings, removal.bucket)

    assert (report.copies, report.there, report.dry) == (12, 0, True)
    assert removal.objects() == set()
    assert await removal.plan() == (0, 0)


async def test_the_former_copies_are_deleted_once_no_row_leads_there(removal, shop):
    await removal.move()
    [(local,)] = await shop.sql("SELECT photo_local FROM goods WHERE id = 1")
    await shop.sql("UPDATE goods SET photo_local = '/static/images/goods/1.png' WHERE id = 1")
    with pytest.raises(StoreError, match=r"still lead to copies in .*, such as goods/1\.png"):
        await removal.empty()
    await shop.sql(f"UPDATE goods SET photo_local = '{local}' WHERE id = 1")
    assert (await removal.empty(dry=True)).copies == len(removal.files()) == 12

    report = await removal.empty()

    assert (report.copies, removal.files()) == (12, set())
    await removal.check()


async def test_a_takedown_removes_the_copies_in_both_places_before_and_after_the_end(removal, shop):
    with pytest.raises(Interrupted):
        await removal.interrupted(Moves, "switch")
    await removal.forget("goods/1.png")
    assert not [name for name in (*removal.files(), *removal.objects()) if name.startswith("goods/1.")]
    assert (await removal.move()).phase == "ended"

    shop.settings = removal.new
    await removal.forget(next(name for name in removal.objects() if name.startswith("goods/2.")))

    assert not [name for name in (*removal.files(), *removal.objects()) if name.startswith(("goods/1.", "goods/2."))]
    assert len(removal.files()) == len(removal.objects()) == 10
    assert await shop.sql("SELECT photo_local FROM goods WHERE id IN (1, 2)") == [(None,), (None,)]


async def test_a_takedown_asks_for_a_former_place_that_is_not_there(removal, shop):
    await removal.move()
    removal.folder.rename(removal.folder.with_name("unmounted"))
    shop.settings = removal.new

    with pytest.raises(StoreError, match=r"images may have copies too.*move-store --delete-old"):
        await removal.forget(min(removal.objects()))
    await removal.empty()
    await removal.forget(min(removal.objects()))


async def test_what_was_taken_down_before_is_marked_at_the_new_place_as_well(removal, shop):
    await removal.forget("goods/1.png")

    await removal.move()

    marks = removal.s3.server.objects(BUCKET, f"{removal.bucket.prefix}/.rehost/gone/")
    assert len(marks) == 1


STEPS = [
    *((S3Store, "place"), (Moves, "save"), (Moves, "switch"), (TakedownRecords, "read"), (Moves, "copied")),
    *((Moves, "rename"), (TableCatalogue, "clear"), (Moves, "end")),
]


@pytest.mark.sampled(2, per="database_url")
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
async def test_invariant_1_a_move_that_ends_at_any_step_loses_nothing_and_copies_nothing_twice(removal, step, moment):
    with pytest.raises(Interrupted):
        await removal.interrupted(*step, moment=moment)
    await removal.check()

    report = await removal.move()

    assert (report.phase, report.missing) == ("ended", 0)
    await removal.check()
    assert sorted(removal.puts()) == sorted(removal.objects())


@pytest.mark.sampled(1)
@pytest.mark.parametrize("step", [(Moves, "save"), (Moves, "rename")], ids=lambda step: step[1])
async def test_two_writers_at_work_and_a_kill_lose_nothing_on_the_way_to_a_bucket_and_back(removal, shop, step):
    await removal.want(range(100, 103))
    writers = [asyncio.create_task(shop.run()) for _ in range(2)]

    with pytest.raises(Interrupted):
        await removal.interrupted(*step)
    moved = await removal.move()
    await asyncio.gather(*writers, return_exceptions=True)

    assert moved.phase == "ended"
    shop.settings = removal.new
    await removal.want([103])
    await shop.run()
    await removal.check()
    assert sorted(removal.puts()) == sorted(removal.objects())
    await removal.want(range(104, 106))
    writers = [asyncio.create_task(shop.run()) for _ in range(2)]
    back = await removal.move(removal.folder)
    await asyncio.gather(*writers, return_exceptions=True)
    shop.settings = removal.old
    await shop.run()
    assert back.phase == "ended"
    await removal.check()
    assert len(await shop.sql("SELECT 1 FROM rehost_links WHERE state = 'held'")) == 18
    assert sorted(removal.puts()) == sorted(removal.objects())
