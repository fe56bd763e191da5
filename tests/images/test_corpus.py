"""The whole corpus of good and bad pictures from other projects: nothing bad is accepted, everything good is."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehost.errors import VisitError
from rehost.model import Image, Reason

NOT_DECODED = {
    "good/33f869fcf2_clap_irot_imir_non_essential.avif": "libavif requires transformations to be marked as essential",
}
"""Whole pictures that our decoder does not read, and why; all others must be accepted."""

NOT_BAD = {
    "bad/0f23f60a6b_heic.heic": "labelled corrupt because no HEVC decoder was available; its only item ends where"
    " box and file end, and libde265 and FFmpeg decode it to the same pixels, which show the word `heic`",
}
"""Pictures that the manifest calls bad and that are good, and why; no other may be accepted."""


@dataclass(frozen=True)
class Case:
    name: str
    path: Path
    expected: str


@pytest.fixture(scope="module")
def cases(shared):
    with (shared / "corpus" / "manifest.csv").open(newline="") as file:
        rows = [Case(row["file"], shared / "corpus" / row["file"], row["expected"]) for row in csv.DictReader(file)]
    assert rows
    return rows


def select(cases, folder, *expected):
    found = [case for case in cases if case.name.startswith(folder + "/") and case.expected in expected]
    assert found
    return found


@pytest.mark.parametrize("expected", ["corrupt", "truncated", "bomb", "not-an-image", "svg"])
def test_nothing_bad_is_accepted(expected, cases, verify):
    accepted = {case.name for case in select(cases, "bad", expected) if isinstance(verify.file(case.path), Image)}

    assert accepted == {case.name for case in select(cases, "bad", expected) if case.name in NOT_BAD}


@pytest.mark.parametrize("expected", ["valid", "animated"])
def test_everything_good_is_accepted_and_left_unchanged(expected, cases, verify):
    refused = {}
    for case in select(cases, "good", expected):
        before = case.path.read_bytes()
        result = verify.file(case.path)
        assert case.path.read_bytes() == before
        if not isinstance(result, Image):
            refused[case.name] = result

    assert set(refused) == {case.name for case in select(cases, "good", expected) if case.name in NOT_DECODED}


def test_every_svg_is_refused_with_the_reason_svg(cases, verify):
    for case in select(cases, "good", "svg") + select(cases, "bad", "svg"):
        assert verify.file(case.path).reason is Reason.SVG, case.name


def test_polyglots_and_disputed_pictures_are_accepted_or_refused_without_a_crash(cases, verify):
    for case in select(cases, "bad", "valid") + select(cases, "disputed", "corrupt"):
        assert isinstance(verify.file(case.path), Image | VisitError), case.name


def test_every_bomb_is_refused_as_too_large_or_as_no_picture(cases, verify):
    reasons = {case.name: verify.file(case.path).reason for case in select(cases, "bad", "bomb")}

    assert set(reasons.values()) <= {Reason.TOO_LARGE, Reason.CORRUPT, Reason.NOT_AN_IMAGE, Reason.UNSUPPORTED_FORMAT}
    assert list(reasons.values()).count(Reason.TOO_LARGE) >= 18


@pytest.mark.parametrize("verify", ["structure"], indirect=True)
def test_the_structure_alone_refuses_truncated_files_and_files_that_are_no_pictures(cases, verify):
    accepted = [
        case.name
        for case in select(cases, "bad", "truncated", "bomb", "not-an-image", "svg")
        if isinstance(verify.file(case.path), Image)
    ]

    assert accepted == []


def test_pictures_are_held_as_browsers_show_them(shared, verify):
    with (shared / "wild" / "pictures.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["expected"] != "either"]
    assert len(rows) > 100

    held = {row["file"]: isinstance(verify.file(shared / "wild" / "pictures" / row["file"]), Image) for row in rows}

    assert held == {row["file"]: row["expected"] == "hold" for row in rows}
