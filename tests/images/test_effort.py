"""Walking a format that is walked in the main process takes time and memory in proportion to its bytes."""

import struct
import sys
import tracemalloc
from contextlib import suppress

import pytest
from tests.images.test_formats import LIMITS, chunk, png
from tests.pictures import WRITABLE, picture

from rehost.errors import VisitError
from rehost.images.formats import examine, is_linear
from rehost.model import Format

START = b"\xff\xd8"


def multi_picture(entries):
    """Return a JPEG with a list of so many further pictures, each covering all bytes of the list."""
    directory = struct.pack("<H", entries) + struct.pack("<HHII", 0xB002, 7, 12 * entries, 10) * entries
    index = b"MPF\0II*\0" + struct.pack("<I", 8) + directory
    return START + b"\xff\xe2" + struct.pack(">H", 2 + len(index)) + index + picture(1)[2:]


def riff(body):
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


SCREEN = b"GIF89a\x08\0\x08\0\0\0\0"
SLOW_FILES = {
    "a list of further pictures": multi_picture,
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
