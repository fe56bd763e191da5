import io

import pytest
from PIL import Image

from rehost.model import Format
from tests.pictures import ANIMATED, WRITABLE, animation, picture


@pytest.mark.parametrize("kind", WRITABLE)
def test_every_seed_gives_its_own_whole_picture(kind):
    pictures = {picture(seed, kind) for seed in range(5)}

    assert len(pictures) == 5
    for each in pictures:
        with Image.open(io.BytesIO(each)) as image:
            image.load()
            assert image.size == (64, 48)


@pytest.mark.parametrize("kind", WRITABLE)
def test_one_seed_always_gives_the_same_bytes(kind):
    assert picture.__wrapped__(7, kind) == picture(7, kind)


@pytest.mark.parametrize("kind", ANIMATED)
def test_an_animation_has_its_frames(kind):
    with Image.open(io.BytesIO(animation(1, kind, frames=4))) as image:
        assert image.n_frames == 4


def test_a_jpeg_can_be_progressive():
    with Image.open(io.BytesIO(picture(1, progressive=True))) as image:
        assert image.info.get("progressive") == 1
    assert picture(1, Format.JPEG) != picture(1, progressive=True)
