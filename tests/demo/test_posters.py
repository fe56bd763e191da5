import shutil

import pytest
from PIL import Image

from rehost.demo.cases import Fault
from rehost.demo.posters import STAMP, Posters, poster_of
from rehost.model import Format


def test_every_picture_is_of_its_format_and_whole(all_cases, posters):
    whole = [case for case in all_cases if case.host and case.fault is not Fault.CUT]

    for case in whole:
        with Image.open(posters.path(case)) as picture:
            picture.load()
            assert picture.format.lower().replace("jpeg", "jpg") == case.format.value


def test_the_cut_picture_cannot_be_read_to_its_end(all_cases, posters):
    case = next(case for case in all_cases if case.fault is Fault.CUT)

    with pytest.raises(OSError), Image.open(posters.path(case)) as picture:
        picture.load()


def test_no_two_pictures_are_the_same(all_cases, posters):
    digests = [posters.digest(case) for case in all_cases if case.host]

    assert len(digests) == len(set(digests))


def test_a_picture_is_the_same_every_time(all_cases):
    assert poster_of(all_cases[3]).tobytes() == poster_of(all_cases[3]).tobytes()


def test_gifs_move(all_cases, posters):
    case = next(case for case in all_cases if case.host and case.format is Format.GIF)

    with Image.open(posters.path(case)) as picture:
        assert picture.n_frames == 6


def test_pictures_are_made_once(all_cases, posters):
    before = posters.notice.stat().st_mtime_ns

    assert not posters.make(all_cases)
    assert before == posters.notice.stat().st_mtime_ns


def test_a_make_that_was_cut_short_is_begun_again(tmp_path, all_cases, posters):
    copy = Posters(shutil.copytree(posters.folder, tmp_path / "posters"))
    (copy.folder / STAMP).unlink()
    case = next(case for case in all_cases if case.host)
    copy.path(case).write_bytes(b"half")

    assert copy.make([case])
    assert posters.digest(case) == copy.digest(case)
