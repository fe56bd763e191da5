import io
import random
import re
import struct
import sys
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from tests.pictures import ANIMATED, WRITABLE, animation, picture

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.formats import ImageLimits, examine, is_linear
from rehost.model import Format, Image, Reason

LIMITS = ImageLimits(max_pixels=50_000_000, max_frames=1000, max_total_pixels=10**9)


def converted(name, *, mode="RGB", **options):
    """Return a small picture in a less common variant of a format."""
    file = io.BytesIO()
    with Pillow.open(io.BytesIO(picture(3, Format.PNG, 40, 30))) as source:
        source.convert(mode).save(file, name, **options)
    return file.getvalue()


VARIANTS = {
    "progressive JPEG": picture(3, progressive=True),
    "grey JPEG": converted("JPEG", mode="L"),
    "JPEG with restarts": converted("JPEG", restart_marker_blocks=1),
    "PNG with a palette": converted("PNG", mode="P"),
    "lossless WebP": converted("WEBP", lossless=True),
    "WebP with metadata": converted("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "LZW TIFF": converted("TIFF", compression="tiff_lzw"),
    "JPEG in TIFF": converted("TIFF", compression="jpeg"),
    "BigTIFF": converted("TIFF", big_tiff=True),
    "icon of bitmaps": converted("ICO", bitmap_format="bmp", sizes=[(16, 16), (30, 30)]),
    "icon of PNGs": converted("ICO", sizes=[(16, 16), (30, 30)]),
    "BMP of one bit": converted("BMP", mode="1"),
    "bare JPEG 2000 codestream": converted("JPEG2000", no_jp2=True),
    "tiled JPEG 2000": converted("JPEG2000", tile_size=(16, 16)),
}
WHOLE = {kind.name: picture(3, kind, 40, 30) for kind in WRITABLE} | VARIANTS
MOVING = {f"moving {kind.name}": animation(3, kind, 3, 16, 12) for kind in ANIMATED}


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


SQUARE = {256: (4, 16), 257: (4, 16), 258: (4, 8), 259: (4, 1), 262: (4, 1), 277: (4, 1), 278: (4, 16)}
"""The fields of a grey TIFF of 16 x 16 pixels without the offsets of its bytes: tag -> (type, value)."""


def tiff(fields):
    """Return a TIFF with 256 bytes of pixels at byte 8, and one directory."""
    entries = [struct.pack("<HHIi", tag, kind, 1, value) for tag, (kind, value) in sorted(fields.items())]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 256) + bytes(256) + directory


BEFORE_THE_FILE = tiff(SQUARE | {273: (9, -5), 322: (4, 16), 323: (4, 16), 324: (4, 8), 325: (4, 256)})
"""A TIFF with a tile that exists and a strip that cannot exist."""


def header(width, height):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


@pytest.mark.parametrize("kind", WRITABLE)
def test_whole_picture_has_its_dimensions(kind):
    found = examine(picture(1, kind, 60, 44), LIMITS)

    assert found.image == Image(kind, 60, 44, 1)
    assert found.doubt is None


@pytest.mark.parametrize("kind", ANIMATED)
def test_frames_are_counted(kind):
    assert examine(animation(1, kind, frames=4), LIMITS).image.frames == 4


@pytest.mark.parametrize("name", WHOLE | MOVING)
def test_whole_picture_has_no_doubt(name):
    assert examine((WHOLE | MOVING)[name], LIMITS).doubt is None


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_picture_is_refused_at_every_length(name):
    whole = WHOLE[name]

    for size in range(len(whole)):
        with pytest.raises(VisitError) as caught:
            raise examine(whole[:size], LIMITS).doubt or AssertionError(f"whole at {size} of {len(whole)}")
        if size >= 64:
            assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("name", [name for name in MOVING if "TIFF" not in name])
def test_truncated_animation_is_refused_at_every_length(name):
    whole = MOVING[name]

    for size in range(64, len(whole)):
        with pytest.raises(Transient):
            raise examine(whole[:size], LIMITS).doubt or AssertionError(f"whole at {size} of {len(whole)}")


def test_truncated_tiff_with_pages_is_refused():
    # Pillow pads the end of each page; the padding is not part of the picture
    whole = MOVING["moving TIFF"]

    for size in range(len(whole) - 16):
        with pytest.raises(VisitError):
            examine(whole[:size], LIMITS)


@pytest.mark.parametrize("name", WHOLE)
def test_bytes_after_the_end_are_ignored(name):
    whole = WHOLE[name]

    assert examine(whole + b"\xff\xd8\r\n trailing \x00", LIMITS) == examine(whole, LIMITS)


@pytest.mark.parametrize("kind", WRITABLE)
def test_more_pixels_than_allowed_are_refused(kind):
    with pytest.raises(Permanent) as caught:
        examine(picture(1, kind, 60, 44), replace(LIMITS, max_pixels=60 * 44 - 1))

    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", ANIMATED)
def test_more_frames_than_allowed_are_refused(kind):
    with pytest.raises(Permanent) as caught:
        examine(animation(1, kind, frames=4), replace(LIMITS, max_frames=3))

    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", ANIMATED)
def test_more_pixels_in_all_frames_than_allowed_are_refused(kind):
    whole, pixels = animation(1, kind, frames=4), 4 * 32 * 24

    assert examine(whole, replace(LIMITS, max_total_pixels=pixels)).image.frames == 4
    with pytest.raises(Permanent, match=f"{pixels} pixels in all frames") as caught:
        examine(whole, replace(LIMITS, max_total_pixels=pixels - 1))
    assert caught.value.reason is Reason.TOO_LARGE


def webp_chunk(kind, content):
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def test_animation_of_15_kilobytes_that_takes_minutes_to_decode_is_refused():
    side = (4000 - 1).to_bytes(3, "little")
    frame = webp_chunk(b"ANMF", bytes(16) + webp_chunk(b"VP8L", bytes.fromhex("2f00000000888808")))
    content = b"WEBP" + webp_chunk(b"VP8X", b"\2\0\0\0" + side * 2) + webp_chunk(b"ANIM", bytes(6)) + frame * 331
    whole = b"RIFF" + struct.pack("<I", len(content)) + content

    assert len(whole) < 15_000
    with pytest.raises(Permanent, match="in all frames") as caught:
        examine(whole, LIMITS)
    assert caught.value.reason is Reason.TOO_LARGE


def test_each_scan_of_a_jpeg_counts_as_a_frame():
    whole = picture(1, Format.JPEG, 1000, 1000, progressive=True)
    last = whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda"))  # its tables and itself
    scans = whole.count(b"\xff\xda")

    assert examine(whole, replace(LIMITS, max_total_pixels=scans * 10**6)).image.width == 1000
    with pytest.raises(Permanent, match="in all frames") as caught:
        examine(whole[:-2] + 990 * whole[last:-2] + whole[-2:], replace(LIMITS, max_total_pixels=10**9 - 1))
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"<svg/>", Reason.SVG),
        (b"<!DOCTYPE html><p>403", Reason.NOT_AN_IMAGE),
        (b"\xff\x0a\xfa\x7f", Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x1cftypisom\0\0\0\0mp41avc1", Reason.UNSUPPORTED_FORMAT),
        (picture(1).replace(b"\xff\xc0", b"\xff\xc3", 1), Reason.CORRUPT),
        (b"\xff\xd8\xff\xd9", Reason.CORRUPT),
        (png(header(8, 8), chunk(b"IEND", b"")), Reason.CORRUPT),
        (png(chunk(b"IDAT", b"x"), header(8, 8), chunk(b"IEND", b"")), Reason.CORRUPT),
        (png(header(0, 8), chunk(b"IDAT", b"x"), chunk(b"IEND", b"")), Reason.CORRUPT),
        (png(header(60000, 60000), chunk(b"IDAT", b"x"), chunk(b"IEND", b"")), Reason.TOO_LARGE),
        (b"GIF89a\x08\0\x08\0\0\0\0;", Reason.CORRUPT),
        (b"RIFF\x04\0\0\0WEBP", Reason.CORRUPT),
        (b"\0\0\1\0\0\0", Reason.CORRUPT),
        (b"II*\0\0\0\0\0", Reason.CORRUPT),
    ],
)
def test_bytes_that_are_no_whole_picture_are_refused_permanently(data, reason):
    with pytest.raises(Permanent) as caught:
        examine(data, LIMITS)

    assert caught.value.reason is reason


def with_wrong_checksum(whole, kind):
    damaged = bytearray(whole)
    start = damaged.index(kind)
    damaged[start + 4 + int.from_bytes(damaged[start - 4 : start], "big")] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"fcTL", b"fdAT"])
def test_png_chunk_that_makes_pixels_must_match_its_checksum(kind):
    whole = animation(1, Format.PNG, 3) if kind[:1] == b"f" else WHOLE["PNG with a palette"]
    if kind == b"tRNS":
        whole = whole.replace(b"IDAT", b"IDAT", 1)
        at = whole.index(b"IDAT") - 4
        whole = whole[:at] + chunk(b"tRNS", b"\0") + whole[at:]

    with pytest.raises(Permanent, match="checksum"):
        examine(with_wrong_checksum(whole, kind), LIMITS)


def test_png_rows_with_a_wrong_checksum_are_in_doubt():
    doubt = examine(with_wrong_checksum(picture(1, Format.PNG), b"IDAT"), LIMITS).doubt

    assert doubt is not None
    assert doubt.reason is Reason.CORRUPT


@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"pHYs", b"IEND"])
def test_wrong_checksum_of_a_png_chunk_without_pixels_is_noted_as_damage(kind):
    whole = picture(1, Format.PNG)
    if kind != b"IEND":
        whole = whole[:33] + chunk(kind, b"whatever") + whole[33:]

    found = examine(with_wrong_checksum(whole, kind), LIMITS)

    assert found.doubt is None
    assert kind.decode() in found.image.damage


@pytest.mark.parametrize("kept", range(12))
def test_png_that_ends_within_its_end_is_in_doubt(kept):
    whole = picture(1, Format.PNG)

    doubt = examine(whole[: len(whole) - 12 + kept], LIMITS).doubt

    assert doubt is not None
    assert doubt.reason is Reason.TRUNCATED


def test_png_that_browsers_do_not_show_is_refused():
    whole = picture(1, Format.PNG)
    at = whole.index(b"IDAT") - 4
    unknown = whole[:at] + chunk(b"ABCD", b"x") + whole[at:]
    half = len(whole[at + 8 : -16]) // 2
    apart = whole[:at] + chunk(b"IDAT", whole[at + 8 : at + 8 + half]) + chunk(b"tEXt", b"between")
    apart += chunk(b"IDAT", whole[at + 8 + half : -16]) + chunk(b"IEND", b"")

    for data in (unknown, apart):
        with pytest.raises(Permanent) as caught:
            examine(data, LIMITS)
        assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize("behind", [bytes(4096), b"\n<!-- served by a cache -->\n" * 4, b"\xff" * 64])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_jpeg_without_its_end_is_in_doubt_if_something_follows_its_scan(options, behind):
    whole = converted("JPEG", **options)

    assert examine(whole[:-2] + behind, LIMITS).doubt.reason is Reason.TRUNCATED


@pytest.mark.parametrize("tail", [b"", b"\xff", b"\r\n"])
def test_sequential_jpeg_that_ends_with_its_scan_is_refused(tail):
    with pytest.raises(Transient):
        examine(converted("JPEG")[:-2] + tail, LIMITS)


def test_jpeg_with_two_frames_is_refused():
    whole = converted("JPEG")
    frame = whole.index(b"\xff\xc0")
    header = whole[frame : frame + 2 + int.from_bytes(whole[frame + 2 : frame + 4], "big")]

    with pytest.raises(Permanent, match="two frames"):
        examine(whole[:-2] + header + whole[-2:], LIMITS)


def test_progressive_jpeg_without_its_first_scan_is_refused():
    whole = converted("JPEG", progressive=True)
    first = whole.index(b"\xff\xda")
    after = next(each.start() for each in re.finditer(rb"\xff[^\x00\xd0-\xd7\xff]", whole[first + 14 :])) + first + 14

    with pytest.raises(Permanent, match="scan of each component"):
        examine(whole[:first] + whole[after:], LIMITS)


def test_jpeg_that_lacks_restart_intervals_in_its_middle_is_refused():
    whole = converted("JPEG", restart_marker_blocks=1)
    start, end = whole.index(b"\xff\xd1"), whole.index(b"\xff\xd4")

    with pytest.raises(Permanent, match="restart"):
        examine(whole[:start] + whole[end:], LIMITS)


@pytest.mark.parametrize("kind", [b"\xfe", b"\xff"])
def test_gif_that_ends_within_a_remark_behind_its_frame_is_in_doubt(kind):
    whole = picture(1, Format.GIF)

    assert examine(whole[:-1] + b"!" + kind + b"\x0bNETSCAPE", LIMITS).doubt.reason is Reason.TRUNCATED


def test_end_marker_of_a_thumbnail_does_not_end_a_jpeg():
    whole = picture(1)
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(whole)) + whole
    nested = whole[:2] + thumbnail + whole[2:]

    assert examine(nested, LIMITS).image == examine(whole, LIMITS).image
    with pytest.raises(Transient):
        examine(nested[: len(thumbnail) + 20], LIMITS)


def multi_picture():
    file = io.BytesIO()
    with Pillow.open(io.BytesIO(picture(3))) as first, Pillow.open(io.BytesIO(picture(4))) as second:
        first.save(file, "MPO", save_all=True, append_images=[second])
    return file.getvalue()


def test_truncated_further_picture_is_refused_and_a_removed_one_is_not_needed():
    whole = multi_picture()
    second = whole.rindex(b"\xff\xd8\xff")

    assert examine(whole, LIMITS).image == Image(Format.JPEG, 64, 48, 1)
    assert examine(whole[:second], LIMITS).image == Image(Format.JPEG, 64, 48, 1)
    with pytest.raises(Transient):
        examine(whole[: second + 100], LIMITS)


def test_outdated_list_of_further_pictures_is_ignored():
    whole = multi_picture()
    second = whole.rindex(b"\xff\xd8\xff")
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 64) + b"." * 64
    longer = (
        whole[: second - 2] + comment + whole[second - 2 : second]
    )  # the offsets in the list are now 66 bytes too small

    assert examine(longer, LIMITS).image == Image(Format.JPEG, 64, 48, 1)


def test_gif_without_its_trailer_has_a_doubt():
    found = examine(animation(1, frames=3)[:-1], LIMITS)

    assert found.image.frames == 3
    assert found.doubt is not None
    assert found.doubt.reason is Reason.TRUNCATED


def test_tiff_that_points_at_its_own_directory_has_one_page():
    whole = bytearray(picture(1, Format.TIFF))
    directory = int.from_bytes(whole[4:8], "little")
    count = int.from_bytes(whole[directory : directory + 2], "little")
    struct.pack_into("<I", whole, directory + 2 + 12 * count, directory)

    assert examine(bytes(whole), LIMITS).image.frames == 1


@pytest.mark.parametrize("kind", [3, 4, 8, 9])
def test_offset_in_a_tiff_can_be_any_integer_type(kind):
    assert examine(tiff(SQUARE | {273: (kind, 8), 279: (kind, 256)}), LIMITS).image == Image(Format.TIFF, 16, 16, 1)
    with pytest.raises(Transient):
        examine(tiff(SQUARE | {273: (kind, 8), 279: (kind, 400)}), LIMITS)


@pytest.mark.parametrize("places", [{273: (9, -5)}, {273: (4, 8), 279: (9, -5)}, {273: (11, 8)}, {273: (2, 8)}])
def test_impossible_offset_in_a_tiff_is_refused_although_there_is_a_valid_one(places):
    with pytest.raises(Permanent, match="is nowhere"):
        examine(tiff(SQUARE | {324: (4, 8), 325: (4, 256)} | places), LIMITS)


@given(data=st.binary(max_size=400), kind=st.sampled_from(WRITABLE), kept=st.integers(4, 60))
def test_random_bytes_after_a_real_beginning_raise_only_visit_errors(data, kind, kept):
    with suppress(VisitError):
        examine(picture(3, kind, 40, 30)[:kept] + data, LIMITS)


@given(name=st.sampled_from(sorted(WHOLE | MOVING)), seed=st.integers(0, 2**32), changes=st.integers(1, 12))
def test_damaged_pictures_raise_only_visit_errors(name, seed, changes):
    dice = random.Random(seed)
    damaged = bytearray((WHOLE | MOVING)[name])
    for _ in range(changes):
        at = dice.randrange(len(damaged))
        damaged[at : at + dice.choice([0, 1, 1, 4])] = dice.randbytes(dice.choice([0, 1, 1, 4]))

    try:
        found = examine(bytes(damaged), LIMITS)
    except VisitError:
        return
    assert 0 < found.image.width * found.image.height <= LIMITS.max_pixels


# Formats that are walked in the main process take time and memory in proportion to their bytes.

START = b"\xff\xd8"


def many_further_pictures(entries):
    """Return a JPEG with a list of so many further pictures, each covering all bytes of the list."""
    directory = struct.pack("<H", entries) + struct.pack("<HHII", 0xB002, 7, 12 * entries, 10) * entries
    index = b"MPF\0II*\0" + struct.pack("<I", 8) + directory
    return START + b"\xff\xe2" + struct.pack(">H", 2 + len(index)) + index + picture(1)[2:]


def riff(body):
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


SCREEN = b"GIF89a\x08\0\x08\0\0\0\0"
SLOW_FILES = {
    "a list of further pictures": many_further_pictures,
    "fill bytes": lambda n: START + b"\xff" * n + picture(1)[2:],
    "no markers": lambda n: START + b"\xff\0" * n + picture(1)[2:],
    "restarts": lambda n: START + b"\xff\xd0" * n + picture(1)[2:],
    "empty segments": lambda n: START + b"\xff\xe1\0\2" * n + picture(1)[2:],
    "empty scans": lambda n: START + b"\xff\xda\0\2" * n + picture(1)[2:],
    "restarts in a scan": lambda n: picture(1)[:-2] + b"\xff\xd0" * n + b"\xff\xd9",
    "a scan without end": lambda n: picture(1)[:-2] + b"\xff\0" * n,
    "empty chunks of a PNG": lambda n: picture(1, Format.PNG)[:33] + chunk(b"teXt", b"") * n + png()[8:],
    "sub-blocks of a GIF": lambda n: SCREEN + b"\x21\xfe" + b"\1\1" * n + b"\0;",
    "extensions of a GIF": lambda n: SCREEN + b"\x21\xfe\0" * n + b";",
    "empty chunks of a WebP": lambda n: riff(b"junk\0\0\0\0" * n),
    "a BMP": lambda n: picture(1, Format.BMP) + bytes(n),
    "no picture": lambda n: b" " * n + b"<" * n,
}


def steps(data):
    """Return how many lines of code run to walk these bytes."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(VisitError):
            examine(data, LIMITS)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("made", SLOW_FILES.values(), ids=SLOW_FILES)
def test_twice_the_bytes_take_at_most_twice_the_steps(made):
    some, twice = made(500), made(1000)
    assert is_linear(some)

    assert steps(twice) <= 2 * steps(some) + 100


@pytest.mark.parametrize("made", SLOW_FILES.values(), ids=SLOW_FILES)
def test_walk_takes_memory_for_at_most_one_list_of_pictures(made):
    data = made(5000)
    steps(data)  # so that imports and compilation are not measured

    tracemalloc.start()
    try:
        with suppress(VisitError):
            examine(data, LIMITS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 64 * 1024 + 8 * len(data)


def test_formats_with_offsets_are_not_linear():
    linear = {kind for kind in WRITABLE if is_linear(picture(1, kind))}

    assert linear == {Format.JPEG, Format.PNG, Format.GIF, Format.WEBP, Format.BMP}


def with_screen(whole, width, height):
    return whole[:6] + struct.pack("<HH", width, height) + whole[10:]


def test_gif_without_a_screen_has_the_size_of_its_first_frame():
    found = examine(with_screen(picture(1, Format.GIF, 40, 30), 0, 0), LIMITS).image

    assert (found.width, found.height) == (40, 30)


def test_smallest_gif_is_whole():
    spacer = b"GIF89a" + bytes((1, 0, 1, 0, 0, 0xFF, 0)) + b"," + bytes((0, 0, 0, 0, 1, 0, 1, 0, 0)) + b"\x02\0;"

    assert len(spacer) == 26
    assert examine(spacer, LIMITS).is_proven


def icon(*entries):
    """Return an ICO of these pictures: side, bytes, and how many bytes behind the file it lies."""
    at, directory = 6 + 16 * len(entries), b""
    for side, content, beyond in entries:
        directory += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(content), at + beyond)
        at += len(content)
    return struct.pack("<HHH", 0, 1, len(entries)) + directory + b"".join(content for _, content, _ in entries)


def test_icon_is_whole_if_only_a_small_size_is_not():
    small, large = picture(1, Format.PNG, 16, 16), picture(1, Format.PNG, 32, 32)

    found = examine(icon((16, small, 10**6), (32, large, 0)), LIMITS).image
    assert (found.width, found.height) == (32, 32)
    assert "ICO" in found.damage
    with pytest.raises(Transient):
        examine(icon((16, small, 0), (32, large, 10**6)), LIMITS)


def bitmap(runs, width=4, height=2):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 1, 0) + bytes(4)
    return b"BM" + struct.pack("<IHHI", 58 + len(runs), 0, 0, 58) + header + runs


@pytest.mark.parametrize(
    ("runs", "is_whole"),
    [
        (b"\x04\0\0\0\x04\0\0\x01", True),
        (b"\x04\0\0\0\x04\0", True),  # the last row is full
        (b"\x04\0\0\0\0\x04abcd\0\x01", True),  # four pixels as they are
        (b"\x02\0\0\x02\x02\x01\0\x01", True),  # goes on in the next row
        (b"\x05\0\0\0\x04\0\0\x01", False),
        (b"\x08\0\0\x01", False),
        (b"\x04\0\0\x01", False),  # one row of two
        (b"\x04\0\0\0\x02\0", False),
    ],
)
def test_runs_of_a_bmp_fill_its_rows(runs, is_whole):
    try:
        examine(bitmap(runs), LIMITS)
    except VisitError:
        assert not is_whole
    else:
        assert is_whole
