"""HEIC: proven where the extra is installed, refused with its name where not; what its decoder conceals is seen."""

import asyncio
import struct
import subprocess
import sys

import pytest
from tests.images.conftest import inspector
from tests.images.test_effort import steps
from tests.pictures import picture

from rehost.errors import Permanent
from rehost.images import heic
from rehost.images.formats import ImageLimits, examine, hevc
from rehost.model import Format, Image, Reason

LIMITS = ImageLimits(max_pixels=50_000_000, max_frames=1000)
WHOLE = picture(4, Format.HEIC, 320, 240)
START = WHOLE.index(b"mdat") + 4


def changed(at, by):
    return WHOLE[:at] + by + WHOLE[at + len(by) :]


@pytest.mark.parametrize("prove", ["decode", "structure"], indirect=True)
def test_a_heic_is_proven(prove):
    assert prove(WHOLE) == Image(Format.HEIC, 320, 240, 1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_heic_whose_end_was_never_written_is_corrupt(prove, share):
    end = START + int((len(WHOLE) - START) * share)

    refused = prove(WHOLE[:end] + bytes(len(WHOLE) - end))

    assert (type(refused), refused.reason) == (Permanent, Reason.CORRUPT)


def test_a_hole_in_a_heic_is_seen(prove):
    assert prove(changed(START + 500, bytes(64))).reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("by", "word"),
    [
        (struct.pack(">I", len(WHOLE)), "longer than the picture"),
        (struct.pack(">I", 0), "is none"),
        (struct.pack(">I", 1), "is none"),
        (WHOLE[START : START + 4] + b"\x80", "is none"),
        (WHOLE[START : START + 5] + b"\x00", "is none"),
    ],
)
def test_units_that_do_not_fill_the_picture_are_refused(by, word):
    with pytest.raises(Permanent, match=word):
        examine(changed(START, by), LIMITS)


def test_a_picture_without_bytes_or_configuration_is_refused():
    with pytest.raises(Permanent, match="has no bytes"):
        examine(WHOLE.replace(b"iloc", b"free"), LIMITS)
    with pytest.raises(Permanent, match="without its configuration"):
        examine(WHOLE.replace(b"hvcC", b"free"), LIMITS)


def box(kind, *parts):
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def located(iloc):
    """Return a HEIC that is nothing but a list of where its items lie."""
    meta = box(b"meta", bytes(4), box(b"pitm", bytes(6)), box(b"iprp"), box(b"iloc", iloc))
    return box(b"ftyp", b"heic", bytes(4)) + meta


def test_pieces_that_take_no_bytes_to_list_take_no_time_either():
    items = 400
    many = struct.pack(">IHH", 0, 0, items) + struct.pack(">HHH", 1, 0, 65535) * items

    assert steps(located(many)) < 100 * items


def test_a_picture_in_pieces_that_lie_upon_each_other_is_refused_before_they_are_put_together():
    data = bytes(1000)

    with pytest.raises(Permanent, match="more bytes than its file"):
        hevc.check(data, [(0, 600)] * 2, 4)


def test_a_photograph_fits_into_half_of_the_memory_that_a_decoder_has(tmp_path):
    path = tmp_path / "large.heic"
    path.write_bytes(picture(1, Format.HEIC, 2016, 1512))

    async def prove():
        async with inspector(decode_memory_bytes=256 << 20, processes=1) as subject:
            return await subject.inspect(path)

    assert asyncio.run(prove()) == Image(Format.HEIC, 2016, 1512, 1)


def test_without_the_extra_a_heic_is_refused_and_the_extra_named(monkeypatch):
    monkeypatch.setattr(heic, "find_spec", lambda _name: None)

    with pytest.raises(Permanent, match=r"rehost\[heic\]") as caught:
        heic.require()

    assert caught.value.reason is Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("verify", ["decode", "structure"])
def test_a_process_without_the_extra_refuses_a_heic_and_proves_the_rest(tmp_path, verify):
    """In a program of its own, in which the extra cannot be found by anything."""
    program = f"""
import sys
sys.modules["pillow_heif"] = sys.modules["_pillow_heif"] = None
from rehost.images.decoder_main import Bounds, prove
if {verify == "decode"}:
    from rehost.images.decoder import prepare
    prepare(10**7)
bounds = Bounds({verify == "decode"}, 10**7, 10, 1 << 29, 10.0)
print(prove(sys.argv[1], bounds))
print(prove(sys.argv[2], bounds).format)
"""
    photo, other = tmp_path / "photo", tmp_path / "other"
    photo.write_bytes(WHOLE)
    other.write_bytes(picture(1, Format.AVIF))

    done = subprocess.run(
        [sys.executable, "-c", program, photo, other], capture_output=True, text=True, check=True, timeout=60
    )

    refusal, fine = done.stdout.splitlines()
    assert "rehost[heic]" in refusal
    assert fine == "avif"
