import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.http.body import PIECE_BYTES, check_transfer_encoding, decoder_for
from rehost.http.errors import HttpError, IncompleteBody, ProtocolError


def undo(name, data, step=1 << 20):
    decoder = decoder_for(name)
    pieces = [piece for start in range(0, len(data), step) for piece in decoder.feed(data[start : start + step])]
    decoder.finish()
    return b"".join(pieces)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("name", ["", "identity", "Identity, none", " , "])
def test_body_without_a_coding_needs_no_decoder(name):
    assert decoder_for(name) is None


@pytest.mark.parametrize("name", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "ünknown"])
def test_unsupported_content_coding_is_refused(name):
    with pytest.raises(ProtocolError, match="content encoding"):
        decoder_for(name)


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


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_coded_body_that_is_cut_anywhere_is_incomplete(name, pack):
    packed = pack(b"a picture, or so" * 50)

    for end in range(1, len(packed)):
        with pytest.raises(IncompleteBody):
            undo(name, packed[:end])


@pytest.mark.parametrize("more", [b"x", gzip.compress(b"second"), b"\0"], ids=["a byte", "a member", "a zero"])
def test_bytes_after_the_end_of_the_coding_are_refused(more):
    with pytest.raises(ProtocolError):
        undo("gzip", gzip.compress(b"first") + more)
    with pytest.raises(ProtocolError):
        undo("gzip", gzip.compress(b"first") + more, step=len(gzip.compress(b"first")))


def test_decompression_bomb_is_decoded_in_bounded_pieces():
    bomb = gzip.compress(bytes(50_000_000))

    sizes = [len(piece) for piece in decoder_for("gzip").feed(bomb)]

    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == 50_000_000


@given(st.binary(min_size=1), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_decode_or_raise_an_http_error(data, name):
    with suppress(HttpError):
        assert isinstance(undo(name, data), bytes)
