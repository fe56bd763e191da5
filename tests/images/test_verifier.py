import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeClock
from tests.images.conftest import MEBIBYTE, inspector
from tests.images.test_formats import BEFORE_THE_FILE, MOVING, WHOLE
from tests.pictures import ANIMATED, WRITABLE, animation, picture

from rehost.errors import Transient, VisitError
from rehost.images import decoder_main as process
from rehost.images import verifier as proof
from rehost.images.decoder_main import Bounds
from rehost.model import Format, Image, Reason

BOUNDS = Bounds(decode=True, max_pixels=10**6, max_frames=10, memory_bytes=512 * MEBIBYTE, picture_seconds=20)


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_whole_picture_is_proven(kind, prove):
    assert prove(picture(1, kind, 60, 44)) == Image(kind, 60, 44, 1)


@pytest.mark.parametrize("kind", ANIMATED)
def test_every_frame_is_read(kind, prove):
    assert prove(animation(1, kind, frames=4)).frames == 4


@pytest.mark.parametrize("name", WHOLE)
def test_no_cut_is_accepted_that_has_cost_a_pixel(name, prove):
    # of a GIF the last two bytes end the data and the file: every pixel is there without them, and viewers show it
    whole = WHOLE[name]
    spare = 2 if name == "GIF" else 0

    accepted = [size for size in range(0, len(whole) - spare, 7) if isinstance(prove(whole[:size]), Image)]
    accepted += [size for size in range(len(whole) - 40, len(whole) - spare) if isinstance(prove(whole[:size]), Image)]

    assert accepted == []


def test_a_gif_without_its_trailer_is_accepted_when_every_frame_that_was_begun_is_there(prove):
    whole = MOVING["moving GIF"]
    frames = [prove(whole[:size]) for size in range(len(whole))]

    accepted = [found.frames for found in frames if isinstance(found, Image)]

    assert accepted == [1, 1, 2, 2, 3, 3]  # cut right behind a frame, with or without the end of its data


@given(name=st.sampled_from(sorted(WHOLE | MOVING)), seed=st.integers(0, 2**32))
def test_damaged_pictures_get_a_verdict(name, seed, prove):
    dice = random.Random(seed)
    damaged = bytearray((WHOLE | MOVING)[name])
    for _ in range(dice.randint(1, 8)):
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)

    assert isinstance(prove(bytes(damaged)), Image | VisitError)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_whose_end_was_put_behind_a_cut_is_noticed_by_its_decoder(progressive, share, prove):
    whole = picture(5, Format.JPEG, 1600, 1200, progressive=progressive)
    start = whole.rindex(b"\xff\xda") + 20

    refused = prove(whole[: start + int((len(whole) - start) * share)].removesuffix(b"\xff") + b"\xff\xd9")

    assert (type(refused), refused.reason) == (Transient, Reason.TRUNCATED)


@pytest.mark.parametrize("prove", ["decode", "structure"], indirect=True)
def test_no_place_that_a_picture_names_stops_the_run(prove):
    assert prove(BEFORE_THE_FILE).reason is Reason.CORRUPT


@pytest.mark.parametrize("prove", ["structure"], indirect=True)
def test_without_a_decoder_a_gif_without_its_trailer_counts_as_cut(prove):
    assert isinstance(prove(MOVING["moving GIF"]), Image)
    assert prove(MOVING["moving GIF"][:-1]).reason is Reason.TRUNCATED


async def test_after_a_walk_that_took_long_only_tiny_files_are_walked_here(tmp_path, monkeypatch):
    walked = []

    def walk(path, bounds):
        walked.append(Path(path).name)
        clock.time += 0.5 if path.endswith("slow") else 0.0
        return process.walk(path, bounds)

    monkeypatch.setattr(proof, "walk", walk)
    clock = FakeClock()
    large = picture(1, Format.PNG, 20, 20) + bytes(100_000)  # what follows a picture is ignored
    for name, content in (
        ("quick", large),
        ("slow", large),
        ("large", large),
        ("tiny", picture(1, Format.PNG, 20, 20)),
    ):
        (tmp_path / name).write_bytes(content)

    async with inspector(verify="structure", clock=clock) as opened:
        for name in ("quick", "slow", "large", "tiny"):
            assert (await opened.inspect(tmp_path / name)).width == 20

    assert walked == ["quick", "slow", "tiny"]
