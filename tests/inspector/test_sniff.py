import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pictures import WRITABLE, picture

from rehost.inspector.sniff import HEAD_BYTES, Other, sniff
from rehost.model import Format


@pytest.mark.parametrize("kind", WRITABLE)
def test_a_picture_is_known_by_its_first_bytes(kind):
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
        (b"RIFF\x10\0\0\0WAVEfmt ", Other.UNKNOWN),
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
def test_bytes_are_named_for_what_they_are(head, expected):
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
def test_an_svg_is_known_however_it_begins(head):
    assert sniff(head) is Other.SVG


@pytest.mark.parametrize("head", [b"<!DOCTYPE html>", b"\n <HTML lang=zh>", b"<!-- x --><html><svg>", b"<script>x"])
def test_a_page_is_no_svg(head):
    assert sniff(head) in (Other.HTML, Other.SVG)
    assert sniff(head.replace(b"<svg>", b"")) is Other.HTML


@given(st.binary(max_size=200))
def test_any_bytes_are_something(head):
    assert isinstance(sniff(head), Format | Other)
