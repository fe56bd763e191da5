import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.decoder_main import Unreadable, from_line, to_line
from rehost.model import Format, Image, Reason


@pytest.mark.parametrize(
    "answer",
    [
        Image(Format.AVIF, 3, 4, 5),
        Permanent(Reason.SVG, 'an "SVG"\ndocument'),
        Transient(Reason.TRUNCATED, "图"),
        Unreadable("Input/output error"),
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
