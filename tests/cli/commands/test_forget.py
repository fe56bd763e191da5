"""`rehost forget`: what it prints, and what it refuses to do."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.origin import Origin
from tests.run.test_run import make_world

from rehost.cli.main import main


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A world with three rows of one picture, and another one; the tests take it down in turn."""
    with Origin() as origin:
        world = make_world(tmp_path_factory.mktemp("forget"), origin, {"IMAGE_VERIFY": "structure"})
        world.add(*[world.link("permissive")] * 3, world.link("permissive", "2.jpg"))
        asyncio.run(world.run())
        yield world


@pytest.fixture
def rehost(held, monkeypatch, capsys):
    for name, value in (("IMAGE_STORAGE_DIR", held.folder / "images"), ("IMAGE_MIN_FREE_BYTES", 0)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{held.folder}/c.db")

    def call(*arguments):
        status = main(["forget", *arguments, "--base", str(held.folder)])
        return status, *capsys.readouterr()

    return call


def test_a_dry_run_shows_what_would_be_removed_and_changes_nothing(held, rehost):
    url = held.link("permissive")

    status, printed, _ = rehost(url, "--dry-run")

    assert status == 0
    assert printed.startswith("Would remove 3 copies (")
    assert "  1/main_image.jpg\n" in printed
    assert json.loads(rehost(url, "--dry-run", "--json")[1])["copies"] == 3
    assert len(held.locals()) == 4
    assert rehost("--list")[:2] == (0, "Nothing was taken down.\n")


def test_many_copies_need_yes(held, rehost, monkeypatch):
    monkeypatch.setattr("rehost.cli.commands.forget.MOST_UNASKED", 2)
    url = held.link("permissive")

    status, printed, error = rehost(url, "--legal")

    assert (status, printed) == (2, "")
    assert f"To go on: rehost forget {url} --legal --yes" in " ".join(error.split())
    assert len(held.locals()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Name what to forget"),
        (["--list", "1"], "Name what to forget"),
        (["--allow", "--legal", "1"], "Name what to forget"),
        (["--allow"], "Name what to forget"),
        (["--allow", "https://a.example/1.jpg"], "was not taken down; `rehost forget --list` lists what was"),
        (["99"], "'99' is neither a URL, nor the key of a row"),
    ],
)
def test_what_makes_no_sense_is_an_error_and_changes_nothing(held, rehost, arguments, said):
    status, printed, error = rehost(*arguments)

    assert (status, printed) == (2, "")
    assert said in " ".join(error.split())
    assert len(held.locals()) == 4


def test_a_takedown_its_receipt_the_list_and_the_way_back(held, rehost):
    url = held.link("permissive")

    status, printed, _ = rehost("1", url)
    _, listed, _ = rehost("--list")
    [receipt] = json.loads(rehost("--list", "--json")[1])

    assert status == 0
    assert printed.splitlines()[0] == f"Takedown 1: 1 {url}"
    assert "copies removed: 3 (" in printed
    assert "rows cleared: 3\n  cases:1\n" in printed
    assert f"Servers answer 410. To allow it again: rehost forget --allow 1 {url}" in printed
    assert listed.splitlines()[1].split()[-3:] == ["410", "1", url]
    assert (receipt["files"], receipt["rows"], receipt["status"]) == (3, 3, 410)
    assert receipt["os_user"]
    assert {row["key"] for row in receipt["cleared"]} == {"1", "2", "3"}
    assert set(held.locals()) == {4}

    _, allowed, _ = rehost("--allow", "2")

    assert allowed.splitlines() == [
        f"Allowed again: takedown 1, 1 {url}",
        "Links that are due now: 3. `rehost run` visits them.",
    ]
    assert "allowed again" in rehost("--list")[1]


def test_a_row_that_cannot_be_cleared_is_cleared_by_the_next_run(held, rehost):
    held.add(held.link("permissive", "5.jpg"))
    asyncio.run(held.run())
    held.sql("CREATE TRIGGER no BEFORE UPDATE ON ad_cases WHEN old.case_id = 5 BEGIN SELECT RAISE(ABORT, 'no'); END")

    status, printed, _ = rehost("/static/images/5/main_image.jpg")

    assert status == 1
    assert "status: row cases:5 could not be cleared: " in printed
    assert "the next `rehost run`, `rehost upkeep` or `rehost forget` clears them" in printed
    assert 5 in held.locals()

    held.sql("DROP TRIGGER no")
    asyncio.run(held.run())

    assert 5 not in held.locals()
    assert json.loads(rehost("--list", "--json")[1])[-1]["ended_at"]


def test_a_copy_that_is_gone_is_still_named_by_its_local_url(held, rehost):
    held.add(held.link("permissive", "6.jpg"))
    asyncio.run(held.run())
    row = max(held.locals())
    url = f"/static/images/{row}/main_image.jpg"

    _, printed, _ = rehost(url)
    again = rehost(url, "--json")[1]
    advice = printed.splitlines()[-1].partition("rehost forget ")[2].split()
    status, allowed, _ = rehost(*advice)

    assert json.loads(again)["takedown"] == int(printed.split(":")[0].removeprefix("Takedown "))
    assert (advice, status) == (["--allow", url], 0)
    assert allowed.startswith("Allowed again: takedown ")
    assert rehost("--allow", url)[0] == 2
    asyncio.run(held.run())
    assert row in held.locals()
