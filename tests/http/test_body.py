import gzip
import random
import sys
import zlib
from contextlib import suppress

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pictures import picture

from rehost.http.body import PIECE_BYTES, check_transfer_encoding, decoder_for
from rehost.http.errors import HttpError, IncompleteBody, ProtocolError
from rehost.model import Format

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def undo(name, data, step=1 << 20):
    decoder = decoder_for(name)
    pieces = [piece for start in range(0, len(data), step) for piece in decoder.feed(data[start : start + step])]
    decoder.finish()
    return b"".join(pieces)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    "name",
    ["", "identity", "Identity, none", " , ", "aws-chunked", "UTF-8", "binary", "default", "plain", "image/jpeg",
     "None", "7bit", "compress", "x-deflate", "gzip2", "ünknown"],
)  # fmt: skip
def test_body_without_a_coding_needs_no_decoder(name):
    assert decoder_for(name) is None


def test_more_codings_than_anybody_needs_are_refused():
    assert undo("gzip, gzip, gzip", gzip.compress(gzip.compress(gzip.compress(b"body")))) == b"body"
    with pytest.raises(ProtocolError, match="4 content codings"):
        decoder_for("gzip, gzip, br, deflate")


@pytest.mark.parametrize(
    "field", ["", "identity", "chunked", "Chunked", "identity, chunked", "chunked, chunked", "binary"]
)
def test_transfer_coding_that_leaves_the_bytes_as_they_are_is_accepted(field):
    check_transfer_encoding(field)


@pytest.mark.parametrize("field", ["gzip", "gzip, chunked", "chunked, gzip", "br"])
def test_transfer_coding_that_compresses_is_refused(field):
    with pytest.raises(ProtocolError, match="transfer encoding"):
        check_transfer_encoding(field)


@given(st.binary(), st.integers(1, 40))
def test_coding_is_undone_in_pieces_of_any_size(data, step):
    assert undo("GZIP", gzip.compress(data), step) == data
    assert undo("x-gzip", gzip.compress(data), step) == data
    assert undo("deflate", zlib.compress(data), step) == data
    assert undo("deflate", raw_deflate(data), step) == data
    assert undo("br", brotli.compress(data, quality=1), step) == data
    assert undo("zstd", zstd.compress(data), step) == data
    assert undo("gzip, utf-8, br", brotli.compress(gzip.compress(data), quality=1), step) == data


PACKS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": zstd.compress,
}
CHECKSUM = {"gzip": 8, "deflate": 4}  # bytes behind the coded body, which the proof of the picture replaces


@pytest.mark.parametrize(("name", "pack"), PACKS.items())
def test_coded_body_that_is_cut_anywhere_is_incomplete(name, pack):
    packed = pack(b"a picture, or so" * 50)

    for end in range(1, len(packed) - CHECKSUM.get(name, 0)):
        with pytest.raises(IncompleteBody):
            undo(name, packed[:end])


@pytest.mark.parametrize("kind", [Format.JPEG, Format.PNG, Format.GIF, Format.WEBP, Format.BMP, Format.AVIF])
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_plain_picture_under_a_coding_that_was_not_asked_for_is_read_as_it_is(kind, step):
    plain = picture(5, kind)

    assert undo("br", plain, step) == plain
    assert undo("zstd", plain, step) == plain
    with pytest.raises(ProtocolError, match="not gzip"):
        undo("gzip", plain, step)


@pytest.mark.parametrize("name", ["br", "zstd"])
def test_coded_body_with_a_fault_is_not_taken_for_a_plain_one(name):
    data = random.Random(1).randbytes(PIECE_BYTES)
    packed = bytearray(PACKS[name](data * 4))
    packed[len(packed) - 20 : -3] = b"\xff" * 17

    with pytest.raises((ProtocolError, IncompleteBody)):
        undo(name, bytes(packed))


@pytest.mark.parametrize("name", CHECKSUM)
@pytest.mark.parametrize("size", [0, 1, 3])
def test_checksum_behind_a_coded_body_may_be_wrong_or_missing(name, size):
    packed = PACKS[name](b"picture")
    ends = len(packed) - CHECKSUM[name]

    assert undo(name, packed[:ends] + bytes(size)) == b"picture"
    assert undo(name, packed[:ends] + b"wrong" * 2) == b"picture"


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("more", [b"x", gzip.compress(b"second"), b"\0"], ids=["a byte", "a member", "a zero"])
def test_bytes_after_the_end_of_the_coding_are_ignored(name, more):
    packed = PACKS[name](b"first")

    assert undo(name, packed + more) == b"first"
    assert undo(name, packed + more, step=len(packed)) == b"first"


def test_header_of_gzip_may_have_all_its_fields():
    body = gzip.compress(b"body", mtime=0)[10:]
    header = b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x04\0\0xtr" + b"name\0" + b"comment\0" + b"cc"

    assert undo("gzip", header + body) == b"body"
    assert undo("gzip", header + body, step=1) == b"body"


def test_whole_pieces_reach_the_end():  # the last piece is as long as pieces may be, and nothing follows
    data = random.Random(1).randbytes(PIECE_BYTES * 2)

    for name, pack in PACKS.items():
        packed = pack(data)
        assert undo(name, packed[: len(packed) - CHECKSUM.get(name, 0)]) == data


@pytest.mark.parametrize("name", PACKS)
def test_decompression_bomb_is_decoded_in_bounded_pieces(name):
    bomb = PACKS[name](bytes(50_000_000))

    sizes = [len(piece) for piece in decoder_for(name).feed(bomb)]

    assert max(sizes) <= PIECE_BYTES * 2
    assert sum(sizes) == 50_000_000


def test_memory_that_a_br_stream_may_ask_for_is_bounded():
    data = b"a picture, or so" * 100

    assert undo("br", brotli.compress(data, lgwin=23)) == data
    with pytest.raises(ProtocolError, match="window"):
        undo("br", brotli.compress(data, lgwin=24))


@pytest.mark.parametrize("names", ["br, br", "zstd, zstd", "zstd, gzip, br"])
def test_codings_that_take_much_memory_each_are_refused_together(names):
    with pytest.raises(ProtocolError, match="content codings"):
        decoder_for(names)


def test_memory_that_a_zstd_frame_may_ask_for_is_bounded():
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    packed = packer.compress(random.Random(1).randbytes(1000)) + packer.flush()

    with pytest.raises(ProtocolError, match=r"not zstd: .*memory"):
        undo("zstd", packed)


@pytest.mark.parametrize("name", ["gzip, gzip", "zstd, gzip", "br, gzip", "gzip"])
def test_what_decodes_to_nothing_is_refused_at_each_step(name):
    packer = zlib.compressobj(wbits=31)
    nothing = packer.compress(b"") + b"".join(packer.flush(zlib.Z_FULL_FLUSH) for _ in range(200_000))
    packed = nothing if name == "gzip" else gzip.compress(nothing)
    if name in {"zstd, gzip", "br, gzip"}:
        empty_blocks = b"\x0c" + b"\x06" * 200_000  # RFC 7932, section 9.2: metadata of no bytes
        packed = gzip.compress(zstd.compress(b"") * 200_000 if name == "zstd, gzip" else empty_blocks)

    with suppress(IncompleteBody), pytest.raises(ProtocolError):
        undo(name, packed)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_bytes_after_the_end_are_not_read_for_ever(name):
    with pytest.raises(ProtocolError):
        undo(name, PACKS[name](b"first") + bytes(100 * 1024))


@given(st.binary(min_size=1), st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, deflate"]))
def test_any_bytes_decode_or_raise_an_http_error(data, name):
    with suppress(HttpError):
        assert isinstance(undo(name, data), bytes)
