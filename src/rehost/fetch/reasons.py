"""What URLs, errors of HTTP, statuses and Retry-After mean for a link: the only place that gives them reasons. Pure.

A 200 that carries a page instead of an image is not recognised here: its bytes show that (`rehost.images`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from rehost.errors import OperatorError, Permanent, RehostError, SettingsError, Transient, VisitError, shortage
from rehost.http import errors as http
from rehost.http.pool import Proxies
from rehost.http.url import has_no_scheme, normalise, with_scheme_of
from rehost.model import Reason

LONGEST_RETRY_AFTER = 7 * 86_400.0
"""Seconds; an origin that asks for a longer wait gets this one."""

_HTTP_ERRORS: dict[type[http.HttpError], tuple[type[VisitError], Reason]] = {
    http.InvalidUrl: (Permanent, Reason.NOT_A_URL),
    http.PortRefused: (Permanent, Reason.PORT_REFUSED),
    http.AddressRefused: (Permanent, Reason.ADDRESS_REFUSED),
    http.NameNotFound: (Permanent, Reason.UNRESOLVED),
    http.NameNotResolved: (Transient, Reason.UNRESOLVED),
    http.ConnectFailed: (Transient, Reason.UNREACHABLE),
    http.ConnectionClosed: (Transient, Reason.UNREACHABLE),
    http.TlsFailed: (Permanent, Reason.TLS_FAILED),
    http.ProtocolError: (Transient, Reason.MALFORMED),  # of a proxy or a cache, most often: another answer may be whole
    http.InvalidRedirect: (Permanent, Reason.MALFORMED),
    http.IncompleteBody: (Transient, Reason.TRUNCATED),
    http.BodyTooLarge: (Permanent, Reason.TOO_LARGE),
    http.TooManyRedirects: (Permanent, Reason.TOO_MANY_REDIRECTS),
}
_OF_THE_SCHEME = frozenset({Reason.UNREACHABLE, Reason.TLS_FAILED})
_OF_THE_URL = frozenset(  # what another URL may cure
    {Reason.GONE, Reason.HOTLINK_REFUSED, Reason.UNEXPECTED_STATUS, Reason.EMPTY, Reason.NOT_AN_IMAGE, Reason.DECOY}
)
_STATUSES: dict[int, tuple[type[VisitError], Reason]] = {
    204: (Permanent, Reason.EMPTY),
    205: (Permanent, Reason.EMPTY),
    401: (Permanent, Reason.HOTLINK_REFUSED),
    403: (Permanent, Reason.HOTLINK_REFUSED),
    404: (Permanent, Reason.GONE),
    408: (Transient, Reason.ORIGIN_ERROR),
    410: (Permanent, Reason.GONE),
    425: (Transient, Reason.ORIGIN_ERROR),
    429: (Transient, Reason.THROTTLED),
    451: (Permanent, Reason.HOTLINK_REFUSED),
    500: (Transient, Reason.ORIGIN_ERROR),
    502: (Transient, Reason.ORIGIN_ERROR),
    503: (Transient, Reason.ORIGIN_ERROR),  # THROTTLED if it has a Retry-After
    504: (Transient, Reason.ORIGIN_ERROR),
}


def request_url(link: str, page_url: str | None = None) -> str:
    """Return the absolute http or https URL, all ASCII, that a link on a page stands for (`http.url.normalise`).

    Raises:
        Permanent: NOT_A_URL or PORT_REFUSED.
    """
    try:
        return normalise(with_scheme_of(link, page_url))
    except http.HttpError as error:
        raise of_error(error) from error


def other_url(link: str, url: str, error: VisitError) -> str | None:
    """Return what else a link may mean, whose URL failed; None if that would not help.

    The other scheme of a link without one, where that cannot be reached; `&` where the cell says `&amp;`.
    """
    if has_no_scheme(link):
        other = {"https": "http", "http": "https"}[url.partition(":")[0]] + url[url.index(":") :]
        return other if error.reason in _OF_THE_SCHEME else None
    return url.replace("&amp;", "&") if "&amp;" in url and error.reason in _OF_THE_URL else None


def proxies_of(environment: Mapping[str, str], *, resolves: bool = False) -> Proxies:
    """Return the proxies that environment variables name (`http.pool.Proxies`); raises SettingsError."""
    try:
        return Proxies.from_environment(environment, resolves=resolves)
    except http.HttpError as error:
        raise of_error(error) from error


def of_error(error: http.HttpError) -> RehostError:
    """Return what an error of HTTP means for the link that was fetched; for the operator where only they can help."""
    for kind in type(error).__mro__:
        if kind in _HTTP_ERRORS:
            meaning, reason = _HTTP_ERRORS[kind]
            return meaning(reason, str(error))
    if isinstance(error, http.InvalidProxy):
        return SettingsError(
            "{variable} names a proxy that is no http or https URL. Give one, or unset it.", variable=error.variable
        )
    return (shortage(error.__cause__) if error.__cause__ else None) or OperatorError(str(error))


def of_status(status: int, retry_after: float | None = None) -> VisitError | None:
    """Return what a final status means for the link; None for a success (2xx) whose body may be the image.

    What a 206 or 304 brings is for the caller to judge, which knows what it requested. `retry_after` is in seconds.
    """
    if status // 100 == 2 and status not in _STATUSES:  # noqa: PLR2004 - Successful
        return None
    other = Reason.ORIGIN_ERROR if status // 100 == 5 else Reason.UNEXPECTED_STATUS  # noqa: PLR2004 - Server Error
    kind, reason = _STATUSES.get(status, (Permanent, other))
    if kind is Permanent:
        return Permanent(reason, f"status {status}")
    if status == 503 and retry_after is not None:  # noqa: PLR2004 - Service Unavailable
        reason = Reason.THROTTLED
    return Transient(reason, f"status {status}", retry_after=retry_after)


def retry_after_seconds(value: str | None, date: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After asks to wait (RFC 9110, section 10.2.3); None if it asks for nothing.

    More than a week counts as a week; no other place limits it.

    Args:
        value: of the field: whole seconds, or an HTTP date in one of the three forms of section 5.6.7.
        date: of the response's Date field: a date is relative to it, as the origin's clock may be wrong.
        now: our time, which replaces a missing Date.
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
