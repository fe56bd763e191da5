import io

import pytest
from tests.inspector.test_structure import BEFORE_THE_FILE
from tests.pictures import animation, picture

from rehost.errors import Permanent, Transient, VisitError
from rehost.inspector.decode import decode, prepare
from rehost.inspector.structure import Ceiling
from rehost.model import Format, Image, Reason

LIMITS = Ceiling(max_pixels=10**6, max_frames=10)


@pytest.fixture(autouse=True)
def prepared():
    prepare(LIMITS.max_pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_read_at_an_eighth_is_read_to_its_last_byte(progressive):
    whole = picture(5, Format.JPEG, 512, 384, progressive=progressive)
    start = whole.index(b"\xff\xda")
    found = Image(Format.JPEG, 512, 384, 1)

    assert decode(io.BytesIO(whole), found, LIMITS) == 1
    for size in [*range(start + 20, len(whole) - 2, 101), len(whole) - 3]:
        with pytest.raises(Transient) as caught:
            decode(io.BytesIO(whole[:size]), found, LIMITS)
        assert caught.value.reason is Reason.TRUNCATED


def test_a_decoder_that_sees_more_than_was_announced_is_stopped():
    with pytest.raises(Permanent) as pixels:
        decode(io.BytesIO(picture(1, Format.PNG, 1200, 1000)), Image(Format.PNG, 1, 1, 1), LIMITS)
    with pytest.raises(Permanent) as frames:
        decode(io.BytesIO(animation(1, Format.GIF, 11)), Image(Format.GIF, 1, 1, 1), LIMITS)

    assert pixels.value.reason is frames.value.reason is Reason.TOO_LARGE


def test_a_fault_of_the_disk_is_not_held_against_the_picture():
    class Failing(io.BytesIO):
        def read(self, _=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as caught:
        decode(Failing(picture(1)), Image(Format.JPEG, 64, 48, 1), LIMITS)

    assert not isinstance(caught.value, VisitError)


def test_a_picture_that_sends_its_decoder_before_the_file_is_no_fault_of_the_disk(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(BEFORE_THE_FILE)

    with path.open("rb") as file, pytest.raises(Permanent) as caught:
        decode(file, Image(Format.TIFF, 16, 16, 1), LIMITS)

    assert caught.value.reason is Reason.CORRUPT
