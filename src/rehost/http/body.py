"""Bodies of responses: content codings undone in pieces (RFC 9110, section 8.4), and small ways to read a body.

An origin may apply a coding although the request accepts none. What browsers undo is undone; a name that is no coding
means nothing, as for browsers. Checksums behind a coded body are not looked at: the proof of the picture is stricter.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rehost.http.connection import Response, Sink
from rehost.http.errors import BodyTooLarge, HttpError, IncompleteBody, ProtocolError, printable
from rehost.http.headers import names_of

if TYPE_CHECKING:
    from backports.zstd import ZstdDecompressor

PIECE_BYTES = 256 * 1024
"""About the most that one piece of decoded body holds, whatever the compression ratio."""

_UNDONE = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})  # by browsers, and here
# Browsers undo these only where they asked for them (not over http): so what is not so coded may be the plain body.
_ASKED_FOR = frozenset({"br", "zstd"})
_COMPRESSIONS = _UNDONE | {"compress", "x-compress"}
_MOST_CODINGS = 3  # on top of each other; two have been seen
_ZLIB_METHOD, _ZLIB_BYTES = 8, 2  # RFC 1950, section 2.2: the lower half of the first byte; the whole header
_GZIP_MAGIC, _GZIP_BYTES = b"\x1f\x8b\x08", 10  # RFC 1952, section 2.3
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1
_ZSTD_WINDOW_LOG = 23  # 8 MB, RFC 9659, section 3
_BR_WINDOW_24 = 0x0F  # RFC 7932, section 9.1: the lower half of the first byte says 16 MB
_WINDOWED = frozenset({"br", "zstd"})  # their decoders keep megabytes; one of them at most
_CODED_BYTES = 64 * 1024  # that may decode to nothing: what does not compress grows by a thousandth, and has a header
_DRAIN_BYTES = 64 * 1024  # typical error pages are smaller; reading one saves a new connection
_DRAIN_SECONDS = 0.5


async def read_decoded(response: Response, sink: Sink) -> None:
    """Pass the decoded body to a sink, to its end.

    Raises:
        ProtocolError: the framing or a coding is broken, or there are too many codings.
        IncompleteBody: the body, or its coding, ends too early.
        HttpError, OSError: from the sink.
    """
    check_transfer_encoding(response.headers.joined("Transfer-Encoding"))
    decoder = decoder_for(response.headers.joined("Content-Encoding"))
    if decoder is None:
        await response.read_body(sink)
        return

    def decode(piece: bytes | memoryview) -> None:
        for decoded in decoder.feed(piece):
            sink(decoded)

    await response.read_body(decode)
    if response.received:
        decoder.finish()


async def read_prefix(response: Response, max_bytes: int) -> bytes:
    """Return the decoded body, or the first `max_bytes` of a longer one; raises what `read_decoded` raises."""
    body = bytearray()

    def keep(piece: bytes | memoryview) -> None:
        body.extend(piece)
        if len(body) >= max_bytes:
            raise BodyTooLarge(f"more than {max_bytes} bytes")

    with suppress(BodyTooLarge):
        await read_decoded(response, keep)
    return bytes(body[:max_bytes])


async def drain(response: Response) -> None:
    """Read and drop a body that is small and quick, so that its connection can be used again."""
    if response.length is not None and response.length <= _DRAIN_BYTES:
        with suppress(TimeoutError, HttpError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await response.read_body(lambda _piece: None)


def check_transfer_encoding(value: str) -> None:
    """Raise ProtocolError for a transfer coding that compresses (RFC 9112, section 7.2).

    A request never asks for one (TE), and what `framing` left would be the coded bytes. Names that are no coding mean
    nothing.
    """
    names = _COMPRESSIONS.intersection(names_of(value))
    if names:
        raise ProtocolError(f"transfer encoding {', '.join(sorted(names))}")


def codings_of(value: str) -> list[str]:
    """Return the codings that a Content-Encoding names and that are undone, in lower case and in their order."""
    return [name for name in names_of(value) if name in _UNDONE]


def decoder_for(content_encoding: str) -> Decoder | None:
    """Return a decoder for the value of Content-Encoding; None if no coding is named.

    Raises:
        ProtocolError: there are more codings than anybody needs.
    """
    names = codings_of(content_encoding)
    if len(names) > _MOST_CODINGS or sum(name in _WINDOWED for name in names) > 1:
        raise ProtocolError(f"{len(names)} content codings")
    return Decoder(names) if names else None


class Decoder:
    """Undoes the codings of a body, the last one first; bytes behind the end of a coded body are ignored."""

    def __init__(self, names: Sequence[str]) -> None:
        self._steps = [_Step(name) for name in reversed(names)]

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Yield the pieces that these coded bytes decode to.

        Raises:
            ProtocolError: the bytes are not so coded, or decode to next to nothing.
        """
        pieces: Iterable[bytes | memoryview] = [data]
        for step in self._steps:
            pieces = step.feed(pieces)
        return iter(pieces)

    def finish(self) -> None:
        """Raise IncompleteBody unless the coded body has reached its own end.

        Content-Length cannot show this: it may match a body that was cut before it was sent.
        """
        for step in self._steps:
            step.finish()


class _Step:
    """Undoes one coding, in pieces."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decompressor, self._error = _decompressor(name)
        self._taken = 0  # bytes
        self._given = 0
        self._beginning = bytearray()  # what was taken before anything was given
        self._is_plain = False

    def feed(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for piece in pieces:
            if self._is_plain:
                yield piece
                continue
            self._taken += len(piece)
            if not self._given and self._name in _ASKED_FOR:
                self._beginning += piece
            try:
                yield from self._decode(piece)
            except self._error as error:
                if self._given or self._name not in _ASKED_FOR or self._beginning.startswith(_ZSTD_MAGIC):
                    raise ProtocolError(f"not {self._name}: {printable(error)}") from error
                self._is_plain = True
                yield bytes(self._beginning)
                continue
            if self._taken > _CODED_BYTES + 2 * self._given:
                raise ProtocolError("a coded body that decodes to next to nothing")

    def finish(self) -> None:
        if not self._is_plain and not self._decompressor.eof:
            raise IncompleteBody(f"the {self._name} body ends before its end")

    def _decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        while not self._decompressor.eof:
            decoded = self._decompressor.decompress(data, PIECE_BYTES)
            self._given += len(decoded)
            if decoded:
                yield decoded
            if self._decompressor.needs_input:
                return
            data = b""


def _decompressor(name: str) -> tuple[_Inflate | _Brotli | ZstdDecompressor, type[Exception]]:
    """Return what undoes a coding, and the error that it raises."""
    if name == "br":
        import brotli  # noqa: PLC0415 - few origins send it

        return _Brotli(brotli.Decompressor()), brotli.error
    if name != "zstd":
        return _Inflate(is_gzip=name != "deflate"), zlib.error
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - few origins send it
    else:
        from backports import zstd  # noqa: PLC0415 - the same
    limit = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=limit), zstd.ZstdError


class _Inflate:
    """gzip (RFC 1952) or deflate (RFC 1950; also without its header, as some servers send it), without checksums."""

    def __init__(self, *, is_gzip: bool) -> None:
        self.needs_input = True
        self._is_gzip = is_gzip
        self._header = bytearray()
        self._is_header_read = False
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        if not self._is_header_read:
            self._header += data
            size = _gzip_header(self._header) if self._is_gzip else _zlib_header(self._header)
            if size is None:
                return b""
            data, self._is_header_read = bytes(self._header[size:]), True
        decoded = self._zlib.decompress(data or self._zlib.unconsumed_tail, max_length)
        self.needs_input = not self._zlib.unconsumed_tail and len(decoded) < max_length
        return decoded


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self, decompressor: Any) -> None:  # noqa: ANN401 - the package has no types
        self.needs_input = True
        self._brotli = decompressor
        self._is_begun = False

    @property
    def eof(self) -> bool:
        return bool(self._brotli.is_finished())

    def decompress(self, data: bytes | memoryview, max_length: int) -> bytes:
        if data and not self._is_begun:
            self._is_begun = True
            if data[0] & 0x0F == _BR_WINDOW_24:
                self._brotli.process(data[:1])  # raises an error for what is no br, such as a plain JPEG
                raise ProtocolError("a br window of more than 8 MB")
        decoded: bytes = self._brotli.process(data, output_buffer_limit=max_length)
        self.needs_input = self._brotli.can_accept_more_data() and len(decoded) < max_length
        return decoded


def _gzip_header(raw: bytearray) -> int | None:
    """Return the size of a gzip header (RFC 1952, section 2.3); None as long as it is not complete."""
    if not raw.startswith(_GZIP_MAGIC[: len(raw)]):
        raise ProtocolError("not gzip: no header of it")
    if len(raw) < _GZIP_BYTES + 2:
        return None
    flags, size = raw[3], _GZIP_BYTES
    if flags & 4:  # extra fields
        size += 2 + int.from_bytes(raw[size : size + 2], "little")
    for flag in (8, 16):  # name, comment
        if flags & flag:
            size = raw.find(0, size) + 1 or len(raw) + 1
    size += flags & 2  # a checksum of two bytes
    return size if size <= len(raw) else None


def _zlib_header(raw: bytearray) -> int | None:
    """Return the size of a zlib header (RFC 1950, section 2.2), 0 if there is none; None as long as that is open."""
    if len(raw) < _ZLIB_BYTES:
        return None
    return _ZLIB_BYTES if raw[0] & 0x0F == _ZLIB_METHOD else 0
