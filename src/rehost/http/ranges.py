"""Conditional requests and ranges (RFC 9110, sections 13 and 14): what is asked, and whether the answer fits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rehost.model import Request, Validator

_STRONG = re.compile(r'"[\x21\x23-\x7e]*"')  # RFC 9110, section 8.8.3, without obs-text: it must survive a database
_FIELD = re.compile(r"[\x20-\x7e]{1,1024}")
_MEDIA_TYPE = re.compile(r"[\w.+-]{1,63}/[\w.+-]{1,63}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)


def validator_of(headers: Mapping[str, str]) -> Validator:
    """Return what an answer gives to recognise its bytes by; values that are no plain text are left out."""
    return Validator(_plain(headers.get("ETag")), _plain(headers.get("Last-Modified")))


def media_type(headers: Mapping[str, str]) -> str | None:
    """Return the announced media type in lower case, without parameters; None where there is none worth the name."""
    value = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return value if _MEDIA_TYPE.fullmatch(value) else None


def is_strong(validator: Validator | None) -> bool:
    """Return whether ranges of the body may be joined by this validator (RFC 9110, section 8.8.1)."""
    return validator is not None and validator.etag is not None and _STRONG.fullmatch(validator.etag) is not None


def fields_for(request: Request) -> dict[str, str]:
    """Return the header fields that make a request conditional, or one for the rest of a body."""
    if request.partial is not None and request.partial.validator.etag is not None:
        return {"Range": f"bytes={request.partial.size}-", "If-Range": request.partial.validator.etag}
    fields = {}
    if request.validator is not None:
        if request.validator.etag is not None:
            fields["If-None-Match"] = request.validator.etag
        if request.validator.last_modified is not None:
            fields["If-Modified-Since"] = request.validator.last_modified
    return fields


def whole_size(headers: Mapping[str, str], start: int, etag: str | None) -> int | None:
    """Return of how many bytes a 206 gives the rest from byte `start` on; None if it does not.

    Half of one picture and half of another must never be joined: the range has to begin where we stopped, to end at
    the end, and to bear the same strong ETag if it bears one (section 15.3.7).
    """
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None:
        return None
    first, last, size = (int(number) for number in found.groups())
    fits = (
        (first, last) == (start, size - 1)
        and headers.get("ETag", etag) == etag
        and headers.get("Content-Length", str(size - start)) == str(size - start)
        and headers.get("Content-Encoding", "identity").strip().lower() == "identity"
    )
    return size if fits else None


def _plain(value: str | None) -> str | None:
    return value if value is not None and _FIELD.fullmatch(value) else None
