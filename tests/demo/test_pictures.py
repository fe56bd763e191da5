import io
import shutil

import pytest
from PIL import Image

from rehost.demo.cases import Fault
from rehost.demo.pictures import STAMP, Pictures, draw
from rehost.model import Format


def test_every_picture_has_its_format_and_is_complete(all_cases, pictures):
    whole = [case for case in all_cases if case.host and case.fault not in {Fault.CUT, Fault.DAMAGED}]

    for case in whole:
        with Image.open(pictures.path(case)) as picture:
            picture.load()
            assert picture.format.lower().replace("jpeg", "jpg") == case.format.value


def test_cut_picture_cannot_be_decoded(all_cases, pictures):
    case = next(case for case in all_cases if case.fault is Fault.CUT)

    with pytest.raises(OSError), Image.open(pictures.path(case)) as picture:
        picture.load()


@pytest.mark.parametrize("kind", [Format.PNG, Format.JPEG])
def test_damaged_picture_is_whole_but_for_its_end_or_a_text_chunk(all_cases, pictures, kind):
    case = next(case for case in all_cases if case.fault is Fault.DAMAGED and case.format is kind)
    damaged, whole = pictures.path(case).read_bytes(), io.BytesIO()
    draw(case).save(whole, {"jpg": "JPEG"}.get(kind, kind), quality=86, progressive=True)

    text = damaged[damaged.index(b"tEXt") - 4 : -12] if kind is Format.PNG else b""
    end = b"\xff\xd9" if kind is Format.JPEG else b""

    assert text or end
    assert damaged.replace(text, b"") + end == whole.getvalue()


def test_no_two_pictures_are_the_same(all_cases, pictures):
    contents = [pictures.path(case).read_bytes() for case in all_cases if case.host]

    assert len(contents) == len(set(contents))


def test_picture_is_the_same_every_time(all_cases):
    assert draw(all_cases[3]).tobytes() == draw(all_cases[3]).tobytes()


def test_gifs_are_animated(all_cases, pictures):
    case = next(case for case in all_cases if case.host and case.format is Format.GIF)

    with Image.open(pictures.path(case)) as picture:
        assert picture.n_frames == 6


def test_pictures_are_drawn_once(all_cases, pictures):
    before = pictures.placeholder.stat().st_mtime_ns

    assert not pictures.create(all_cases)
    assert before == pictures.placeholder.stat().st_mtime_ns


def test_interrupted_drawing_starts_again(tmp_path, all_cases, pictures):
    copy = Pictures(shutil.copytree(pictures.folder, tmp_path / "pictures"))
    (copy.folder / STAMP).unlink()
    case = next(case for case in all_cases if case.host)
    copy.path(case).write_bytes(b"half")

    assert copy.create([case])
    assert pictures.path(case).read_bytes() == copy.path(case).read_bytes()
