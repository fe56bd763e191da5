"""Planted faults are named rightly and mended, and a second pass is clean: real files, origins and both databases."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import FakeClock
from tests.journeys.world import TABLE, World
from tests.misbehaviours import BEHAVIOURS
from tests.origin import Origin
from tests.pictures import picture
from tests.s3 import BUCKET
from tests.server.conftest import by_uvicorn
from tests.server.wire import ask

from rehost.errors import OperatorError, SettingsError, StoreError
from rehost.ledger.findings import Fault, Mend
from rehost.model import Format
from rehost.settings import Settings, load
from rehost.upkeep.inspection import Pace
from rehost.upkeep.verify import VerifyOptions, VerifyReport
from rehost.wiring.run import open_run
from rehost.wiring.server import build_server
from rehost.wiring.upkeep import undo
from rehost.wiring.verification import open_verification

READ, QUICK, REPAIR = VerifyOptions(), VerifyOptions(is_quick=True), VerifyOptions(repairs=True)


@dataclass
class Kept:
    """A table, an origin and a store, in this process."""

    world: World
    mood: dict[str, object] = field(default_factory=dict)  # what the origin does for a path
    more: dict[str, str] = field(default_factory=dict)  # settings

    @property
    def images(self) -> Path:
        return self.world.store

    @property
    def settings(self) -> Settings:
        return load(self.world.folder, self.world.environment() | self.more, {})

    def fill(self, number: int) -> None:
        self.world.fill(
            [self.world.origin.url("picture", f"{each}.jpg", host="pics.example") for each in range(1, number + 1)]
        )

    async def run(self) -> None:
        async with open_run(self.settings, source=None, listen=lambda _event: None) as run:
            await asyncio.wait_for(run.execute(), 60)

    async def verify(self, options: VerifyOptions = READ, **more: Any) -> VerifyReport:
        async with open_verification(self.settings, options, more.pop("stop", asyncio.Event()), **more) as verification:
            return await asyncio.wait_for(verification.verify(), 60)

    def file(self, case_id: int) -> Path:
        return self.images / f"{case_id}/main_image.jpg"

    def whole(self, case_id: int) -> bytes:
        return self.world.origin.picture(self.world.urls[case_id - 1])

    def locals(self) -> dict[int, str]:
        rows = self.world.sql("SELECT case_id, main_image_local FROM ad_cases WHERE main_image_local IS NOT NULL")
        return {int(case): local for case, local in rows}

    def findings(self, columns: str = "kind, mended_by") -> list[tuple[str, ...]]:
        return self.world.sql(f"SELECT {columns} FROM rehost_findings ORDER BY finding")


both = pytest.mark.parametrize("kept", ["postgresql", "sqlite"], indirect=True)


@pytest.fixture
def kept(request, tmp_path):
    """A world on SQLite; tests that are marked `both` get one on PostgreSQL as well."""
    mood: dict[str, object] = {}
    server = request.getfixturevalue("postgres") if getattr(request, "param", "sqlite") == "postgresql" else None
    with Origin(lambda _host, path, _headers: mood.get(path)) as origin:
        database = server.create_database() if server else ""
        world = World(tmp_path, origin, server, database, {"IMAGE_VERIFY": "structure"})
        world.sql(TABLE)
        yield Kept(world, mood)
        if server:
            server.drop_database(database)


def damage(kept: Kept) -> dict[int, Fault]:
    """Plant a fault of each kind; return which, by case."""
    missing, cut, altered, empty, replaced, html, png, folder, pipe, link, loop = range(1, 12)
    kept.file(missing).unlink()
    kept.file(cut).write_bytes(kept.whole(cut)[:-20])
    bytes_ = bytearray(kept.whole(altered))
    bytes_[len(bytes_) // 2] ^= 255
    bytes_[2:4] = b"\0\0"
    kept.file(altered).write_bytes(bytes_)
    kept.file(empty).write_bytes(b"")
    kept.file(replaced).write_bytes(picture(777))
    kept.file(html).write_bytes(b"<!DOCTYPE html><title>Not here any more</title>" * 9)
    kept.file(png).write_bytes(picture(3, Format.PNG))
    kept.file(folder).unlink()
    kept.file(folder).mkdir()
    kept.file(pipe).unlink()
    os.mkfifo(kept.file(pipe))
    kept.file(link).unlink()
    kept.file(link).symlink_to("nowhere.jpg")
    kept.file(loop).unlink()
    kept.file(loop).symlink_to(kept.file(loop))
    return {
        missing: Fault.MISSING,
        cut: Fault.CUT,
        altered: Fault.ALTERED,
        empty: Fault.CUT,
        replaced: Fault.REPLACED,
        html: Fault.WRONG_TYPE,
        png: Fault.WRONG_TYPE,
        folder: Fault.NOT_A_FILE,
        pipe: Fault.NOT_A_FILE,
        link: Fault.MISSING,
        loop: Fault.UNREADABLE,
    }


@both
async def test_planted_faults_are_named_and_mended_and_the_second_pass_is_clean(kept):
    kept.fill(40)
    await kept.run()
    before = kept.locals()
    planted = damage(kept)
    kept.world.sql("UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 20")
    kept.world.sql("UPDATE ad_cases SET main_image_local = '' WHERE case_id = 21")
    planted |= {20: Fault.CLEARED_ROW, 21: Fault.CLEARED_ROW}

    found = await kept.verify()
    mended = await kept.verify(REPAIR)
    again = await kept.verify()

    named = {int(each.row_key): each.kind for each in found.findings}
    assert (named, found.mended, found.is_complete, found.run) == (planted, Counter(), True, None)
    assert mended.mended == {Mend.ORIGIN: 11, Mend.ROW: 2}
    assert (again.found, again.copies, again.is_complete) == (Counter(), 40, True)
    assert (kept.locals(), not mended.left) == (before, True)
    assert all(kept.file(case).read_bytes() == kept.whole(case) for case in range(1, 41))
    assert all(how for _, how in kept.findings())
    assert len(kept.findings()) == 13


async def test_damaged_files_go_to_the_trash(kept):
    kept.fill(2)
    await kept.run()
    other = picture(777)
    kept.file(1).write_bytes(other)

    await kept.verify(REPAIR)

    digest = hashlib.sha256(other).hexdigest()
    assert (kept.images / f".rehost/trash/replaced/{digest[:2]}/{digest}").read_bytes() == other


@both
async def test_rows_and_files_that_do_not_belong_together_are_named(kept):
    kept.fill(7)
    await kept.run()
    kept.world.sql("UPDATE ad_cases SET main_image_local = '/theirs.jpg' WHERE case_id = 1")
    kept.world.sql("DELETE FROM ad_cases WHERE case_id = 2")
    shutil.copytree(kept.images / "3", kept.images / "999")
    (kept.images / "notes.txt").write_text("not a copy")
    kept.world.sql(
        "INSERT INTO ad_cases VALUES (50, '', 'http://pics.example/x.jpg', '/static/images/50/main_image.jpg')"
    )
    kept.world.sql(
        "INSERT INTO ad_cases VALUES (51, '', 'http://pics.example/y.jpg', '/static/images/52/main_image.jpg')"
    )
    expected = {
        (Fault.OTHER_URL, "1"),
        (Fault.COPY_WITHOUT_ROW, "2"),
        (Fault.STRAY, "999"),
        (Fault.ROW_WITHOUT_COPY, "50"),
        (Fault.ROW_WITHOUT_COPY, "51"),
    }

    found = await kept.verify()
    mended = await kept.verify(REPAIR)
    again = await kept.verify(REPAIR)
    undone = await undo(kept.settings, run=mended.run)

    assert {(each.kind, each.row_key) for each in found.findings} == expected
    assert found.other_files == 1
    assert [(each.row_key, each.mended_by) for each in mended.findings if each.mended_by] == [("50", Mend.CLEARED)]
    assert {(each.kind, each.row_key) for each in again.findings} == expected - {(Fault.ROW_WITHOUT_COPY, "50")}
    assert kept.locals()[1] == "/theirs.jpg"
    assert 50 not in kept.locals()
    assert (kept.images / "999/main_image.jpg").exists()
    assert undone["cases"].restored == 0  # its file is still not there


async def _count_when_quiet(origin):
    """Return how many requests came, once none has come for a second: a run may end while its last control is sent."""
    asked = -1
    while asked != (asked := origin.count()):
        await asyncio.sleep(1.0)
    return asked


@both
async def test_a_file_comes_back_from_where_its_bytes_still_are(kept):
    same = picture(5)
    kept.mood.update(dict.fromkeys(["/picture/1.jpg", "/picture/2.jpg"], same))
    kept.fill(5)
    await kept.run()
    kept.file(1).write_bytes(same[:-9])
    kept.file(3).unlink()
    trash = kept.images / ".rehost/trash/removed"
    digest = hashlib.sha256(kept.whole(3)).hexdigest()
    (trash / digest[:2]).mkdir(parents=True)
    (trash / digest[:2] / digest).write_bytes(kept.whole(3))
    quarantine = kept.images / ".rehost/quarantine/4"
    quarantine.mkdir(parents=True)
    kept.file(4).rename(quarantine / "main_image.jpg")
    asked = await _count_when_quiet(kept.world.origin)

    mended = await kept.verify(REPAIR)

    how = {int(each.row_key): each.mended_by for each in mended.findings}
    assert how == {1: Mend.STORE, 3: Mend.TRASH, 4: Mend.TRASH}
    assert kept.world.origin.count() == asked
    assert kept.file(1).read_bytes() == same
    assert [kept.file(case).read_bytes() for case in (3, 4)] == [kept.whole(3), kept.whole(4)]
    assert not kept.file(1).samefile(kept.file(2))


async def test_a_picture_that_the_origin_has_changed_is_recorded_as_changed(kept):
    kept.fill(3)
    await kept.run()
    kept.file(1).unlink()
    kept.mood["/picture/1.jpg"] = picture(888)
    kept.file(2).write_bytes(b"<html>")
    kept.mood["/picture/2.jpg"] = picture(889, Format.PNG)

    mended = await kept.verify(REPAIR)
    again = await kept.verify()

    assert (mended.mended, again.found) == ({Mend.CHANGED: 2}, {})
    assert kept.file(1).read_bytes() == picture(888)
    assert kept.locals()[2] == "/static/images/2/main_image.png"


@both
async def test_a_row_is_cleared_if_nothing_has_its_picture_and_undo_restores_it_once_the_file_is_back(kept):
    kept.fill(4)
    await kept.run()
    before = kept.locals()
    kept.mood |= dict.fromkeys(["/picture/1.jpg", "/picture/2.jpg"], "not-found")
    kept.file(1).rename(kept.images.parent / "kept.jpg")
    kept.file(2).write_bytes(kept.whole(2)[:-5])

    mended = await kept.verify(REPAIR)
    cleared = kept.locals()
    again = await kept.verify(REPAIR)
    kept.file(1).parent.mkdir(exist_ok=True)
    (kept.images.parent / "kept.jpg").rename(kept.file(1))
    undone = await undo(kept.settings, run=mended.run)

    assert (mended.mended, mended.left, again.found) == ({Mend.CLEARED: 2}, {}, {})
    assert cleared == {3: before[3], 4: before[4]}
    assert not kept.file(2).exists()
    assert undone["cases"].restored == 1
    assert kept.locals() == {1: before[1], **cleared}


async def test_a_store_that_is_not_there_and_a_loss_of_a_tenth_stop_the_repair_and_clear_nothing(kept):
    kept.fill(30)
    await kept.run()
    before = kept.locals()
    for case in range(1, 13):
        shutil.move(kept.images / str(case), kept.images.parent / f"kept-{case}")
    asked = kept.world.origin.count()

    with pytest.raises(StoreError, match=r"12 of the 30 copies .* are missing"):
        await kept.verify(REPAIR)
    found = await kept.verify()
    kept.images.rename(kept.images.parent / "elsewhere")
    with pytest.raises(StoreError, match="does not exist"):
        await kept.verify(REPAIR)

    assert found.left == {Fault.MISSING: 12}
    assert (kept.locals(), kept.world.origin.count()) == (before, asked)


async def test_a_row_whose_url_others_wrote_is_left_though_the_file_is_gone(kept):
    kept.fill(2)
    await kept.run()
    kept.world.sql("UPDATE ad_cases SET main_image_local = '/theirs.jpg' WHERE case_id = 1")
    kept.file(1).unlink()

    report = await kept.verify(REPAIR)

    assert report.left == {Fault.MISSING: 1}
    assert kept.locals()[1] == "/theirs.jpg"


async def test_a_pass_goes_on_where_the_last_call_stopped(kept, monkeypatch):
    monkeypatch.setattr("rehost.upkeep.verify.BATCH", 16)
    kept.fill(40)
    await kept.run()

    first = await kept.verify(VerifyOptions(most=16))
    stop = asyncio.Event()
    second = await kept.verify(stop=stop, tell=lambda _report: stop.set())
    third = await kept.verify()
    fourth = await kept.verify()

    assert [each.copies for each in (first, second, third, fourth)] == [16, 16, 8, 40]
    assert [each.is_complete for each in (first, second, third, fourth)] == [False, False, True, True]
    assert second.interrupted


async def test_a_stop_ends_the_wait_for_a_slow_rate(kept):
    kept.fill(3)
    await kept.run()
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, stop.set)

    report = await kept.verify(VerifyOptions(bytes_per_second=1.0), stop=stop)

    assert report.interrupted


@both
async def test_faults_are_mended_where_the_ledger_is_in_a_database_of_its_own(kept):
    kept.world.settings = {**kept.world.settings, "REHOST_LEDGER_URL": f"sqlite:///{kept.world.folder}/ledger.db"}
    kept.fill(6)
    await kept.run()
    before = kept.locals()
    kept.mood["/picture/1.jpg"] = "not-found"
    kept.file(1).rename(kept.images.parent / "kept.jpg")
    kept.file(2).write_bytes(b"")
    kept.world.sql("UPDATE ad_cases SET main_image_local = NULL WHERE case_id = 3")
    kept.world.sql(
        "INSERT INTO ad_cases VALUES (50, '', 'http://pics.example/x.jpg', '/static/images/50/main_image.jpg')"
    )

    mended = await kept.verify(REPAIR)
    cleared = kept.locals()
    again = await kept.verify()
    kept.file(1).parent.mkdir(exist_ok=True)
    (kept.images.parent / "kept.jpg").rename(kept.file(1))
    undone = await undo(kept.settings, run=mended.run)

    assert mended.mended == {Mend.CLEARED: 2, Mend.ORIGIN: 1, Mend.ROW: 1}
    assert (cleared, again.found) == ({case: url for case, url in before.items() if case != 1}, {})
    assert undone["cases"].restored >= 1
    assert kept.locals()[1] == before[1]


async def test_the_time_ends_a_call_and_a_second_one_goes_on(kept):
    kept.fill(20)
    await kept.run()

    late = await kept.verify(VerifyOptions(seconds=1e-9))

    assert (late.copies, late.is_complete, late.interrupted) == (0, False, False)
    assert (await kept.verify()).copies == 20


async def test_only_copies_that_were_not_read_for_so_long_are_read(kept):
    kept.fill(4)
    await kept.run()
    week = "7 * 86400" if kept.world.postgres is None else "interval '7 days'"
    kept.world.sql(f"UPDATE rehost_links SET verified_at = verified_at - {week} WHERE row_key = '2'")

    first = await kept.verify(VerifyOptions(older_seconds=6 * 86400.0))
    second = await kept.verify(VerifyOptions(older_seconds=6 * 86400.0))

    assert (first.copies, second.copies) == (1, 0)


async def test_a_quick_look_reads_only_what_has_changed(kept):
    kept.fill(4)
    await kept.run()
    kept.file(2).write_bytes(kept.whole(2)[:-1])
    same_size = bytearray(kept.whole(3))
    same_size[-30] ^= 255
    kept.file(3).write_bytes(same_size)
    os.utime(kept.file(3), (2e9, 2e9))

    quick = await kept.verify(VerifyOptions(is_quick=True))

    assert {each.row_key for each in quick.findings} == {"2", "3"}
    assert quick.size == len(kept.whole(2)) - 1 + len(same_size)


async def test_a_sample_reads_a_share_of_the_copies(kept):
    kept.fill(60)
    await kept.run()

    sample = await kept.verify(VerifyOptions(sample=0.3))
    both = await kept.verify(VerifyOptions(is_quick=True, sample=0.3))

    assert 3 <= sample.copies <= 40
    assert both.copies == 60
    assert 0 < both.size < sum(len(kept.whole(case)) for case in range(1, 61))


async def test_one_row_is_verified_alone(kept):
    kept.fill(3)
    await kept.run()
    for case in (1, 2):
        kept.file(case).unlink()

    report = await kept.verify(replace(REPAIR, row_key="1"))

    assert (report.copies, report.mended) == (1, {Mend.ORIGIN: 1})
    assert not kept.file(2).exists()


async def test_what_an_earlier_call_found_is_mended_though_the_pass_is_further(kept):
    kept.fill(20)
    await kept.run()
    kept.file(1).unlink()
    first = await kept.verify(VerifyOptions(most=16))

    second = await kept.verify(replace(REPAIR, most=2))

    assert (first.left, second.mended) == ({Fault.MISSING: 1}, {Mend.ORIGIN: 1})


async def test_a_finding_closes_by_itself_when_the_file_is_right_again(kept):
    kept.fill(2)
    await kept.run()
    kept.file(1).rename(kept.images.parent / "kept.jpg")
    await kept.verify()
    await kept.verify()
    kept.file(1).parent.mkdir(exist_ok=True)
    (kept.images.parent / "kept.jpg").rename(kept.file(1))

    await kept.verify()

    assert kept.findings() == [("missing", "otherwise")]


async def test_a_copy_that_a_worker_has_leased_is_left(kept):
    kept.fill(2)
    await kept.run()
    kept.file(1).unlink()

    kept.world.sql("UPDATE rehost_links SET state = 'leased', due_at = due_at, worker = 'other' WHERE row_key = '1'")
    report = await kept.verify(REPAIR)

    assert (report.copies, report.found) == (1, {})


@contextlib.contextmanager
def serving(kept: Kept, mood: dict[str, object]):
    """Serve the store's files as a reader's server does, but for what `mood` says of a path."""

    def play(_host, path, _headers):
        if path in mood:
            return mood[path]
        file = kept.images / path.partition("?")[0].removeprefix("/static/images/")
        return file.read_bytes() if file.is_file() else "not-found"

    with Origin(play) as server:
        yield f"http://{server.address}:{server.port}"


async def test_copies_that_are_served_differently_are_named(kept):
    kept.fill(6)
    await kept.run()
    at = "/static/images/{}/main_image.jpg".format
    mood = {at(1): picture(99), at(2): "not-found", at(3): "html", at(4): "redirects"}
    known = {name: mood[name] for name in mood if not isinstance(mood[name], str) or mood[name] in BEHAVIOURS}

    with serving(kept, known) as base:
        report = await kept.verify(served=base)
        known.clear()
        again = await kept.verify(served=base)

    assert {each.row_key for each in report.findings} >= {"1", "2"}
    assert {each.kind for each in report.findings} == {Fault.SERVED}
    assert again.found == {}
    assert all(how == "otherwise" for _, how in kept.findings())


async def test_a_server_that_cannot_be_reached_or_is_not_named_is_said(kept):
    kept.fill(1)
    await kept.run()

    with pytest.raises(OperatorError, match="cannot be reached"):
        await kept.verify(served="http://127.0.0.1:1")
    with pytest.raises(SettingsError, match="--served"):
        await kept.verify(served="")


async def test_what_lies_beside_the_copies_must_not_be_served(kept):
    kept.fill(1)
    await kept.run()
    marker = "/static/images/.rehost/store-id"
    identity = (kept.images / ".rehost/store-id").read_bytes()

    found = []
    for answer in (identity, b"another text", "not-found"):
        with serving(kept, {marker: answer}) as base:
            found.append((await kept.verify(QUICK, served=base)).exposed.removeprefix(base))
        assert kept.findings() == []

    assert found == [marker, "", ""]


async def test_copies_in_a_bucket_are_verified_where_they_are_redirected_to(kept, s3_server):
    prefix = s3_server.fresh_prefix()
    kept.more = {**s3_server.env(), "IMAGE_STORAGE_DIR": f"s3://{BUCKET}/{prefix}", "IMAGE_BUCKET_SERVING": "redirect"}
    kept.fill(2)
    await kept.run()
    async with by_uvicorn(build_server(kept.settings)) as port:
        [key] = [key for key in s3_server.objects(BUCKET, prefix) if "/1/" in key]
        known = await ask(port, f"/static/images/{key.removeprefix(prefix)}".replace("//", "/"))
        s3_server.put(BUCKET, key, s3_server.get(BUCKET, key).body, {"content-type": "text/html"})
        spoiled = await kept.verify(served=f"http://127.0.0.1:{port}")
    identity = s3_server.get(BUCKET, f"{prefix}/.rehost/store-id").body
    with Origin(lambda _host, path, _headers: identity if path == "/x/.rehost/store-id" else "not-found") as cdn:
        kept.more["IMAGE_STATIC_URL_PREFIX"] = f"http://{cdn.address}:{cdn.port}/x"
        exposed = await kept.verify(QUICK)

    assert known.status == 307
    assert (spoiled.copies, spoiled.found, spoiled.exposed) == (2, {Fault.SERVED: 1}, "")
    assert exposed.exposed == f"http://{cdn.address}:{cdn.port}/x/.rehost/store-id"


async def test_the_rate_bounds_what_is_read_in_a_second():
    clock = FakeClock(hurry=True)
    pace = Pace(1000.0, clock, asyncio.Event())

    for _ in range(5):
        await pace.take(500)

    assert clock.time - 1000.0 == pytest.approx(2.0)
