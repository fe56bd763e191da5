"""Bodies of responses: content codings undone in pieces (RFC 9110, section 8.4), and small ways to read a body.

An origin may apply a coding although the request accepts none. gzip and deflate are undone; what the standard library
cannot read (br, zstd) and chains of codings are refused.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import suppress

from rehost.http.connection import Response, Sink, encodings
from rehost.http.errors import BodyTooLarge, HttpError, IncompleteBody, ProtocolError

PIECE_BYTES = 256 * 1024
"""The most that one piece of decoded body holds, whatever the compression ratio."""

_GZIP = 16 + zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
_COMPRESSIONS = frozenset({"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"})
_ZLIB_METHOD = 8  # RFC 1950, section 2.2: the lower half of the first byte
_CODED_BYTES = 64 * 1024  # that may decode to nothing: what does not compress grows by a thousandth, and has a header
_DRAIN_BYTES = 64 * 1024  # typical error pages are smaller; reading one saves a new connection
_DRAIN_SECONDS = 0.5


async def read_decoded(response: Response, sink: Sink) -> None:
    """Pass the decoded body to a sink, to its end.

    Raises:
        ProtocolError: the framing or a coding is broken, or a coding is not supported.
        IncompleteBody: the body, or its coding, ends too early.
        HttpError, OSError: from the sink.
    """
    check_transfer_encoding(response.headers.joined("Transfer-Encoding"))
    decoder = decoder_for(response.headers.joined("Content-Encoding"))
    if decoder is None:
        await response.read_body(sink)
        return

    size = 0

    def decode(piece: bytes | memoryview) -> None:
        nonlocal size
        for decoded in decoder.feed(piece):
            size += len(decoded)
            sink(decoded)
        if response.received > _CODED_BYTES + 2 * size:
            raise ProtocolError("a coded body that decodes to next to nothing")

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
    names = set(encodings(value)) & _COMPRESSIONS
    if names:
        raise ProtocolError(f"transfer encoding {_quoted(sorted(names))}")


def decoder_for(content_encoding: str) -> Decoder | None:
    """Return a decoder for the value of Content-Encoding; None if no coding is named.

    Raises:
        ProtocolError: the coding is not supported.
    """
    names = encodings(content_encoding)
    if not names:
        return None
    if len(names) > 1 or names[0] not in {"gzip", "x-gzip", "deflate"}:
        raise ProtocolError(f"content encoding {_quoted(names)}")
    return Decoder(names[0])


def _quoted(names: list[str]) -> str:
    return ascii(", ".join(names)[:40])[1:-1]


class Decoder:
    """Undoes gzip (RFC 1952) or deflate (RFC 1950; also without its header, as some servers send it)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflate = zlib.decompressobj(_GZIP) if name != "deflate" else None

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield the pieces that these coded bytes decode to.

        Raises:
            ProtocolError: the bytes are not so coded, or go on after the end of the coded body.
        """
        if self._inflate is None:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == _ZLIB_METHOD else _RAW_DEFLATE)
        if self._inflate.eof:
            raise ProtocolError(f"bytes after the end of the {self._name} body")
        while data:
            try:
                yield self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise ProtocolError(f"not {self._name}: {error}") from error
            data = self._inflate.unconsumed_tail
        if self._inflate.unused_data:
            raise ProtocolError(f"bytes after the end of the {self._name} body")

    def finish(self) -> None:
        """Raise IncompleteBody unless the coded body has reached its own end.

        Content-Length cannot show this: it may match a body that was cut before it was sent.
        """
        if self._inflate is None or not self._inflate.eof:
            raise IncompleteBody(f"the {self._name} body ends before its end")
