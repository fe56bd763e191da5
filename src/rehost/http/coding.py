"""Content codings (RFC 9110, section 8.4) that an origin applies unasked, undone in pieces. Pure.

gzip and deflate are undone; what the standard library cannot read (br, zstd) and chains of codings are refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from rehost.errors import Permanent, Transient
from rehost.model import Reason

PIECE_BYTES = 256 * 1024
"""The most that one piece of decoded body holds, whatever the coding blows it up to."""

_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZLIB_METHOD = 8  # RFC 1950, section 2.2: the lower half of the first byte


class Decoder(Protocol):
    """Undoes one coding."""

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield the pieces that these bytes decode to."""
        ...

    def finish(self) -> None:
        """Return if the coded body has come to its end."""
        ...


def is_coded(field: str) -> bool:
    """Return whether a Content-Encoding or Transfer-Encoding names a coding, one that can be undone or not."""
    return bool(_names(field))


def check_transfer(transfer_encoding: str) -> None:
    """Return if the body was sent in no transfer coding but chunked (RFC 9112, section 6.1), which the parser undoes.

    Raises:
        Permanent: MALFORMED; we never ask for another one (TE), and would store the coded bytes.
    """
    names = _names(transfer_encoding)
    if names not in ([], ["chunked"]):
        raise Permanent(Reason.MALFORMED, f"transfer encoding {_shown(names)}")


def decoder_for(content_encoding: str) -> Decoder | None:
    """Return what undoes the coding that this field names; None where there is none.

    Raises:
        Permanent: MALFORMED, where it is none that can be undone.
    """
    names = _names(content_encoding)
    if not names:
        return None
    if len(names) > 1 or names[0] not in {"gzip", "x-gzip", "deflate"}:
        raise Permanent(Reason.MALFORMED, f"content encoding {_shown(names)}")
    return _Inflater(names[0])


def _names(field: str) -> list[str]:
    names = (part.strip().lower() for part in field.split(","))
    return [name for name in names if name not in {"", "identity", "none"}]


def _shown(names: list[str]) -> str:
    return ascii(", ".join(names)[:40])[1:-1]


class _Inflater:
    """gzip (RFC 1952) and deflate (RFC 1950; without its header too, as some servers have it)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflate = zlib.decompressobj(_GZIP) if name != "deflate" else None

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self._inflate is None:
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == _ZLIB_METHOD else _RAW)
        if self._inflate.eof:
            raise Permanent(Reason.MALFORMED, f"bytes after the end of the {self._name} body")
        while data:
            try:
                yield self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise Permanent(Reason.MALFORMED, f"not {self._name}: {error}") from error
            data = self._inflate.unconsumed_tail
        if self._inflate.unused_data:
            raise Permanent(Reason.MALFORMED, f"bytes after the end of the {self._name} body")

    def finish(self) -> None:
        # A gzip body that is cut inside a matching Content-Length is framed well: only its own end tells.
        if self._inflate is None or not self._inflate.eof:
            raise Transient(Reason.TRUNCATED, f"the {self._name} body ends before its end")
