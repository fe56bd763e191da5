import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.images.test_png import png

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.decoder_main import Bounds, NeedsHeic, Unreadable, from_line, to_line, verify
from rehost.model import Format, Image, Reason


@pytest.mark.parametrize(
    "answer",
    [
        Image(Format.AVIF, 3, 4, 5),
        Image(Format.PNG, 3, 4, 1, "the tEXt of a PNG"),
        Permanent(Reason.SVG, 'an "SVG"\ndocument'),
        Transient(Reason.TRUNCATED, "图"),
        Unreadable("Input/output error"),
        NeedsHeic(),
    ],
)
def test_answer_is_the_same_after_the_pipe(answer):
    line = to_line(answer)
    back = from_line(line)

    assert line.count(b"\n") == 1
    assert type(back) is type(answer)
    assert vars(back) == vars(answer) if isinstance(answer, VisitError) else back == answer


@given(st.binary(max_size=100))
def test_other_lines_are_refused_as_answers(line):
    with pytest.raises((ValueError, KeyError)):
        from_line(b'["image", "EXE", 1, 1, ' + line)


@pytest.mark.parametrize("numbers", [[0, 1, 1], [1, -1, 1], [1, 1, 2**31], [10**30, 1, 1]])
def test_answer_with_impossible_dimensions_is_refused(numbers):
    with pytest.raises(ValueError, match="dimensions"):
        from_line(json.dumps(["image", "PNG", *numbers, None]).encode())


def test_text_of_an_answer_can_be_stored_in_any_database():
    for kind in ("transient", "permanent"):
        error = from_line(json.dumps([kind, "CORRUPT", "a\0b\ud800" + "c" * 10**5]).encode())

        assert error.evidence.startswith("a?b?c")
        assert len(error.evidence) == 500
    assert from_line(b'["unreadable", "\\u0000"]') == Unreadable("?")


@pytest.mark.parametrize("small_bytes", [0, 1 << 20])
def test_png_with_an_unknown_filter_is_corrupt_whether_its_file_is_mapped_or_read(tmp_path, monkeypatch, small_bytes):
    monkeypatch.setattr("rehost.images.decoder_main.SMALL_BYTES", small_bytes)
    path = tmp_path / "picture.png"
    path.write_bytes(png(random.Random(1), (2, 8), 40, 40, change=lambda raw: b"\7" + raw[1:]))

    with path.open("rb") as file, pytest.raises(Permanent, match="a PNG row with an unknown filter"):
        verify(file.fileno(), path.stat().st_size, Bounds(True, 10**6, 10, 10**8, 1 << 29, 10.0))
