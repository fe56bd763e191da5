"""The stories of pictures: each with what happened, what its file is now, and the command that helps."""

from __future__ import annotations

import json

import pytest
from tests.pictures import picture
from tests.upkeep.shop import ARCHIVE, DEAD, PICTURE, capture

from rehost.cli.commands.why import story_text
from rehost.cli.main import main
from rehost.cli.output.tables import Style
from rehost.ledger.stories import What
from rehost.model import Format
from rehost.upkeep.story import Standing
from rehost.wiring.upkeep import why

PLAIN = Style(is_on=False)
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def held(shop, mood):
    """A shop in which one picture is held."""
    mood["dead.example"] = capture()
    await shop.add("goods", 1, DEAD)
    await shop.run()
    return shop


async def test_a_held_picture_is_told_from_the_first_run_on(held):
    (story,) = await why(held.settings, "1")

    assert [(each.what, each.word, each.run) for each in story.events] == [
        (What.NOTED, None, None),
        (What.VISITED, "held", 1),
        (What.ROW_CHANGED, None, 1),
    ]
    assert (story.status, story.action, story.row) == (Standing.RIGHT, None, "/static/images/goods/1.png")
    assert story.file.is_right
    assert story.file.size == len(PICTURE)
    assert story.file.proof == "image/png, 64x48"
    assert "these are the bytes that were stored" in story_text(story, PLAIN)


@only_sqlite
async def test_a_picture_is_found_by_key_url_local_url_file_and_key_in_the_store(held, monkeypatch):
    monkeypatch.chdir(held.folder)
    file = held.folder / "images/goods/1.png"
    names = ("1", DEAD, "/static/images/goods/1.png", "/static/images/goods/1.png?v=1", str(file))

    found = [await why(held.settings, each) for each in (*names, "images/goods/1.png", "goods/1.png")]

    assert [[story.picture.row_key for story in each] for each in found] == [["1"]] * 7
    assert await why(held.settings, "2") == []
    assert await why(held.settings, "1", ["offers"]) == []


@only_sqlite
async def test_a_copy_that_is_not_what_was_stored_is_to_be_repaired(held):
    file = held.file(await held.local("goods", 1))
    for damaged in (PICTURE[:-9], picture(20, Format.PNG, 64, 48), b"", None):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)

        (story,) = await why(held.settings, "1")

        assert story.status is (Standing.FILE_MISSING if damaged is None else Standing.FILE_WRONG)
        assert story.action == "rehost verify --repair --key 1"


STATES = [
    ("goods", "photo_local = NULL", Standing.ROW_DIFFERS),
    ("goods", "photo_local = '/elsewhere.png'", Standing.ROW_DIFFERS),
    ("goods", "photo = 'http://other.example/2.png'", Standing.LINK_CHANGED),
    ("goods", "id = 2", Standing.LINK_CHANGED),
    ("rehost_links", "present = false", Standing.ROW_GONE),
    ("rehost_links", "state = 'wanted'", Standing.DUE),
    ("rehost_links", "state = 'leased'", Standing.LEASED),
    ("rehost_links", "state = 'deferred', waits_for = 'dead.example'", Standing.PAUSED),
    ("rehost_links", "rescued = 'https'", Standing.RESCUED),
    ("rehost_links", "state = 'refused', reason = 'taken-down'", Standing.TAKEN_DOWN),
]
RIGHT = {
    "goods": f"id = 1, photo = '{DEAD}', photo_local = '/static/images/goods/1.png'",
    "rehost_links": "present = true, state = 'held', reason = NULL, waits_for = NULL, rescued = NULL",
}


@only_sqlite
async def test_where_a_picture_stands_is_said_with_what_helps(held):
    for table, values, status in STATES:
        await held.sql(f"UPDATE {table} SET {values}")

        (story,) = await why(held.settings, "1")

        assert story.status is status, values
        assert (story.action is None) == (status in {Standing.LEASED, Standing.RESCUED})
        assert story_text(story, PLAIN)
        await held.sql(f"UPDATE {table} SET {RIGHT[table]}")


CURES = {
    "gone": "rehost run --retry gone",
    "hotlink-refused": "rehost origins --forget dead.example; rehost run --retry hotlink-refused",
    "too-large": "IMAGE_MAX_BYTES, IMAGE_MAX_PIXELS, IMAGE_MAX_FRAMES, IMAGE_MAX_TOTAL_PIXELS",
}


@only_sqlite
async def test_a_failure_names_the_command_or_the_setting_that_may_cure_it(shop):
    await shop.add("goods", 1, DEAD)
    await shop.run()
    for reason, action in CURES.items():
        await shop.sql("UPDATE rehost_links SET reason = :reason", reason=reason)

        (story,) = await why(shop.settings, "1")

        assert (story.status, story.action) == (Standing.FAILED, action)


async def test_findings_freezes_and_takedowns_are_told_in_the_order_of_time(held):
    moment = "9000000000 + {}" if "sqlite" in held.url else "to_timestamp(9000000000 + {})"
    at = [moment.format(number) for number in range(6)]
    findings, freezes, takedowns = (
        "(kind, source, row_key, position, key, evidence, found_at, last_at, run, mended_at, mended_by)",
        "(origin, run, frozen_at, evidence, answers, bad, examples, decision, decided_at)",
        "(what, legal, os_user, began_at, allowed_at)",
    )
    fault = f"'altered', 'goods', '1', 0, 'goods/1.png', 'one bit', {at[0]}, {at[0]}, 2, {at[1]}, 'trash'"
    freeze = f"'http://dead.example', 3, {at[2]}, 'smaller', 100, 6, '[]', 'keep', {at[3]}"
    await held.sql(f"INSERT INTO rehost_findings {findings} VALUES ({fault})")
    await held.sql(f"INSERT INTO rehost_freezes {freezes} VALUES ({freeze})")
    await held.sql(f"INSERT INTO rehost_takedowns {takedowns} VALUES ('x', true, 'me', {at[4]}, {at[5]})")
    columns = [row[0] for row in await held.sql(_COLUMNS["sqlite" if "sqlite" in held.url else "postgresql"])]
    named = (", named", ", true") if "named" in columns else ("", "")
    await held.sql(
        f"INSERT INTO rehost_tombstones (kind, value, takedown{named[0]}) VALUES ('url', '{DEAD}', 1{named[1]})"
    )

    (story,) = await why(held.settings, "1")

    assert [(each.what, each.word) for each in story.events[-6:]] == [
        (What.FOUND, "altered"),
        (What.MENDED, "trash"),
        (What.FROZEN, "http://dead.example"),
        (What.DECIDED, "keep"),
        (What.TAKEN_DOWN, "451"),
        (What.ALLOWED, None),
    ]
    assert story.status is Standing.RIGHT
    await held.sql("UPDATE rehost_takedowns SET allowed_at = NULL")
    assert (await why(held.settings, "1"))[0].status is Standing.TAKEN_DOWN


_COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info('rehost_tombstones')",
    "postgresql": "SELECT column_name FROM information_schema.columns WHERE table_name = 'rehost_tombstones'",
}


@only_sqlite
async def test_a_file_that_no_link_has_is_a_stray(held):
    stray = held.folder / "images/goods/77.png"
    stray.write_bytes(PICTURE)

    (story,) = await why(held.settings, str(stray))

    assert (story.picture, story.status, story.action) == (None, Standing.STRAY, "rehost prune")
    assert "no link's copy" in story_text(story, PLAIN)


@only_sqlite
async def test_a_rescued_picture_says_where_it_came_from(shop, mood):
    shop.configure(ARCHIVE)
    mood["archive.example"] = capture()
    await shop.add("goods", 1, DEAD)
    await shop.run("goods")
    await shop.die()
    (dead,) = await why(shop.settings, "1")
    await shop.rescue()

    (story,) = await why(shop.settings, "1")

    assert (dead.status, dead.action) == (Standing.DEAD, "rehost run --rescue --source goods")
    assert story.status is Standing.RESCUED
    assert What.RESCUED in [each.what for each in story.events]
    assert "http://archive.example/web/" in story_text(story, PLAIN)


@only_sqlite
async def test_other_rows_with_the_same_bytes_are_named(held):
    await held.add("offers", 5, DEAD)
    await held.run()

    (story,) = await why(held.settings, "1")

    assert story.same_bytes == [("offers", "5", 0)]


@pytest.fixture
def calling(shop, monkeypatch):
    for name, value in shop.given.items():
        monkeypatch.setenv(name, value)
    return ["--base", str(shop.folder)]


@only_sqlite
def test_the_command_prints_json_and_says_what_it_does_not_know(held, calling, capsys):
    assert main(["why", "1", "--json", *calling]) == 0
    (told,) = json.loads(capsys.readouterr().out)["pictures"]
    assert (told["status"], told["picture"]["url"], told["events"][0]["what"]) == ("right", DEAD, "noted")

    assert main(["why", "nothing", *calling]) == 1
    assert "Nothing is known of nothing" in capsys.readouterr().err


@only_sqlite
def test_a_run_can_rescue_after_its_visits(shop, mood, calling, capsys):
    assert main(["run", "--rescue", "--quiet", *calling]) == 0
    assert main(["run", "--rescue", "--json", *calling]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["rescued"] == 0
