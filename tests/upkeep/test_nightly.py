"""`rehost upkeep` as cron calls it: what is due of everything, within a time, on real rows and files."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest
from tests.pictures import picture
from tests.upkeep.shop import ARCHIVE, PICTURE, capture

from rehost.cli.main import main
from rehost.errors import StoreError
from rehost.model import Format
from rehost.upkeep.verify import Verification

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NEWER = picture(22, Format.PNG, 80, 60)


def url(number):
    return f"http://dead.example/gone/{number}.png"


@pytest.fixture
async def aged(shop, mood):
    """A shop after a year: one file is damaged, one link has another picture, one link is dead."""
    shop.configure(ARCHIVE)
    mood["dead.example"] = capture()
    for number in (1, 2):
        await shop.add("goods", number, url(number))
    mood["lost.example"] = "gone"
    await shop.add("goods", 3, "http://lost.example/gone/3.png")
    await shop.run()
    await shop.die()
    year = "365 * 86400" if "sqlite" in shop.url else "interval '365 days'"
    times = ", ".join(f"{name} = {name} - {year}" for name in ("noted_at", "visited_at", "held_at", "verified_at"))
    await shop.sql(f"UPDATE rehost_links SET {times}")
    file = shop.file(await shop.local("goods", 1))
    file.unlink()  # it has a second name where the picture is held twice
    file.write_bytes(PICTURE[:-20])
    mood[url(2).removeprefix("http://")] = NEWER
    mood["archive.example"] = capture(picture(23, Format.PNG, 40, 30))
    return shop


@pytest.fixture
def call(shop, monkeypatch, capsys):
    for name, value in shop.given.items():
        monkeypatch.setenv(name, value)

    def run(*options):
        status = main(["upkeep", *options, "--base", str(shop.folder)])
        return status, capsys.readouterr()

    return run


def test_one_night_repairs_refreshes_and_rescues_and_the_next_one_finds_nothing(aged, call):
    status, shown = call("--for", "300s", "--json")

    kinds = {each["kind"]: each for each in json.loads(shown.out)["kinds"]}
    assert status == 0, shown
    assert kinds["verify"]["done"]["repaired"] == 1
    assert kinds["refresh"]["done"]["replaced"] == 1
    assert kinds["rescue"]["done"]["rescued"] == 1
    assert not any(each["is_cut"] for each in kinds.values())
    content = [aged.file(asyncio.run(aged.local("goods", number))).read_bytes() for number in (1, 2, 3)]
    assert content == [PICTURE, NEWER, picture(23, Format.PNG, 40, 30)]

    status, shown = call("--for", "300s")

    assert (status, shown.out.count("\n")) == (0, 1)
    assert "rehost:" not in shown.err  # errors; progress may be shown
    assert ": read 0 copies, asked for 0 links" in shown.out
    assert call("--quiet")[1] == ("", "")


@only_sqlite
def test_what_cannot_be_repaired_is_said_even_when_quiet_and_the_exit_status_is_1(aged, mood, call):
    asyncio.run(aged.sql("UPDATE goods SET photo_local = 'https://elsewhere.example/1.png' WHERE id = 1"))

    status, shown = call("--quiet")

    assert status == 1
    assert "not repaired (rehost verify)" in shown.err
    assert shown.err.count("\n") == 1


@only_sqlite
def test_the_trash_is_emptied_of_what_is_due_and_files_that_no_row_needs_are_moved_only_with_yes(aged, call):
    old = time.time() - 40 * 86_400
    stray, trash = aged.folder / "images/goods/77.png", aged.folder / "images/.rehost/trash/removed/ab"
    stray.write_bytes(PICTURE)
    trash.mkdir(parents=True)
    expired, fresh = trash / ("ab" * 32), trash / ("ab" * 31 + "cd")
    for file, moment in ((stray, old), (expired, old), (fresh, time.time())):
        file.touch()
        os.utime(file, (moment, moment))

    status, shown = call()

    assert (status, stray.exists(), expired.exists(), fresh.exists()) == (1, True, False, True)
    assert "deleted 1 files from the trash, 1 files that no row needs (rehost prune)" in shown.out
    assert call("--quiet")[0] == 1
    status, shown = call("--yes", "--json")
    assert (status, stray.exists()) == (0, False)
    assert json.loads(shown.out)["kinds"][3]["done"]["removed"] == 1


@only_sqlite
def test_an_error_of_one_kind_leaves_the_others_their_turns(aged, monkeypatch, call):
    async def fail(_self):
        raise StoreError("The disk is broken.")

    monkeypatch.setattr(Verification, "verify", fail)

    status, shown = call("--json")

    kinds = {each["kind"]: each for each in json.loads(shown.out)["kinds"]}
    assert status == 3
    assert "rehost: The disk is broken." in shown.err
    assert kinds["verify"]["error"] == "The disk is broken."
    assert kinds["refresh"]["done"]["replaced"] == 1
    assert kinds["rescue"]["done"]["rescued"] == 1


@only_sqlite
def test_progress_names_what_is_being_done_and_quiet_shows_none(aged, monkeypatch, call):
    monkeypatch.setattr("rehost.cli.output.findings.QUIET_SECONDS", 0.0)
    monkeypatch.setattr("rehost.cli.output.findings.LINE_SECONDS", 0.0)

    _, said = call()
    _, quiet = call("--quiet")

    assert "verify: 100% verified, 2 of 2 copies" in said.err
    assert "asked for 1 links\n" in said.err
    assert "prune: " in said.err
    assert ": " not in quiet.err.replace("Upkeep in", "")
