import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pictures import WRITABLE, picture

from rehost.images.sniff import HEAD_BYTES, TYPED_FILES, Other, sniff
from rehost.model import Format


@pytest.mark.parametrize("kind", WRITABLE)
def test_picture_is_recognised_by_its_first_bytes(kind):
    assert sniff(picture(1, kind)[:HEAD_BYTES]) is kind


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\xff\x4f\xff\x51\x00", Format.JPEG2000),
        (b"MM\0+\0\x08\0\0", Format.TIFF),
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1heic", Format.HEIC),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", Format.HEIC),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", Format.AVIF),
        (b"\0\0\0\x1cftypisom\0\0\0\0mp41avc1", Other.VIDEO),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1vvic", Other.HEIF),
        (b"\0\0\0\x08wide\0\0\0\0mdat", Other.VIDEO),
        (b"RIFF\x10\0\0\0AVI LIST", Other.VIDEO),
        (b"RIFF\x10\0\0\0WAVEfmt ", Other.SOUND),
        (b"RIFF\x10\0\0\0sfbkLIST", Other.UNKNOWN),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81", Other.VIDEO),
        (b"II\xbc\x01\x20\0\0\0", Other.JPEG_XR),
        (b"8BPS\0\1", Other.PHOTOSHOP),
        (b"%!PS-Adobe-3.0 EPSF-3.0", Other.POSTSCRIPT),
        (b"", Other.EMPTY),
        (b"\0\0\2\0\1\0", Other.CURSOR),
        (b"%PDF-1.7\n", Other.PDF),
        (b"PK\3\4\x14\0", Other.ZIP),
        (b"\x1f\x8b\x08\0", Other.GZIP),
        (b"\xff\x0a\xfa\x7f", Other.JPEG_XL),
        (b"\x00\x01\x02\x03", Other.UNKNOWN),
        (b"Forbidden\r\n", Other.TEXT),
        (b'  {"code": 403}', Other.JSON),
    ],
)
def test_first_bytes_give_the_type(head, expected):
    assert sniff(head) is expected


@pytest.mark.parametrize(
    "head",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"\xef\xbb\xbf\n  <SVG>",
        b"<?xml version='1.0'?><!-- a drawing --><svg>",
        b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN' 'x'><svg>",
        b"<?xml version='1.0'?><s:svg xmlns:s='http://www.w3.org/2000/svg'>",
        "\ufeff<svg>".encode("utf-16-le"),
        "\ufeff<svg>".encode("utf-16-be"),
    ],
)
def test_svg_is_recognised_however_it_begins(head):
    assert sniff(head) is Other.SVG


def test_text_does_not_count_as_a_file_with_a_type_of_its_own():
    """Refusals are text: otherwise the Referer that an origin requires would not be learned."""
    texts = [
        b"<!DOCTYPE html>",
        b"<?xml version='1.0'?>",
        b'{"code": 403}',
        b"Forbidden",
        b"",
        gzip.compress(b"<html>"),
    ]

    assert not TYPED_FILES.intersection(map(sniff, texts))


@pytest.mark.parametrize("head", [b"<!DOCTYPE html>", b"\n <HTML lang=zh>", b"<!-- x --><html><svg>", b"<script>x"])
def test_html_page_is_not_svg(head):
    assert sniff(head) in (Other.HTML, Other.SVG)
    assert sniff(head.replace(b"<svg>", b"")) is Other.HTML


@given(st.binary(max_size=200))
def test_any_bytes_have_a_type(head):
    assert isinstance(sniff(head), Format | Other)
