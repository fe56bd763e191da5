"""Preconditions: what the client has already, and whether it is still right (RFC 9110, section 13). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# RFC 9110, section 8.8.3: entity-tag
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def precondition(headers: Mapping[str, str], etags: frozenset[str], modified: datetime) -> int | None:
    """Return the status that ends a GET or HEAD early (304, 412), or None to go on (section 13.2.2).

    Args:
        headers: of the request, names in lower case.
        etags: strong tags, any of which stands for the present bytes.
        modified: when the present bytes came, in whole seconds.
    """
    if (wanted := headers.get("if-match")) is not None:
        if not _matches(wanted, etags, weakly=False):
            return 412
    elif (since := _date(headers.get("if-unmodified-since"))) is not None and modified > since:
        return 412
    if (known := headers.get("if-none-match")) is not None:
        return 304 if _matches(known, etags, weakly=True) else None
    since = _date(headers.get("if-modified-since"))
    return 304 if since is not None and modified <= since else None


def range_holds(headers: Mapping[str, str], etags: frozenset[str], modified: datetime) -> bool:
    """Tell whether a Range is to be obeyed: If-Range, if there is one, names the present bytes (section 13.1.5)."""
    validator = headers.get("if-range")
    if validator is None:
        return True
    if '"' in validator:
        return validator.strip() in etags
    return _date(validator) == modified


def _matches(header: str, etags: frozenset[str], *, weakly: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(tag in etags and (weakly or not weak) for weak, tag in _TAG.findall(header))


def _date(text: str | None) -> datetime | None:
    """Return an HTTP date; None for what is none, which is as good as no header."""
    try:
        date = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    # only the obsolete asctime form comes without a zone; it is in UTC too (section 5.6.7)
    return date.replace(tzinfo=date.tzinfo or UTC) if date else None
