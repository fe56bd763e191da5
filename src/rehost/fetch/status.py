"""What an answer's status means. Pure.

The body is the inspector's to judge: a 200 with HTML is found out by its bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from rehost.errors import Permanent, Transient, VisitError
from rehost.model import Reason

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses whose Location is followed (RFC 9110, section 15.4); 300, 304 and 305 are not among them."""

LONGEST_RETRY_AFTER = 7 * 86_400.0
"""Seconds; an origin's own wish is believed up to a week."""

_PASSING = {
    408: Reason.ORIGIN_ERROR,
    425: Reason.ORIGIN_ERROR,
    429: Reason.THROTTLED,
    500: Reason.ORIGIN_ERROR,
    502: Reason.ORIGIN_ERROR,
    503: Reason.ORIGIN_ERROR,
    504: Reason.ORIGIN_ERROR,
}
_STAYING = {
    204: Reason.EMPTY,
    205: Reason.EMPTY,
    401: Reason.HOTLINK_REFUSED,
    403: Reason.HOTLINK_REFUSED,
    404: Reason.GONE,
    410: Reason.GONE,
    451: Reason.HOTLINK_REFUSED,
}
_FIRST_SERVER_ERROR = 500
_LAST_SERVER_ERROR = 599


def of_status(status: int, retry_after: float | None = None) -> VisitError | None:
    """Return what a final status means for the picture; None for 200 and 203, whose body may be one.

    Args:
        status: as received; 206 and 304 are for the caller, who knows what was asked for.
        retry_after: seconds that the answer asks to wait, if it does.
    """
    if status in {200, 203}:
        return None
    if status in _PASSING:
        reason = _PASSING[status]
        if status == 503 and retry_after is not None:  # noqa: PLR2004 - Service Unavailable
            reason = Reason.THROTTLED
        return Transient(reason, f"status {status}", retry_after=retry_after)
    if status in _STAYING:
        return Permanent(_STAYING[status], f"status {status}")
    if _FIRST_SERVER_ERROR <= status <= _LAST_SERVER_ERROR:
        return Permanent(Reason.ORIGIN_ERROR, f"status {status}")
    return Permanent(Reason.UNEXPECTED_STATUS, f"status {status}")


def retry_after_seconds(value: str | None, date: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After asks to wait (RFC 9110, section 10.2.3); None if it says nothing.

    More than a week is read as a week, here and nowhere else.

    Args:
        value: the field's value: whole seconds, or an HTTP date in one of the three forms of section 5.6.7.
        date: the answer's own Date, by which a date is read: the origin's clock may be wrong.
        now: our time, where the answer has no Date.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        until = _http_date(text)
        if until is None:
            return None
        seconds = (until - (_http_date(date or "") or now)).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
