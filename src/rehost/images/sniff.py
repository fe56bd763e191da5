"""The type of bytes, by their first bytes: never by a URL or a Content-Type. Pure."""

from __future__ import annotations

from enum import StrEnum

from rehost.model import Format

HEAD_BYTES = 4096
"""How many bytes `sniff` needs: an SVG can begin with a prolog, comments and a DOCTYPE."""


class Other(StrEnum):
    """Types that we cannot verify as a picture; the value is the evidence that reports show."""

    EMPTY = "no bytes"
    SVG = "an SVG document"
    HTML = "an HTML page"
    XML = "an XML document"
    JSON = "a JSON text"
    TEXT = "plain text"
    PDF = "a PDF document"
    ZIP = "a ZIP archive"
    GZIP = "gzip data"
    RAR = "a RAR archive"
    SEVEN_ZIP = "a 7z archive"
    VIDEO = "a video"
    SOUND = "an audio file"
    JPEG_XL = "a JPEG XL picture"
    JPEG_XR = "a JPEG XR picture"
    HEIF = "a HEIF picture that is neither HEVC nor AV1"
    PHOTOSHOP = "a Photoshop picture"
    POSTSCRIPT = "a PostScript document"
    CURSOR = "a Windows cursor"
    ICONS = "Apple icons"
    RADIANCE = "a Radiance picture"
    OPEN_EXR = "an OpenEXR picture"
    DIRECT_DRAW = "a DirectDraw surface"
    QOI = "a QOI picture"
    DJVU = "a DjVu document"
    GIMP = "a GIMP picture"
    UNKNOWN = "an unknown type"


TYPED_FILES = frozenset(Other) - {
    *(Other.EMPTY, Other.SVG, Other.HTML, Other.XML, Other.JSON, Other.TEXT, Other.GZIP, Other.UNKNOWN),
}
"""Files with a type of their own. An origin that sends one does not refuse: refusals are text, perhaps in gzip."""


_PICTURES: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"BM", Format.BMP),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),  # BigTIFF
    (b"MM\0+", Format.TIFF),
    (b"\0\0\1\0", Format.ICO),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Format.JPEG2000),
    (b"\xff\x4f\xff\x51", Format.JPEG2000),  # a bare codestream
)

_OTHERS: tuple[tuple[bytes, Other], ...] = (
    (b"%PDF-", Other.PDF),
    (b"PK\3\4", Other.ZIP),
    (b"PK\5\6", Other.ZIP),
    (b"\x1f\x8b", Other.GZIP),
    (b"Rar!\x1a\7", Other.RAR),
    (b"7z\xbc\xaf\x27\x1c", Other.SEVEN_ZIP),
    (b"\x1aE\xdf\xa3", Other.VIDEO),  # Matroska, WebM
    (b"FLV\1", Other.VIDEO),
    (b"\0\0\1\xba", Other.VIDEO),  # MPEG-1, MPEG-2
    (b"\0\0\1\xb3", Other.VIDEO),
    (b"OggS", Other.SOUND),
    (b"ID3\3", Other.SOUND),
    (b"ID3\4", Other.SOUND),
    (b"fLaC", Other.SOUND),
    (b"\xff\x0a", Other.JPEG_XL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Other.JPEG_XL),
    (b"II\xbc", Other.JPEG_XR),
    (b"8BPS", Other.PHOTOSHOP),
    (b"%!PS", Other.POSTSCRIPT),
    (b"\xc5\xd0\xd3\xc6", Other.POSTSCRIPT),  # with a preview
    (b"icns", Other.ICONS),
    (b"#?RADIANCE", Other.RADIANCE),
    (b"\x76\x2f\x31\x01", Other.OPEN_EXR),
    (b"DDS \x7c\0\0\0", Other.DIRECT_DRAW),
    (b"qoif", Other.QOI),
    (b"AT&TFORM", Other.DJVU),
    (b"gimp xcf", Other.GIMP),
    (b"\0\0\2\0", Other.CURSOR),
)

# WHATWG MIME Sniffing, section 7.1: how HTML begins, after white space, in upper or lower case
_HTML = (
    *(b"<!doctype html", b"<html", b"<head", b"<script", b"<iframe", b"<h1", b"<div", b"<font", b"<table", b"<a "),
    *(b"<style", b"<title", b"<b>", b"<body", b"<br", b"<p>", b"<meta", b"<center"),
)

# section 7.2: bytes that occur in no text
_BINARY = frozenset({*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)})

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_HEIF_BRANDS = frozenset({b"mif1", b"mif2", b"msf1", b"avci", b"avcs", b"jpeg", b"jpgs", b"vvic", b"evbi", b"j2ki"})
_RIFF: dict[bytes, Format | Other] = {b"WEBP": Format.WEBP, b"AVI ": Other.VIDEO, b"WAVE": Other.SOUND}


def sniff(head: bytes) -> Format | Other:
    """Return what bytes that begin with `head` (up to HEAD_BYTES of them) claim to be."""
    for magic, picture in _PICTURES:
        if head.startswith(magic):
            return picture
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[4:8] in {b"moov", b"mdat", b"wide"} and not head[0]:  # QuickTime, before there was ftyp
        return Other.VIDEO
    for magic, other in _OTHERS:
        if head.startswith(magic):
            return other
    return _text(head)


def _by_brand(head: bytes) -> Format | Other:
    """Distinguish pictures and videos in ISO base media files by their brands (ISO/IEC 14496-12, section 4.3)."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return Format.AVIF
        if brand in _HEIC_BRANDS:
            return Format.HEIC
    return Other.HEIF if _HEIF_BRANDS.intersection(brands) else Other.VIDEO


def _text(head: bytes) -> Other:
    """Distinguish documents; SVG is recognised even behind other markup, because a browser would run it."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "ignore").encode()
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\f").lower()
    if not head:
        return Other.EMPTY
    if text.startswith(_HTML):
        return Other.HTML
    if text.startswith(b"<"):
        if b"<svg" in text or b":svg" in text or b"<!doctype svg" in text:
            return Other.SVG
        return Other.HTML if b"<html" in text else Other.XML
    if text.startswith((b"{", b"[")):
        return Other.JSON
    return Other.UNKNOWN if not text or _BINARY.intersection(text) else Other.TEXT
