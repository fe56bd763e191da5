"""`rehost prune` and `rehost usage` from the command line: exit statuses, JSON, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time

import pytest

from rehost.cli.main import main

TABLE = "(case_id INTEGER PRIMARY KEY, source_url TEXT, title TEXT, main_image TEXT, main_image_local TEXT)"
OTHER = """[source.shops]
table = "shops"
key = "case_id"
link = "main_image"
local = "main_image_local"
path = "{key}/shop"
"""
STRAY = "7/main_image.png"


@pytest.fixture
def rehost(tmp_path, monkeypatch, capsys):
    """Call the command line over an empty table; return the exit status, and what was printed where."""
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute(f"CREATE TABLE ad_cases {TABLE}")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/it.db")
    monkeypatch.setenv("IMAGE_STORAGE_DIR", str(tmp_path / "images"))

    def call(*arguments):
        status = main([*arguments, "--base", str(tmp_path)])
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def stray(tmp_path):
    path = tmp_path / "images" / STRAY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"stray")
    os.utime(path, (time.time() - 1e6,) * 2)
    return path


def test_prune_is_dry_until_yes_and_undo_takes_it_back(rehost, stray):
    status, printed, _ = rehost("prune")
    assert (status, stray.exists()) == (1, True)
    assert printed.startswith("status  No row needs 1 file, 100% of all copies. Nothing was removed.\n")
    assert rehost("prune", "--dry-run", "--yes")[0] == 1
    assert stray.exists()

    status, printed, _ = rehost("prune", "--yes", "--json")

    pruned = json.loads(printed)
    assert (status, stray.exists()) == (0, False)
    assert (pruned["strays"], pruned["run"]) == ({"files": 1, "size": 5}, 1)
    assert rehost("prune", "--yes", "--quiet")[:2] == (0, "")
    assert rehost("undo", "1")[1] == "1 file is back from the trash.\n"
    assert stray.read_bytes() == b"stray"


def test_grace_0_empties_the_trash(rehost, stray, tmp_path):
    assert rehost("prune", "--yes", "--grace", "0")[0] == 0

    assert not list((tmp_path / "images/.rehost/trash").glob("*/*/*"))
    assert rehost("undo", "1")[1].endswith("1 file is not in the trash any more.\n")


def test_prune_is_refused_while_a_source_cannot_be_read(rehost, stray, tmp_path):
    (tmp_path / "rehost.toml").write_text(OTHER)

    status, _, error = rehost("prune", "--yes")

    assert (status, stray.exists()) == (3, True)
    assert "shops" in error


def test_prune_is_refused_if_the_store_is_another_one(rehost, stray, tmp_path):
    assert rehost("prune", "--yes")[0] == 0
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute("INSERT INTO ad_cases VALUES (1, 'p', 't', 'http://a.example/1.png', NULL)")
        values = "'cases', '1', 0, 'http://a.example/1.png', 'a.example', 1, 'held', 0, '1/main_image.png', 'd', 1"
        columns = "source, row_key, position, url, host, present, state, due_at, key, digest, size"
        database.execute(f"INSERT INTO rehost_links ({columns}, noted_at) VALUES ({values}, 0)")
    shutil.rmtree(tmp_path / "images")
    (tmp_path / "images" / "9").mkdir(parents=True)
    (tmp_path / "images" / "9" / "main_image.png").write_bytes(b"another store's")
    os.utime(tmp_path / "images" / "9" / "main_image.png", (1e9, 1e9))

    status, _, error = rehost("prune", "--yes", "--most", "100%")

    assert status == 3
    assert "has no marker" in error
    assert (tmp_path / "images" / "9" / "main_image.png").exists()
    assert not (tmp_path / "images" / ".rehost").exists()


@pytest.mark.parametrize("option", [("--grace", "soon"), ("--most", "5"), ("--most", "101%"), ("--grace", "-1d")])
def test_what_is_no_time_and_no_share_is_incorrect_usage(rehost, option):
    assert rehost("prune", *option)[0] == 2


def test_usage_shows_ledger_and_store_and_changes_nothing(rehost, stray, tmp_path):
    status, printed, _ = rehost("usage", "--json")

    usage = json.loads(printed)
    assert (status, usage["ledger"]["copies"], usage["store"]["strays"]["files"]) == (0, 0, 1)
    assert not (tmp_path / "images" / ".rehost").exists()
    assert "No row needs 1 file: rehost prune" in rehost("usage")[1]


def test_usage_without_a_store_says_so(rehost):
    status, printed, _ = rehost("usage")

    assert status == 0
    assert "does not exist" in printed
