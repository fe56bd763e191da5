"""PNG and APNG (PNG, third edition): chunks with their checksums to IEND, and every row of a still picture.

`read_rows` replaces a decoder for still pictures. Everything that can be wrong with the pixels of a PNG shows when its
rows are inflated: the deflate stream, the checksum of that stream, missing rows, unknown filters. The rest of decoding,
adding neighbours and looking up colours, cannot fail. This takes a fifth of Pillow's time.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec

from rehost.errors import Permanent, Transient, VisitError
from rehost.images.formats.base import Data, Dimensions, ImageLimits, corrupt, truncated
from rehost.model import Reason

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13
_HEADER_AT = len(SIGNATURE) + 8  # after the length and type of the first chunk, which is IHDR
_INDEXED = 3  # the colour type that needs a palette
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})  # section 11.2: a decoder must know what these say
_OF_PIXELS = _CRITICAL | {b"tRNS", b"acTL", b"fcTL", b"fdAT"}  # ancillary by name, but they make pixels or frames
# colour type -> bit depths, and samples per pixel (section 11.2.1)
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_HIGHEST_FILTER = 4  # section 9.2
_INPUT_BYTES = 64 * 1024  # zlib copies what it does not consume of a slice
_OUTPUT_BYTES = 1024 * 1024
_AT_ONCE_BYTES = 32 * 1024 * 1024
_LIBDEFLATE = import_module("deflate") if find_spec("deflate") else None  # an environment may be older than it
_crc32 = _LIBDEFLATE.crc32 if _LIBDEFLATE else zlib.crc32  # a tenth of zlib's time
# Adam7: first column and row of each pass, and the steps between them (section 8.1)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def walk(data: Data, limits: ImageLimits) -> Dimensions:
    """Return the dimensions of the PNG at byte 0; what follows IEND is ignored.

    A wrong checksum of a chunk that has no pixels is damage, which says nothing about the picture. The result has a
    doubt if the end of the file is missing, or the checksum of compressed rows is wrong: the rows may be whole all the
    same, and have a checksum of their own.
    """
    chunks = _Chunks(data)
    found = iter(chunks)
    width, height, needs_palette = _read_header(data, *next(found), limits)
    has_palette = has_data = False
    announced_frames = frame_controls = 0
    former = b""
    for kind, start, end in found:
        if kind == b"PLTE":
            has_palette = True
        elif kind == b"IDAT":
            if has_data and former != kind:
                raise corrupt("a PNG with another chunk between its IDATs, which browsers do not show")
            has_data = has_data or end > start
        elif kind == b"acTL" and not has_data:
            announced_frames = int.from_bytes(data[start : start + 4], "big")
            limits.check_frames(announced_frames)
        elif kind == b"fcTL":
            frame_controls += 1
        former = kind
    if announced_frames and chunks.doubt is not None and not chunks.has_all_frames:
        raise chunks.doubt
    if not has_data or (needs_palette and not has_palette):
        raise chunks.doubt or corrupt("a PNG without its picture or its palette")
    frames = max(1, min(announced_frames, frame_controls))
    return Dimensions(width, height, frames, chunks.doubt, damage=chunks.damage)


class _Chunks:
    """The chunks to IEND, each after its checksum was checked: type, begin and end of the content.

    Attributes:
        damage: what is wrong in a chunk without pixels.
        doubt: what is wrong behind the rows, or with the checksum of compressed rows.
        has_all_frames: whether the doubt, if there is one, is about IEND alone.
    """

    def __init__(self, data: Data) -> None:
        self.damage: str | None = None
        self.doubt: VisitError | None = None
        self.has_all_frames = True
        self._data = data

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        data, at, kind, has_data = self._data, len(SIGNATURE), b"", False
        while kind != b"IEND" and self._can_go_on(has_data=has_data, at=at):
            length, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
            end = start + length
            at = end + 4
            has_data = has_data or kind == b"IDAT"
            self._check(kind, start, end)
            yield kind, start, min(end, len(data))

    def _can_go_on(self, at: int, *, has_data: bool) -> bool:
        """Return whether another chunk begins here; without rows so far, raise an error if none does."""
        length, kind = int.from_bytes(self._data[at : at + 4], "big"), self._data[at + 4 : at + 8]
        if at + 8 > len(self._data):
            error: VisitError = truncated(self._data, "the chunks of a PNG")
        elif not kind.isalpha() or length >= 2**31:
            error = corrupt(f"a PNG chunk with the name {kind!r} and {length} bytes")
        elif kind[:1].isupper() and kind not in _CRITICAL:
            error = corrupt(f"a PNG with a critical chunk {kind.decode()}, which browsers do not know")
            has_data = has_data and not self._is_intact(at + 4, at + 8 + length)
        else:
            return True
        if not has_data:
            raise error
        self.doubt = self.doubt or error
        return False

    def _check(self, kind: bytes, start: int, end: int) -> None:
        """Check the end and the checksum of a chunk."""
        data, name = self._data, kind.decode()
        if end + 4 > len(data):
            error: VisitError = truncated(data, f"the {name} of a PNG")
        elif not self._is_intact(start - 4, end):
            error = corrupt(f"the {name} of a PNG, which does not match its checksum")
        else:
            return
        if kind in _OF_PIXELS - {b"IDAT", b"IEND"}:
            raise error
        if kind == b"IDAT" or end + 4 > len(data):
            self.has_all_frames = self.has_all_frames and kind != b"IDAT"
            self.doubt = self.doubt or error
        else:
            self.damage = self.damage or error.evidence

    def _is_intact(self, start: int, end: int) -> bool:
        """Return whether the checksum after these bytes is theirs."""
        with memoryview(self._data) as view, view[start:end] as checked:
            return _crc32(checked) == int.from_bytes(self._data[end : end + 4], "big") and end + 4 <= len(view)


def _read_header(data: Data, kind: bytes, start: int, end: int, limits: ImageLimits) -> tuple[int, int, bool]:
    """Return width and height by the first chunk, and whether the picture needs a palette (section 11.2.1)."""
    if kind != b"IHDR" or end - start != _HEADER_BYTES:
        raise corrupt("a PNG that does not begin with a header")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", data[start:end])
    limits.check_area(width, height)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise corrupt("a PNG header with values that do not exist")
    return width, height, colour == _INDEXED


def is_still(data: Data) -> bool:
    """Return whether a PNG whose structure was walked is no animation."""
    return all(kind != b"acTL" for kind, _, _ in _chunks(data))


def read_rows(data: Data, *, to_end: bool = False) -> None:
    """Inflate every row of a still PNG whose structure was walked.

    Args:
        data: the file.
        to_end: require the stream's own checksum too, where those of the chunks are wrong or missing.

    Raises:
        VisitError: Permanent(CORRUPT), or Transient(TRUNCATED) if rows are missing.
    """
    if _has_every_row(data):
        return
    with closing(
        _inflate(data, to_end=to_end)
    ) as pieces:  # on an error as well: it holds views, with which a file cannot be unmapped
        rest = b""
        for rows, row_bytes in passes(data):
            rest = _read_pass(rows, row_bytes, rest, pieces)
        if not to_end:
            next(pieces, None)  # the end of the stream has its checksum; more bytes than the rows need are no error
            return
        for _ in pieces:
            pass


def _has_every_row(data: Data) -> bool:
    """Return whether libdeflate finds all rows and the checksum of their stream, in half of zlib's time.

    It inflates at once. It is not asked about large pictures; what it does not accept, zlib judges.
    """
    layout = list(passes(data))
    size = sum(rows * row_bytes for rows, row_bytes in layout)
    if size > _AT_ONCE_BYTES or _LIBDEFLATE is None:
        return False
    slices = [data[start:end] for kind, start, end in _chunks(data) if kind == b"IDAT"]
    try:
        raw: bytearray = _LIBDEFLATE.zlib_decompress(slices[0] if len(slices) == 1 else b"".join(slices), size)
    except _LIBDEFLATE.DeflateError:
        return False
    at = 0
    for rows, row_bytes in layout if len(raw) == size else ():
        following = at + rows * row_bytes
        if max(raw[at:following:row_bytes]) > _HIGHEST_FILTER:
            return False
        at = following
    return at == size


def passes(data: Data) -> Iterator[tuple[int, int]]:
    """Yield the number of rows of each pass, and the bytes of a row with the filter type before it (section 7.2)."""
    header = data[_HEADER_AT : _HEADER_AT + _HEADER_BYTES]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    for first_column, first_row, column_step, row_step in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((first_column - width) // column_step), -((first_row - height) // row_step)
        if columns > 0 and rows > 0:
            yield rows, 1 + -(-columns * depth * _SAMPLES[colour] // 8)


def _read_pass(rows: int, row_bytes: int, piece: bytes, pieces: Iterator[bytes]) -> bytes:
    """Check the filter type of every row of a pass; return what was inflated after it."""
    at, end = 0, rows * row_bytes
    while True:
        filters = piece[-at % row_bytes : end - at : row_bytes]
        if filters and max(filters) > _HIGHEST_FILTER:
            raise Permanent(Reason.CORRUPT, "a PNG row with an unknown filter")
        if at + len(piece) >= end:
            return piece[end - at :]
        at += len(piece)
        following = next(pieces, None)
        if following is None:
            raise Transient(Reason.TRUNCATED, f"a PNG with {at} bytes of rows instead of {end}")
        piece = following


def _inflate(data: Data, *, to_end: bool) -> Generator[bytes, None, None]:
    """Yield the inflated rows in pieces of bounded size, to the end of the stream."""
    stream = zlib.decompressobj()
    try:
        with memoryview(data) as view:
            for at, end in _data_slices(data):
                with view[at:end] as compressed:
                    yield stream.decompress(compressed, _OUTPUT_BYTES)
                while stream.unconsumed_tail:
                    yield stream.decompress(stream.unconsumed_tail, _OUTPUT_BYTES)
                if stream.eof:
                    return
    except zlib.error as error:
        raise Permanent(Reason.CORRUPT, f"PNG: {error}") from error
    if to_end:
        raise Transient(Reason.TRUNCATED, "a PNG without the checksum of its rows")


def essential(data: Data) -> bytes:
    """Return a PNG whose structure was walked with nothing but its pixels and frames, numbered through, for a decoder.

    Browsers do not require the numbers of fcTL and fdAT to be in sequence.
    """
    parts, number = [SIGNATURE], 0
    for kind, start, end in (*_chunks(data), (b"IEND", 0, 0)):
        if kind in _OF_PIXELS:
            content = data[start:end]
            if kind in {b"fcTL", b"fdAT"}:
                content, number = struct.pack(">I", number) + content[4:], number + 1
            parts += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(kind + content))]
    return b"".join(parts)


def _data_slices(data: Data) -> Iterator[tuple[int, int]]:
    """Yield where the compressed rows are, slice by slice: begin and end."""
    for kind, start, end in _chunks(data):
        if kind == b"IDAT":
            for at in range(start, end, _INPUT_BYTES):
                yield at, min(at + _INPUT_BYTES, end)


def _chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks before IEND of a PNG that was walked: type, begin and end of the content."""
    at = len(SIGNATURE)
    while at + 8 <= len(data) and (kind := data[at + 4 : at + 8]) != b"IEND":
        start = at + 8
        end = start + int.from_bytes(data[at : at + 4], "big")
        yield kind, start, min(end, len(data))
        at = end + 4
