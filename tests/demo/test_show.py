import hashlib
import sqlite3
from contextlib import closing

import pytest

from rehost.demo import library
from rehost.demo.cases import HELD, Plan
from rehost.demo.show import DATABASE, IMAGES, MARK, Demonstration
from rehost.errors import SettingsError, StoreError
from rehost.model import Reason, State


@pytest.fixture
def demonstration(tmp_path, posters, world, all_cases):
    """A demonstration whose pictures are painted already, right after a run in which all went as planned."""
    folder = tmp_path / "demo"
    folder.mkdir()
    shown = Demonstration(folder, all_cases, posters, world)
    library.make(folder / DATABASE, all_cases)
    for case in all_cases:
        if case.plan == HELD:
            hold(shown, case, posters.path(case).read_bytes())
    return shown


def hold(demonstration, case, content):
    name = f"main_image.{case.format.value}"
    file = demonstration.folder / IMAGES / str(case.case_id) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    point(demonstration, case, f"/static/images/{case.case_id}/{name}")


def point(demonstration, case, url):
    with closing(sqlite3.connect(demonstration.folder / DATABASE)) as database, database:
        database.execute("UPDATE ad_cases SET main_image_local = ? WHERE case_id = ?", (url, case.case_id))


def as_planned(all_cases):
    return {case.case_id: case.plan for case in all_cases if case.plan}


def test_all_as_planned_has_no_difference(demonstration, all_cases):
    assert demonstration.differences(as_planned(all_cases)) == []


def test_another_outcome_is_told_by_its_case(demonstration, all_cases):
    case = next(case for case in all_cases if case.plan == Plan(State.REFUSED, Reason.GONE))

    found = demonstration.differences(as_planned(all_cases) | {case.case_id: Plan(State.DEFERRED, Reason.TIMED_OUT)})

    assert [(each.case_id, each.planned, each.found) for each in found] == [
        (case.case_id, "refused: gone", "deferred: timed-out")
    ]


def test_a_copy_that_is_not_the_picture_is_told(demonstration, all_cases, posters):
    case = next(case for case in all_cases if case.plan == HELD)
    hold(demonstration, case, posters.notice.read_bytes())

    (found,) = demonstration.differences(as_planned(all_cases))

    assert "is not the picture" in found.found


def test_a_row_that_points_at_nothing_is_told(demonstration, all_cases):
    case = next(case for case in all_cases if case.plan == HELD)
    point(demonstration, case, None)

    (found,) = demonstration.differences(as_planned(all_cases))

    assert found.found == "held, but the row points at nothing"


def test_a_refused_link_whose_row_points_somewhere_is_told(demonstration, all_cases):
    case = next(case for case in all_cases if case.plan == Plan(State.REFUSED, Reason.DECOY))
    point(demonstration, case, "/static/images/1/main_image.png")

    (found,) = demonstration.differences(as_planned(all_cases))

    assert found.found.startswith("refused: decoy, but the row points at")


def test_a_link_that_the_ledger_never_met_is_told(demonstration, all_cases):
    outcomes = as_planned(all_cases)
    del outcomes[next(iter(outcomes))]

    (found,) = demonstration.differences(outcomes)

    assert found.found == "not in the ledger"


def test_it_starts_afresh_and_keeps_the_painted_pictures(tmp_path):
    folder = tmp_path / "demo"
    first = Demonstration.begin(folder)
    (folder / IMAGES / "1").mkdir(parents=True)
    point(first, first.cases[0], "/static/images/1/main_image.png")
    painted = first.posters.notice.stat().st_mtime_ns

    second = Demonstration.begin(folder)

    assert not (folder / IMAGES).exists()
    assert painted == second.posters.notice.stat().st_mtime_ns
    assert set(library.local_urls(folder / DATABASE).values()) == {None}


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(SettingsError, match="holds files that are not the demonstration's"):
        Demonstration.begin(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_mark_of_somebody_elses_is_no_mark_whatever_its_encoding(tmp_path):
    (tmp_path / MARK).write_bytes("文档".encode("gbk"))

    with pytest.raises(SettingsError, match="holds files that are not the demonstration's"):
        Demonstration.begin(tmp_path)


def test_a_token_that_is_not_usable_is_told_by_its_name(demonstration):
    with pytest.raises(SettingsError, match=r"REHOST_TOKEN=\(not shown\) \(the environment\)"):
        demonstration.settings(4711, "口令")


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="cannot be written"):
        Demonstration.begin(tmp_path / "file" / "demo")


def test_the_settings_lead_every_host_to_the_played_ones(demonstration):
    settings = demonstration.settings(4711)

    assert settings.storage_dir == demonstration.folder / IMAGES
    assert [str(network) for network in settings.allow_networks] == ["127.0.0.0/8"]
    assert "4711" in str(settings.connect_to)


def test_the_folder_says_whose_it_is(tmp_path):
    Demonstration.begin(tmp_path / "demo")

    assert "empties it" in (tmp_path / "demo" / MARK).read_text("utf-8")


def test_digests_are_of_the_bytes_that_the_host_serves(all_cases, posters, world):
    case = next(
        case for case in all_cases if case.host and case.host.name == "img.permissive.example" and not case.fault
    )

    answer = world.answer(case.host.name, case.path, None)

    assert hashlib.sha256(answer.body).hexdigest() == posters.digest(case)


@pytest.mark.parametrize("token", ["", "a-long-token"])
def test_whoever_has_a_token_may_act_in_it(demonstration, token):
    assert demonstration.settings(4711, token).token == token
