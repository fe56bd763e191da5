import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeClock
from tests.images.conftest import verifier
from tests.images.test_formats import BEFORE_THE_FILE, MOVING, WHOLE
from tests.pictures import ANIMATED, WRITABLE, animation, picture

from rehost.errors import Transient, VisitError
from rehost.images import decoder_main
from rehost.images import verifier as verifier_module
from rehost.model import Format, Image, Reason

SPARE = {"GIF": 2, "PNG": 16, "PNG with a palette": 16, "progressive JPEG": 5}
"""Bytes at the end without which viewers show the whole picture: the end of the data and of the file, the checksum of
the last rows. Within the last bytes of its last scan, a progressive JPEG only refines a block (test_decoder.py)."""


@pytest.mark.parametrize("kind", WRITABLE)
def test_whole_picture_is_accepted(kind, verify):
    assert verify(picture(1, kind, 60, 44)) == Image(kind, 60, 44, 1)


@pytest.mark.parametrize("kind", ANIMATED)
def test_every_frame_is_read(kind, verify):
    assert verify(animation(1, kind, frames=4)).frames == 4


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_picture_that_lacks_a_pixel_is_refused(name, verify):
    whole = WHOLE[name]
    sizes = sorted({*range(0, len(whole), 7), *range(len(whole) - 40, len(whole))})

    accepted = [size for size in sizes if isinstance(verify(whole[:size]), Image)]

    assert all(size >= len(whole) - SPARE.get(name, 0) for size in accepted)


@pytest.mark.parametrize("name", SPARE)
def test_truncated_picture_with_every_pixel_is_accepted_as_damaged(name, verify):
    found = verify(WHOLE[name][: -SPARE[name]])

    assert isinstance(found, Image)
    assert found.damage


def test_gif_without_its_trailer_is_accepted_if_every_begun_frame_is_complete(verify):
    whole = MOVING["moving GIF"]
    frames = [verify(whole[:size]) for size in range(len(whole))]

    accepted = [found.frames for found in frames if isinstance(found, Image)]

    assert accepted == [1, 1, 2, 2, 3, 3]  # truncated right after a frame, with or without the end of its data


@given(name=st.sampled_from(sorted(WHOLE | MOVING)), seed=st.integers(0, 2**32))
def test_damaged_pictures_are_accepted_or_refused_without_a_crash(name, seed, verify):
    dice = random.Random(seed)
    damaged = bytearray((WHOLE | MOVING)[name])
    for _ in range(dice.randint(1, 8)):
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)

    assert isinstance(verify(bytes(damaged)), Image | VisitError)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg_with_an_appended_end_is_refused(progressive, share, verify):
    whole = picture(5, Format.JPEG, 1600, 1200, progressive=progressive)
    start = whole.rindex(b"\xff\xda") + 20

    refused = verify(whole[: start + int((len(whole) - start) * share)].removesuffix(b"\xff") + b"\xff\xd9")

    assert (type(refused), refused.reason) == (Transient, Reason.TRUNCATED)


@pytest.mark.parametrize("verify", ["decode", "structure"], indirect=True)
def test_impossible_offset_is_corrupt_and_does_not_stop_the_run(verify):
    assert verify(BEFORE_THE_FILE).reason is Reason.CORRUPT


@pytest.mark.parametrize("verify", ["structure"], indirect=True)
def test_structure_alone_refuses_a_gif_without_its_trailer(verify):
    assert isinstance(verify(MOVING["moving GIF"]), Image)
    assert verify(MOVING["moving GIF"][:-1]).reason is Reason.TRUNCATED


async def test_after_a_slow_walk_only_tiny_files_are_walked_in_this_process(tmp_path, monkeypatch):
    walked = []

    def walk(path, bounds):
        walked.append(Path(path).name)
        clock.time += 0.5 if path.endswith("slow") else 0.0
        return decoder_main.walk(path, bounds)

    monkeypatch.setattr(verifier_module, "walk", walk)
    clock = FakeClock()
    large = picture(1, Format.PNG, 20, 20) + bytes(100_000)  # what follows a picture is ignored
    for name, content in (
        ("quick", large),
        ("slow", large),
        ("large", large),
        ("tiny", picture(1, Format.PNG, 20, 20)),
    ):
        (tmp_path / name).write_bytes(content)

    async with verifier(verify="structure", clock=clock) as opened:
        for name in ("quick", "slow", "large", "tiny"):
            assert (await opened.verify(tmp_path / name)).width == 20

    assert walked == ["quick", "slow", "tiny"]
