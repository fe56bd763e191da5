import os
import sqlite3
from contextlib import closing

import pytest
from tests.demo.drawn import make_folder

from rehost.demo.cases import HELD, Result, create_table
from rehost.demo.demonstration import DATABASE, IMAGES, MARK, Demonstration
from rehost.demo.pictures import Pictures
from rehost.errors import SettingsError, StoreError
from rehost.model import Reason, State


@pytest.fixture
def undrawn(monkeypatch):
    """Have no pictures drawn, which takes seconds."""
    monkeypatch.setattr(Pictures, "create", lambda *_: False)


@pytest.fixture
def demonstration(tmp_path, pictures, origins, all_cases):
    """A demonstration with drawn pictures, right after a run with the expected results."""
    folder = tmp_path / "demo"
    folder.mkdir()
    subject = Demonstration(folder, all_cases, pictures, origins)
    create_table(folder / DATABASE, all_cases)
    for case in all_cases:
        if case.expected == HELD:
            hold(subject, case, pictures.path(case).read_bytes())
    return subject


def hold(demonstration, case, content):
    name = f"main_image.{case.format.value}"
    file = demonstration.folder / IMAGES / str(case.case_id) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    point(demonstration, case, f"/static/images/{case.case_id}/{name}")


def point(demonstration, case, url):
    with closing(sqlite3.connect(demonstration.folder / DATABASE)) as database, database:
        database.execute("UPDATE ad_cases SET main_image_local = ? WHERE case_id = ?", (url, case.case_id))


def as_expected(all_cases):
    return {case.case_id: case.expected for case in all_cases if case.expected}


def test_expected_results_have_no_difference(demonstration, all_cases):
    assert demonstration.differences(as_expected(all_cases)) == []


def test_other_result_is_a_difference(demonstration, all_cases):
    case = next(case for case in all_cases if case.expected == Result(State.REFUSED, Reason.GONE))

    found = demonstration.differences(as_expected(all_cases) | {case.case_id: Result(State.DEFERRED, Reason.TIMED_OUT)})

    assert [(each.case_id, each.expected, each.found) for each in found] == [
        (case.case_id, "refused: gone", "deferred: timed-out")
    ]


def test_copy_with_other_bytes_is_a_difference(demonstration, all_cases, pictures):
    case = next(case for case in all_cases if case.expected == HELD)
    hold(demonstration, case, pictures.placeholder.read_bytes())

    (found,) = demonstration.differences(as_expected(all_cases))

    assert "is not the picture" in found.found


def test_held_link_without_local_url_is_a_difference(demonstration, all_cases):
    case = next(case for case in all_cases if case.expected == HELD)
    point(demonstration, case, None)

    (found,) = demonstration.differences(as_expected(all_cases))

    assert found.found == "held, but the row points at nothing"


def test_refused_link_with_local_url_is_a_difference(demonstration, all_cases):
    case = next(case for case in all_cases if case.expected == Result(State.REFUSED, Reason.DECOY))
    point(demonstration, case, "/static/images/1/main_image.png")

    (found,) = demonstration.differences(as_expected(all_cases))

    assert found.found.startswith("refused: decoy, but the row points at")


def test_link_missing_from_the_ledger_is_a_difference(demonstration, all_cases):
    outcomes = as_expected(all_cases)
    del outcomes[next(iter(outcomes))]

    (found,) = demonstration.differences(outcomes)

    assert found.found == "not in the ledger"


def test_every_start_is_fresh_but_keeps_the_pictures(tmp_path, tmp_path_factory):
    folder = make_folder(tmp_path / "demo", tmp_path_factory.getbasetemp())
    first = Demonstration.prepare(folder)
    (folder / IMAGES / "1").mkdir(parents=True)
    point(first, first.cases[0], "/static/images/1/main_image.png")
    drawn = first.pictures.placeholder.stat().st_mtime_ns

    os.close(first.lock)
    second = Demonstration.prepare(folder)

    assert not (folder / IMAGES).exists()
    assert drawn == second.pictures.placeholder.stat().st_mtime_ns
    assert set(second.local_urls().values()) == {None}


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(SettingsError, match="holds files that are not the demonstration's"):
        Demonstration.prepare(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_readme_in_any_encoding_does_not_mark_the_folder(tmp_path):
    (tmp_path / MARK).write_bytes("文档".encode("gbk"))

    with pytest.raises(SettingsError, match="holds files that are not the demonstration's"):
        Demonstration.prepare(tmp_path)


def test_unusable_token_is_reported_by_its_name(demonstration):
    with pytest.raises(SettingsError, match=r"REHOST_TOKEN=\(not shown\) \(the environment\)"):
        demonstration.settings(4711, "口令")


def test_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="cannot be written"):
        Demonstration.prepare(tmp_path / "file" / "demo")


def test_settings_send_every_host_to_the_simulated_ones(demonstration):
    settings = demonstration.settings(4711)

    assert settings.storage_dir == demonstration.folder / IMAGES
    assert [str(network) for network in settings.allow_networks] == ["127.0.0.0/8"]
    assert "4711" in str(settings.connect_to)


@pytest.mark.usefixtures("undrawn")
def test_folder_says_that_it_is_emptied(tmp_path):
    Demonstration.prepare(tmp_path / "demo")

    assert "empties it" in (tmp_path / "demo" / MARK).read_text("utf-8")


def test_copies_are_compared_with_the_bytes_that_the_host_sends(all_cases, pictures, origins):
    case = next(
        case for case in all_cases if case.host and case.host.name == "img.permissive.example" and not case.fault
    )

    answer = origins.answer(case.host.name, case.path, None)

    assert answer.body == pictures.path(case).read_bytes()


@pytest.mark.parametrize("token", ["", "a-long-token"])
def test_dashboard_of_the_demonstration_gets_the_token(demonstration, token):
    assert demonstration.settings(4711, token).token == token


@pytest.mark.usefixtures("undrawn")
def test_folder_of_a_demonstration_that_runs_is_left_alone(tmp_path):
    running = Demonstration.prepare(tmp_path)
    copy = tmp_path / "images" / "1.png"
    copy.parent.mkdir()
    copy.touch()

    with pytest.raises(SettingsError, match=f"Another demonstration is using the folder {tmp_path}: end it, or name"):
        Demonstration.prepare(tmp_path)

    assert copy.exists()
    os.close(running.lock)
    Demonstration.prepare(tmp_path)
    assert not copy.exists()
