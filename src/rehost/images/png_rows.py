"""PNG, read without a decoder of pictures: every row of a still one is inflated and looked at (PNG, third edition).

All that can be wrong with a PNG's picture shows here: its deflate stream, that stream's checksum, too few rows, a
filter that does not exist. What is left out, adding up neighbours and looking up colours, cannot fail. It takes a third
of the time that Pillow takes, and no memory for the picture.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from rehost.errors import Permanent, Transient
from rehost.images.formats.ground import Data
from rehost.model import Reason

_HEADER_AT = 16  # behind the signature and the head of the first chunk, which is IHDR
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (section 11.2.1)
_HIGHEST_FILTER = 4  # section 9.2
_INPUT_BYTES = 64 * 1024  # what is not consumed of it is copied
_OUTPUT_BYTES = 1024 * 1024

# Adam7: first column and row of each pass, and the steps between them (section 8.1)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_AT_ONCE = ((0, 0, 1, 1),)


@dataclass(frozen=True, slots=True)
class _Pass:
    """Rows of one length, each with its filter in front (section 7.2)."""

    rows: int
    row_bytes: int  # the filter included


def is_still(data: Data) -> bool:
    """Return whether a PNG is no animation."""
    return all(kind != b"acTL" for kind, _, _ in _chunks(data))


def read(data: Data) -> None:
    """Read every row of the still PNG whose structure was walked.

    Raises:
        VisitError: Permanent(CORRUPT), or Transient(TRUNCATED) where rows are missing.
    """
    pieces = _inflated(data)
    left = b""
    for each in _passes(data):
        left = _read_pass(each, left, pieces)
    next(pieces, None)  # the stream's end has its checksum; more than the rows is nobody's business


def _passes(data: Data) -> Iterator[_Pass]:
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[_HEADER_AT : _HEADER_AT + 13])
    for first_column, first_row, columns, rows in _ADAM7 if interlaced else _AT_ONCE:
        across, down = -((first_column - width) // columns), -((first_row - height) // rows)
        if across > 0 and down > 0:
            yield _Pass(down, 1 + -(-across * depth * _CHANNELS[colour] // 8))


def _read_pass(rows: _Pass, left: bytes, pieces: Iterator[bytes]) -> bytes:
    """Look at the filter of every row of a pass; return what was inflated beyond it."""
    at, end = 0, rows.rows * rows.row_bytes
    piece = left
    while True:
        filters = piece[-at % rows.row_bytes : end - at : rows.row_bytes]
        if filters and max(filters) > _HIGHEST_FILTER:
            raise Permanent(Reason.CORRUPT, "a PNG row with a filter that does not exist")
        if at + len(piece) >= end:
            return piece[end - at :]
        at += len(piece)
        following = next(pieces, None)
        if following is None:
            raise Transient(Reason.TRUNCATED, f"a PNG with {at} bytes of rows where {end} belong")
        piece = following


def _inflated(data: Data) -> Iterator[bytes]:
    """Yield the rows as they were before they were compressed, in pieces."""
    stream = zlib.decompressobj()
    try:
        with memoryview(data) as view:
            for at, end in _slices(data):
                with view[at:end] as given:
                    yield stream.decompress(given, _OUTPUT_BYTES)
                while stream.unconsumed_tail:
                    yield stream.decompress(stream.unconsumed_tail, _OUTPUT_BYTES)
    except zlib.error as error:
        raise Permanent(Reason.CORRUPT, f"PNG: {error}") from error


def _slices(data: Data) -> Iterator[tuple[int, int]]:
    """Yield where the picture's data lie, slice by slice."""
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            for at in range(start, end, _INPUT_BYTES):
                yield at, min(at + _INPUT_BYTES, end)


def _chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks before IEND: what each is, and where its contents lie."""
    at = 8
    while (kind := data[at + 4 : at + 8]) != b"IEND":
        start = at + 8
        at = start + int.from_bytes(data[at : at + 4], "big") + 4
        yield kind, start, at - 4
