"""`rehost move-store` from the command line: exit statuses, what it prints, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import pytest

from rehost.cli.main import main

TABLE = "(case_id INTEGER PRIMARY KEY, source_url TEXT, title TEXT, main_image TEXT, main_image_local TEXT)"
HELD = """INSERT INTO rehost_links (source, row_key, position, url, host, present, state, due_at, noted_at, held_at,
    held_url, key, size, local_url, digest, format, width, height, frames)
    VALUES ('cases', '1', 0, 'http://a/1', 'a', 1, 'held', 0, 0, 0, 'http://a/1', '1/main_image.png', 7,
    '/static/images/1/main_image.png', :digest, 'png', 1, 1, 1)"""
ROW = "INSERT INTO ad_cases VALUES (1, NULL, NULL, 'http://a/1', '/static/images/1/main_image.png')"


@pytest.fixture
def rehost(tmp_path, monkeypatch, capsys):
    """Call the command line over one held copy; return the exit status, and what was printed where."""
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute(f"CREATE TABLE ad_cases {TABLE}")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/it.db")
    monkeypatch.setenv("IMAGE_STORAGE_DIR", "images")
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        status = main([*arguments, "--base", str(tmp_path)])
        return status, *capsys.readouterr()

    assert call("prune")[0] == 0  # it makes ledger and store
    with sqlite3.connect(tmp_path / "it.db") as database:
        database.execute(HELD, {"digest": hashlib.sha256(b"picture").hexdigest()})
        database.execute(ROW)
    path = tmp_path / "images/1/main_image.png"
    path.parent.mkdir()
    path.write_bytes(b"picture")
    return call


def test_it_moves_says_what_to_do_next_and_moves_back(rehost, tmp_path):
    status, printed, _ = rehost("move-store", "new", "--dry-run")
    assert (status, "1 copy, 7 B, would move" in printed) == (0, True)

    status, printed, _ = rehost("move-store", "new")

    assert status == 0
    assert printed.startswith(f"status  Moved 1 copy, 7 B, from {tmp_path}/images to {tmp_path}/new.\n")
    assert f"set IMAGE_STORAGE_DIR to {tmp_path}/new now" in printed
    status, _, errors = rehost("prune")
    assert (status, f"set IMAGE_STORAGE_DIR to {tmp_path}/new" in errors) == (3, True)
    assert rehost("move-store", "new", "--quiet") == (0, "", "")
    status, printed, _ = rehost("move-store", "images", "--json")
    report = json.loads(printed)
    assert (status, report["phase"], report["copies"], report["copied"]) == (0, "ended", 1, 0)
    status, printed, _ = rehost("move-store", "--delete-old")
    assert (status, "Deleted 1 copy, 7 B" in printed) == (0, True)
    assert not (tmp_path / "new/1").exists()
    assert (tmp_path / "images/1/main_image.png").read_bytes() == b"picture"


def test_missing_copies_are_listed_with_what_helps(rehost, tmp_path):
    (tmp_path / "images/1/main_image.png").unlink()

    status, printed, _ = rehost("move-store", "new", "--quiet")

    assert status == 1
    assert "cases 1: 1/main_image.png: No such file or directory" in printed
    assert "rehost verify --repair, then rehost move-store" in printed
    status, printed, _ = rehost("move-store", "images")
    assert (status, "is given up" in printed) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name either the place"),
        (["new", "--delete-old"], "Name either the place"),
        (["s3://x"], "is no place for copies"),
        (["images"], "one is the other, or in it"),
    ],
)
def test_nonsense_is_refused(rehost, arguments, message):
    status, _, errors = rehost("move-store", *arguments)

    assert status == 2
    assert message in errors


def test_there_is_nothing_to_delete_before_a_move(rehost):
    status, _, errors = rehost("move-store", "--delete-old")

    assert (status, "No move of the copies has ended" in errors) == (3, True)
