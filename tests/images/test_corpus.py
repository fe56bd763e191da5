"""The outside corpus, in full: bar.md's promise 3, as the manifest words it."""

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from rehost.errors import VisitError
from rehost.model import Image, Reason

LACKING = {
    "good/33f869fcf2_clap_irot_imir_non_essential.avif": "libavif wants transformations to be marked as essential",
}
"""Whole pictures that our decoder does not read, with its reason; nothing else may be missing."""

WHOLE = {
    "bad/0f23f60a6b_heic.heic": "labelled corrupt, for no HEVC decoder was at hand; its only item ends where box"
    " and file do, and libde265 and FFmpeg decode it to the same pixels, which read `heic`",
}
"""What the manifest calls bad and is good, with the reason; nothing else may be accepted."""


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


def chosen(cases, folder, *expected):
    found = [case for case in cases if case.name.startswith(folder + "/") and case.expected in expected]
    assert found
    return found


@pytest.mark.parametrize("expected", ["corrupt", "truncated", "bomb", "not-an-image", "svg"])
def test_nothing_bad_is_accepted(expected, cases, prove):
    accepted = {case.name for case in chosen(cases, "bad", expected) if isinstance(prove.file(case.path), Image)}

    assert accepted == {case.name for case in chosen(cases, "bad", expected) if case.name in WHOLE}


@pytest.mark.parametrize("expected", ["valid", "animated"])
def test_everything_good_is_accepted_and_only_read(expected, cases, prove):
    refused = {}
    for case in chosen(cases, "good", expected):
        before = case.path.read_bytes()
        answer = prove.file(case.path)
        assert case.path.read_bytes() == before
        if not isinstance(answer, Image):
            refused[case.name] = answer

    assert set(refused) == {case.name for case in chosen(cases, "good", expected) if case.name in LACKING}


def test_every_svg_is_refused_as_one(cases, prove):
    for case in chosen(cases, "good", "svg") + chosen(cases, "bad", "svg"):
        assert prove.file(case.path).reason is Reason.SVG, case.name


def test_polyglots_and_disputed_pictures_get_a_verdict(cases, prove):
    for case in chosen(cases, "bad", "valid") + chosen(cases, "disputed", "corrupt"):
        assert isinstance(prove.file(case.path), Image | VisitError), case.name


def test_every_bomb_is_refused_for_its_size_or_as_no_picture(cases, prove):
    reasons = {case.name: prove.file(case.path).reason for case in chosen(cases, "bad", "bomb")}

    assert set(reasons.values()) <= {Reason.TOO_LARGE, Reason.CORRUPT, Reason.NOT_AN_IMAGE, Reason.UNSUPPORTED_FORMAT}
    assert list(reasons.values()).count(Reason.TOO_LARGE) >= 18


@pytest.mark.parametrize("prove", ["structure"], indirect=True)
def test_the_structure_alone_refuses_all_that_is_cut_or_no_picture(cases, prove):
    accepted = [
        case.name
        for case in chosen(cases, "bad", "truncated", "bomb", "not-an-image", "svg")
        if isinstance(prove.file(case.path), Image)
    ]

    # its rows are run-length coded and end early: to know that is to decode them
    assert accepted == ["bad/98ab83fbe4_id_001743_src_001686_op_havoc_rep_8.bmp"]
