"""HEIC: verified with the extra, refused without it; the walk notices damage that the decoder conceals."""

import asyncio
import struct
import subprocess
import sys

import pytest
from tests.images.conftest import verifier
from tests.images.test_formats import steps
from tests.pictures import picture

from rehost.errors import Permanent
from rehost.images.formats import ImageLimits, examine
from rehost.images.formats.isobmff import check_hevc_units
from rehost.model import Format, Image, Reason

LIMITS = ImageLimits(max_pixels=50_000_000, max_frames=1000, max_total_pixels=10**9)
WHOLE = picture(4, Format.HEIC, 320, 240)
START = WHOLE.index(b"mdat") + 4


def changed(at, by):
    return WHOLE[:at] + by + WHOLE[at + len(by) :]


@pytest.mark.parametrize("verify", ["decode", "structure"], indirect=True)
def test_whole_heic_is_accepted(verify):
    assert verify(WHOLE) == Image(Format.HEIC, 320, 240, 1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_heic_whose_end_was_never_written_is_corrupt(verify, share):
    end = START + int((len(WHOLE) - START) * share)

    refused = verify(WHOLE[:end] + bytes(len(WHOLE) - end))

    assert (type(refused), refused.reason) == (Permanent, Reason.CORRUPT)


def test_heic_with_a_gap_of_zeros_is_corrupt(verify):
    assert verify(changed(START + 500, bytes(64))).reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("by", "word"),
    [
        (struct.pack(">I", len(WHOLE)), "longer than the picture"),
        (struct.pack(">I", 0), "other bytes where a unit should be"),
        (struct.pack(">I", 1), "other bytes where a unit should be"),
        (WHOLE[START : START + 4] + b"\x80", "other bytes where a unit should be"),
        (WHOLE[START : START + 5] + b"\x00", "other bytes where a unit should be"),
    ],
)
def test_heic_whose_units_do_not_fill_its_item_is_refused(by, word):
    with pytest.raises(Permanent, match=word):
        examine(changed(START, by), LIMITS)


def test_heic_without_bytes_or_configuration_is_refused():
    with pytest.raises(Permanent, match="has no bytes"):
        examine(WHOLE.replace(b"iloc", b"free"), LIMITS)
    with pytest.raises(Permanent, match="without its configuration"):
        examine(WHOLE.replace(b"hvcC", b"free"), LIMITS)


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def located(iloc):
    """Return a HEIC that only has a list of where its items are."""
    meta = box(b"meta", bytes(4), box(b"pitm", bytes(6)), box(b"iprp"), box(b"iloc", iloc))
    return box(b"ftyp", b"heic", bytes(4)) + meta


def test_extents_without_bytes_in_the_list_take_no_time():
    items = 400
    many = struct.pack(">IHH", 0, 0, items) + struct.pack(">HHH", 1, 0, 65535) * items

    assert steps(located(many)) < 100 * items


def test_overlapping_extents_are_refused_before_they_are_joined():
    data = bytes(1000)

    with pytest.raises(Permanent, match="more bytes than its file"):
        check_hevc_units(data, [(0, 600)] * 2, 4)


def test_photograph_needs_at_most_half_of_a_decoders_memory(tmp_path):
    path = tmp_path / "large.heic"
    path.write_bytes(picture(1, Format.HEIC, 2016, 1512))

    async def verify():
        async with verifier(decode_memory_bytes=256 << 20, processes=1) as subject:
            return await subject.verify(path)

    assert asyncio.run(verify()) == Image(Format.HEIC, 2016, 1512, 1)


@pytest.mark.parametrize("verify", ["decode", "structure"])
def test_process_without_the_extra_refuses_only_heic(tmp_path, verify):
    """In a program of its own, in which nothing can import the extra."""
    program = f"""
import os, sys
sys.modules["pillow_heif"] = sys.modules["_pillow_heif"] = None
from rehost.errors import Permanent
from rehost.images.decoder_main import Bounds, open_file, verify
if {verify == "decode"}:
    from rehost.images.decoder import prepare
    prepare(10**7, heic=False)
bounds = Bounds({verify == "decode"}, 10**7, 10, 10**8, 1 << 29, 10.0)
for name in sys.argv[1:]:
    try:
        size = os.stat(name).st_size
        print(verify(open_file(name), size, bounds).format)
    except Permanent as error:
        print(error)
"""
    photo, other = tmp_path / "photo", tmp_path / "other"
    photo.write_bytes(WHOLE)
    other.write_bytes(picture(1, Format.AVIF))

    done = subprocess.run(
        [sys.executable, "-c", program, photo, other], capture_output=True, text=True, check=True, timeout=60
    )

    refusal, accepted = done.stdout.splitlines()
    assert "pip install '.[heic]'" in refusal
    assert accepted == "avif"
