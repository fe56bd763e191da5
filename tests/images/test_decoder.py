import ast
import inspect
import io
import random
import re
import struct
import tomllib
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import PIL.Image
import pytest
from PIL import Image as Pillow
from pillow_heif import options
from tests.images.test_formats import BEFORE_THE_FILE, icon, with_screen
from tests.pictures import animation, picture

from rehost.errors import Permanent, Transient, VisitError
from rehost.images import decoder
from rehost.images.decoder import decode, prepare, thumbnail
from rehost.images.formats import ImageLimits, StructureResult, examine
from rehost.model import Format, Image, Reason

LIMITS = ImageLimits(max_pixels=10**6, max_frames=10, max_total_pixels=10**8)


@pytest.fixture(autouse=True)
def prepared():
    prepare(LIMITS.max_pixels)


END = b"\xff\xd9"


@cache
def photograph(mode="RGB", **options):
    """Return a JPEG whose blocks all differ, as in a photograph."""
    file = io.BytesIO()
    with Pillow.open(io.BytesIO(picture(5, Format.PNG, 320, 240))) as clouds:
        grain = Pillow.frombytes(mode, (320, 240), random.Random(5).randbytes(320 * 240 * len(mode)))
        Pillow.blend(clouds.convert(mode), grain, 0.3).save(file, "JPEG", **options)
    return file.getvalue()


JPEGS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "progressive": {"progressive": True},
    "progressive, grey": {"mode": "L", "progressive": True},
    "progressive, CMYK": {"mode": "CMYK", "progressive": True},
    "restarts": {"restart_marker_blocks": 1},
    "restarts of rows": {"restart_marker_rows": 1},
    "progressive, restarts": {"progressive": True, "restart_marker_blocks": 1},
    "progressive, restarts of rows": {"progressive": True, "restart_marker_rows": 1},
}


def last_scan(whole):
    """Return where the data of the last scan begins and ends."""
    head = whole.rindex(b"\xff\xda") + 2
    return head + int.from_bytes(whole[head : head + 2], "big"), len(whole) - 2


def with_end(data):
    """Return a truncated JPEG with an end of image appended."""
    return data.removesuffix(b"\xff") + END


def decode_all(data):
    return decode(io.BytesIO(data), examine(data, LIMITS), LIMITS)


@pytest.mark.parametrize("name", JPEGS)
def test_whole_jpeg_with_other_bytes_before_and_after_its_end_is_accepted(name):
    whole = photograph(**JPEGS[name])

    assert decode_all(whole + whole) == 1
    for other in (b"", bytes(1000), b"\xff" * 5, b"\xff\xd0"):  # padding, fill bytes, a restart without data
        assert decode_all(whole[:-2] + other + END) == 1


@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_can_be_read_in_pieces_of_any_size(name, monkeypatch):
    whole = photograph(**JPEGS[name])

    for size in (61, 1000):
        monkeypatch.setattr("rehost.images.decoder.READ_BYTES", size)
        assert decode_all(whole) == 1


@pytest.mark.parametrize("name", JPEGS)
def test_truncated_jpeg_with_an_appended_end_is_refused(name):
    whole = photograph(**JPEGS[name])
    start, end = last_scan(whole)

    for size in [*range(start + 1, end - 32, (end - start) // 50), end - 32]:
        with pytest.raises(Transient) as caught:
            decode_all(with_end(whole[:size]))
        assert caught.value.reason is Reason.TRUNCATED


def test_progressive_jpeg_truncated_in_an_earlier_scan_is_refused():
    whole = photograph(progressive=True)
    end = whole.index(b"\xff\xc4", whole.index(b"\xff\xda"))  # the tables of the next scan

    with pytest.raises(Transient):
        decode_all(with_end(whole[: end - 100]))


@pytest.mark.parametrize("behind", [bytes(8192), b"<!-- served by a cache -->" * 300], ids=["zeros", "text"])
@pytest.mark.parametrize("name", JPEGS)
def test_jpeg_without_its_end_is_whole_if_every_block_is_there(name, behind):
    whole = photograph(**JPEGS[name])
    start, end = last_scan(whole)

    assert decode_all(whole[:-2] + behind) == 1
    for size in (start + (end - start) // 2, end - 128):
        with pytest.raises(Transient) as caught:
            decode_all(whole[:size].removesuffix(b"\xff") + behind)
        assert caught.value.reason is Reason.TRUNCATED


def segment(marker, content):
    return bytes((0xFF, marker)) + (2 + len(content)).to_bytes(2, "big") + content


DAMAGED_METADATA = {
    "JFIF": segment(0xE0, b"JFIF\0\x01"),
    "Exif": segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f"),
    "ICC profile": segment(0xE2, b"ICC_PROFILE\0\x01"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04"),
    "Adobe": segment(0xEE, b"Adobe\0"),
    "temporary marker": b"\xff\x01",
}


@pytest.mark.parametrize("name", DAMAGED_METADATA)
def test_jpeg_with_damaged_metadata_is_whole(name):
    whole = photograph()
    damaged = whole[:2] + DAMAGED_METADATA[name] + whole[2:]

    assert decode_all(damaged) == 1
    assert thumbnail(io.BytesIO(damaged), examine(damaged, LIMITS).image, 64, LIMITS)


def test_jpeg_with_a_sampling_that_libjpeg_cannot_upsample_is_corrupt():
    whole = bytearray(photograph(subsampling=0))
    factors = whole.index(b"\xff\xc0") + 11
    whole[factors : factors + 7 : 3] = b"\x31\x21\x11"

    with pytest.raises(Permanent, match="broken data stream") as caught:
        decode_all(bytes(whole))
    assert caught.value.reason is Reason.CORRUPT


@cache
def webp(name):
    options = {"lossy": {}, "with alpha": {}, "lossless": {"lossless": True}}[name]
    file = io.BytesIO()
    with Pillow.open(io.BytesIO(photograph())) as opened:
        opened.putalpha(opened.convert("L")) if name == "with alpha" else opened.load()
        opened.save(file, "WEBP", **options)
    return file.getvalue()


def accepts(data):
    try:
        return decode_all(data) == 1
    except VisitError:
        return False


@pytest.mark.parametrize("name", ["lossy", "with alpha", "lossless"])
def test_webp_is_accepted_if_pillow_accepts_it(name, monkeypatch):
    dice, whole = random.Random(4), webp(name)
    assert decoder._reads_webp(io.BytesIO(whole), 320, 240)

    damaged = [whole]
    for _ in range(60):
        at = dice.randrange(12, len(whole))
        size = dice.choice([0, 1, len(whole) - at])  # a bit, a missing byte, a missing end
        changed = whole[:at] + bytes([whole[at] ^ 1 << dice.randrange(8)][: not size]) + whole[at + max(size, 1) :]
        damaged += [
            changed,
            changed + bytes(len(whole) - len(changed)),
            changed + whole[12 + len(changed) - len(whole) :],
        ]
    ours = [accepts(each) for each in damaged]
    monkeypatch.setattr(decoder, "_reads_webp", lambda *_: False)

    assert ours == [accepts(each) for each in damaged]
    assert len(set(ours)) == 2


def test_webp_is_read_by_pillow_alone_if_its_library_cannot_be_called(monkeypatch):
    monkeypatch.setattr(decoder, "_libwebp", lambda: None)

    assert accepts(webp("lossy"))
    assert not accepts(webp("lossy")[:20] + b"\xf0\xff\xff" + webp("lossy")[23:])  # a part longer than the file


def test_animated_png_with_a_damaged_chunk_without_pixels_is_whole():
    whole = animation(1, Format.PNG, 3)
    damaged = whole[:33] + struct.pack(">I", 1) + b"pHYs\0" + struct.pack(">I", zlib.crc32(b"pHYs\0")) + whole[33:]

    assert decode_all(damaged) == 3


def test_animated_png_with_numbers_out_of_sequence_is_whole():
    whole = bytearray(animation(1, Format.PNG, 3))
    at = whole.index(b"fdAT")
    whole[at + 4 : at + 8] = struct.pack(">I", 77)
    length = int.from_bytes(whole[at - 4 : at], "big")
    whole[at + 4 + length : at + 8 + length] = struct.pack(">I", zlib.crc32(whole[at : at + 4 + length]))

    assert decode_all(bytes(whole)) == 3


def test_gif_without_a_screen_is_decoded():
    assert decode_all(with_screen(animation(1, Format.GIF, 3), 0, 0)) == 3


def test_icon_with_a_small_size_beyond_its_end_is_decoded():
    small, large = picture(1, Format.PNG, 16, 16), picture(1, Format.PNG, 32, 32)

    assert decode_all(icon((16, small, 10**6), (32, large, 0))) == 1


def test_more_pixels_or_frames_than_the_structure_announced_are_refused():
    with pytest.raises(Permanent) as pixels:
        decode(io.BytesIO(picture(1, Format.PNG, 1200, 1000)), StructureResult(Image(Format.PNG, 1, 1, 1)), LIMITS)
    with pytest.raises(Permanent) as frames:
        decode(io.BytesIO(animation(1, Format.GIF, 11)), StructureResult(Image(Format.GIF, 1, 1, 1)), LIMITS)

    assert pixels.value.reason is frames.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["TIFF", "ICO"])
def test_more_pixels_in_all_pages_or_icon_sizes_than_allowed_are_refused(name):
    small, large = Pillow.new("L", (10, 10)), Pillow.new("L", (200, 200))
    file = io.BytesIO()
    if name == "TIFF":
        small.save(file, name, save_all=True, append_images=[large, large])
        most = 100 + 2 * 200 * 200
    else:
        large.save(file, name, sizes=[(200, 200), (100, 100), (16, 16)])
        most = 200 * 200 + 100 * 100 + 16 * 16
    whole = file.getvalue()
    structure = examine(whole, LIMITS)

    assert decode(io.BytesIO(whole), structure, replace(LIMITS, max_total_pixels=most))
    with pytest.raises(Permanent, match="in all frames") as caught:
        decode(io.BytesIO(whole), structure, replace(LIMITS, max_total_pixels=most - 1))
    assert caught.value.reason is Reason.TOO_LARGE


def test_disk_error_does_not_count_against_the_picture():
    class Failing(io.BytesIO):
        def read(self, _=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as caught:
        decode(Failing(picture(1)), examine(picture(1), LIMITS), LIMITS)

    assert not isinstance(caught.value, VisitError)


def test_picture_with_an_offset_before_the_file_is_corrupt_and_no_disk_error(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(BEFORE_THE_FILE)

    with path.open("rb") as file, pytest.raises(Permanent) as caught:
        decode(file, StructureResult(Image(Format.TIFF, 16, 16, 1)), LIMITS)

    assert caught.value.reason is Reason.CORRUPT


def settings_of_pillow(text: str) -> set[tuple[str, str]]:
    """Return the names of other modules that a module assigns to: to a missing one, the assignment does nothing."""
    names = (target for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Assign) for target in node.targets)
    return {
        (ast.unparse(each.value), each.attr)
        for each in names
        if isinstance(each, ast.Attribute) and (each.attr.isupper() or ast.unparse(each.value) == "options")
    }


@pytest.mark.parametrize(("module", "name"), sorted(settings_of_pillow(inspect.getsource(decoder))))
def test_every_setting_of_pillow_that_is_set_exists(module, name):
    text = inspect.getsource(options if module == "options" else eval(module, vars(decoder)))

    assert re.search(rf"^{name}\b.*=", text, re.MULTILINE), f"{module} has no {name} any more"


def test_the_private_names_of_pillow_that_are_used_exist():
    pillow = Pillow.open(io.BytesIO(photograph()))
    icon_file = decoder._READERS[Format.ICO](io.BytesIO(picture(1, Format.ICO, 8, 8)))

    assert list(inspect.signature(PIL.Image._getdecoder).parameters)[:4] == ["mode", "decoder_name", "args", "extra"]
    assert len(pillow.tile[0]) == 4
    assert [hasattr(pillow, name) for name in ("decoderconfig", "load_prepare", "draft")] == [True] * 3
    assert [hasattr(icon_file.ico, name) for name in ("frame", "entry")] == [True] * 2


def test_pillow_is_bounded_to_the_versions_that_have_these_names():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    [bounds] = [each for each in project["project"]["dependencies"] if each.startswith("pillow")]

    assert bounds == f"pillow>=13,<{int(PIL.__version__.split('.')[0]) + 1}"
