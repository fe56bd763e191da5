"""Still PNGs read row by row, compared with Pillow."""

import io
import random
import struct
import zlib

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pictures import animation, picture

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.formats import ImageLimits, examine
from rehost.images.formats import png as png_format
from rehost.images.formats.png import is_still, passes, read_rows
from rehost.model import Reason

KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8)]


@pytest.fixture(autouse=True, scope="module", params=["at once", "in pieces"])
def way(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in pieces":
            patch.setattr(png_format, "_AT_ONCE_BYTES", 0)
        yield


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(dice, kind, width, height, *, interlaced=False, change=lambda raw: raw, damage=lambda packed: packed):
    """Return a PNG of random rows, changed before compression and damaged after it, with correct checksums."""
    colour, depth = kind
    head = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    )
    raw = b"".join(
        bytes([dice.randint(0, 4)]) + dice.randbytes(row_bytes - 1)
        for rows, row_bytes in passes(head)
        for _ in range(rows)
    )
    packed = damage(zlib.compress(change(raw)))
    middle = dice.randint(0, len(packed))
    palette = chunk(b"PLTE", dice.randbytes(3 << depth)) if colour == 3 else b""
    return head + palette + chunk(b"IDAT", packed[:middle]) + chunk(b"IDAT", packed[middle:]) + chunk(b"IEND", b"")


def we_accept(data):
    try:
        doubt = examine(data, ImageLimits(10**6, 10, 10**7)).doubt
        read_rows(data, to_end=doubt is not None)
    except VisitError:
        return False
    return True


def pillow_accepts(data):
    try:
        with PIL.Image.open(io.BytesIO(data)) as opened:
            opened.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_png_is_accepted(kind, interlaced):
    dice = random.Random(1)
    for width, height in [(1, 1), (3, 2), (5, 9), (64, 33)]:
        data = png(dice, kind, width, height, interlaced=interlaced)

        assert we_accept(data)
        assert pillow_accepts(data)


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), how=st.sampled_from(["short", "long", "byte", "cut", "bit", "checksum"]))
def test_everything_that_a_decoder_refuses_is_refused(seed, how):
    dice = random.Random(seed)

    def flip(packed):
        at = dice.randrange(len(packed))
        return packed[:at] + bytes([packed[at] ^ (1 << dice.randint(0, 7))]) + packed[at + 1 :]

    def another(raw):
        at = dice.randrange(len(raw))
        return raw[:at] + bytes([dice.randint(0, 255)]) + raw[at + 1 :]

    change = {"short": lambda raw: raw[:-1], "long": lambda raw: raw + b"more", "byte": another}.get(how)
    damage = {"cut": lambda packed: packed[: dice.randint(0, len(packed))], "bit": flip}.get(how)
    if how == "checksum":
        damage = lambda packed: packed[:-4] + b"\0\0\0\0"  # noqa: E731
    wrong = {"change": change} if change else {"damage": damage}
    kind, size = dice.choice(KINDS), (dice.randint(1, 20), dice.randint(1, 20))
    data = png(dice, kind, *size, interlaced=bool(dice.randint(0, 1)), **wrong)

    if we_accept(data):
        assert pillow_accepts(data)


def test_png_with_missing_rows_is_truncated():
    data = png(random.Random(1), (2, 8), 40, 40, change=lambda raw: raw[:-1])

    with pytest.raises(Transient) as caught:
        read_rows(data)

    assert caught.value.reason is Reason.TRUNCATED


def test_png_with_an_unknown_filter_is_corrupt():
    data = png(random.Random(1), (2, 8), 40, 40, change=lambda raw: raw[:-121] + b"\5" + raw[-120:])

    with pytest.raises(Permanent) as caught:
        read_rows(data)

    assert caught.value.reason is Reason.CORRUPT


def test_rows_after_the_first_piece_are_checked():
    def wrong(raw):
        return raw[:-3001] + b"\7" + raw[-3000:]

    assert we_accept(png(random.Random(1), (2, 8), 1000, 1000))
    assert not we_accept(png(random.Random(1), (2, 8), 1000, 1000, change=wrong))


def test_animation_is_not_still():
    assert is_still(picture(1, "png", 60, 44))
    assert not is_still(animation(1, "png", frames=2))
