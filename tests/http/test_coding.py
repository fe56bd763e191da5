import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.errors import Permanent, Transient, VisitError
from rehost.http.coding import PIECE_BYTES, check_transfer, decoder_for
from rehost.model import Reason


def undo(name, data, step=1 << 20):
    decoder = decoder_for(name)
    pieces = [piece for start in range(0, len(data), step) for piece in decoder.feed(data[start : start + step])]
    decoder.finish()
    return b"".join(pieces)


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("name", ["", "identity", "Identity, none", " , "])
def test_no_coding_needs_no_decoder(name):
    assert decoder_for(name) is None


@pytest.mark.parametrize("name", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "ünknown"])
def test_what_cannot_be_undone_is_refused(name):
    with pytest.raises(Permanent) as caught:
        decoder_for(name)

    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("field", ["", "identity", "chunked", "Chunked", "identity, chunked"])
def test_chunked_is_the_only_transfer_coding(field):
    check_transfer(field)


@pytest.mark.parametrize("field", ["gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked"])
def test_any_other_transfer_coding_is_refused(field):
    with pytest.raises(Permanent) as caught:
        check_transfer(field)

    assert caught.value.reason is Reason.MALFORMED


@given(st.binary(), st.integers(1, 40))
def test_a_coding_is_undone_however_it_is_cut_into_pieces(data, step):
    assert undo("GZIP", gzip.compress(data), step) == data
    assert undo("x-gzip", gzip.compress(data), step) == data
    assert undo("deflate", zlib.compress(data), step) == data
    assert undo("deflate", raw_deflate(data), step) == data


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_coded_body_that_is_cut_anywhere_is_noticed(name, pack):
    packed = pack(b"a picture, or so" * 50)

    for end in range(1, len(packed)):
        with pytest.raises(Transient) as caught:
            undo(name, packed[:end])
        assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("more", [b"x", gzip.compress(b"second"), b"\0"], ids=["a byte", "a member", "a zero"])
def test_bytes_after_the_end_are_refused(more):
    with pytest.raises(Permanent):
        undo("gzip", gzip.compress(b"first") + more)
    with pytest.raises(Permanent):
        undo("gzip", gzip.compress(b"first") + more, step=len(gzip.compress(b"first")))


def test_a_bomb_comes_in_bounded_pieces():
    bomb = gzip.compress(bytes(50_000_000))

    sizes = [len(piece) for piece in decoder_for("gzip").feed(bomb)]

    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == 50_000_000


@given(st.binary(min_size=1), st.sampled_from(["gzip", "deflate"]))
def test_whatever_is_called_coded_ends_as_bytes_or_a_visit_error(data, name):
    with suppress(VisitError):
        assert isinstance(undo(name, data), bytes)
