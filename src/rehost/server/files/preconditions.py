"""Conditional and range requests: whether to send a file, and which of its bytes (RFC 9110, sections 13, 14). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RANGES = 8  # a few ranges per request are useful; hundreds are an attack (RFC 9110, section 17.15)
_PART_OVERHEAD_BYTES = 160  # about what headers and delimiters add to each part of a multipart body

_ETAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')  # RFC 9110, section 8.8.3
_RANGE_HEADER = re.compile(r"bytes=([0-9,\- \t]+)", re.IGNORECASE)
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")


def precondition(headers: Mapping[str, str], etags: frozenset[str], modified: datetime) -> int | None:
    """Return the status that ends a GET or HEAD early (304 or 412), or None to go on (RFC 9110, section 13.2.2).

    Args:
        headers: request headers, names in lower case.
        etags: strong entity tags, each of which stands for the current bytes.
        modified: when the current bytes were written, in whole seconds.
    """
    if (if_match := headers.get("if-match")) is not None:
        if not matches(if_match, etags, weakly=False):
            return 412
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and modified > since:
        return 412
    if (if_none_match := headers.get("if-none-match")) is not None:
        return 304 if matches(if_none_match, etags, weakly=True) else None
    since = _date(headers.get("if-modified-since"))
    return 304 if since is not None and modified <= since else None


def range_applies(headers: Mapping[str, str], etags: frozenset[str], modified: datetime) -> bool:
    """Return whether to obey Range: If-Range is absent or names the current bytes (RFC 9110, section 13.1.5)."""
    validator = headers.get("if-range")
    if validator is None:
        return True
    if '"' in validator:
        return validator.strip() in etags
    return _date(validator) == modified


def parse_range(header: str, size: int) -> tuple[range, ...] | None:
    """Return the requested bytes of a file, in ascending order and without overlaps.

    Args:
        header: value of the Range header.
        size: of the file, in bytes.

    Returns:
        None if the header is to be ignored: it cannot be parsed, it has too many ranges, or the multipart body would
        be larger than the whole file. An empty tuple if no requested byte exists (status 416).
    """
    match = _RANGE_HEADER.fullmatch(header.strip())
    parts = [part.strip(" \t") for part in match[1].split(",")] if match else []
    ranges = [_RANGE.fullmatch(part) for part in parts if part]
    if not ranges or len(ranges) > MAX_RANGES:
        return None
    found = []
    for each in ranges:
        if each is None or not (each[1] or each[2]) or (each[1] and each[2] and int(each[1]) > int(each[2])):
            return None
        found.append(_span(each[1], each[2], size))
    merged = _merge([span for span in found if span])
    if len(merged) > 1 and sum(len(span) + _PART_OVERHEAD_BYTES for span in merged) >= size:
        return None
    return merged


def _span(first: str, last: str, size: int) -> range:
    """Return the positions of one range; none if it starts after the end of the file."""
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(int(last) + 1, size) if last else size)


def _merge(spans: list[range]) -> tuple[range, ...]:
    merged: list[range] = []
    for span in sorted(spans, key=lambda span: span.start):
        if merged and span.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return tuple(merged)


def matches(header: str, etags: frozenset[str], *, weakly: bool) -> bool:
    """Return whether an If-Match or If-None-Match names one of these entity tags, given without `W/`."""
    if header.strip() == "*":
        return True
    return any(etag in etags and (weakly or not weak) for weak, etag in _ETAG.findall(header))


def _date(text: str | None) -> datetime | None:
    """Parse an HTTP date; an invalid one counts as no header at all."""
    try:
        date = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    # Only the obsolete asctime form has no zone; it is in UTC too (RFC 9110, section 5.6.7).
    return date.replace(tzinfo=date.tzinfo or UTC) if date else None
