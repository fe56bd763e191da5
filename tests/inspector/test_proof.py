import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.inspector.conftest import MEBIBYTE
from tests.inspector.test_structure import MOVING, WHOLE
from tests.pictures import ANIMATED, WRITABLE, animation, picture

from rehost.errors import VisitError
from rehost.inspector.process import Bounds
from rehost.model import Image, Reason

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


@pytest.mark.parametrize("prove", ["structure"], indirect=True)
def test_without_a_decoder_a_gif_without_its_trailer_counts_as_cut(prove):
    assert isinstance(prove(MOVING["moving GIF"]), Image)
    assert prove(MOVING["moving GIF"][:-1]).reason is Reason.TRUNCATED
