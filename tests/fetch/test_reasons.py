import errno
from datetime import UTC, datetime

import pytest

from rehost.errors import OperatorError, Permanent, SettingsError, Transient, VisitError
from rehost.fetch.reasons import (
    LONGEST_RETRY_AFTER,
    of_error,
    of_status,
    proxies_of,
    request_url,
    retry_after_seconds,
)
from rehost.http import errors
from rehost.http.url import MAX_URL_CHARACTERS
from rehost.model import MAX_LINK_CHARACTERS, Reason

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)
WORTH_A_SECOND_TRY = {408, 425, 429, 500, 502, 503, 504}


@pytest.mark.parametrize("status", [200, 201, 203, 206, 226, 299])
def test_success_has_no_error(status):
    assert of_status(status) is None


@pytest.mark.parametrize("kind", [Permanent, Transient])
def test_evidence_is_short_whatever_it_quotes(kind):
    error = kind(Reason.UNREACHABLE, "x" * 100_000)

    assert error.evidence == "x" * 497 + "..."
    assert str(error) == f"unreachable: {error.evidence}"


def test_only_curable_statuses_are_transient():
    errors = {status: of_status(status) for status in range(100, 1000) if status // 100 != 2 or status in {204, 205}}

    assert {status for status, error in errors.items() if isinstance(error, Transient)} == WORTH_A_SECOND_TRY
    assert {status for status, error in errors.items() if not isinstance(error, Permanent)} == WORTH_A_SECOND_TRY


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (204, Reason.EMPTY),
        (302, Reason.UNEXPECTED_STATUS),
        (401, Reason.HOTLINK_REFUSED),
        (403, Reason.HOTLINK_REFUSED),
        (404, Reason.GONE),
        (410, Reason.GONE),
        (418, Reason.UNEXPECTED_STATUS),
        (429, Reason.THROTTLED),
        (451, Reason.HOTLINK_REFUSED),
        (500, Reason.ORIGIN_ERROR),
        (501, Reason.ORIGIN_ERROR),
        (999, Reason.UNEXPECTED_STATUS),
    ],
)
def test_status_has_its_reason(status, reason):
    error = of_status(status)

    assert error is not None
    assert error.reason is reason


def test_unavailable_with_retry_after_is_throttling():
    error = of_status(503, 7.0)

    assert isinstance(error, Transient)
    assert (error.reason, error.retry_after) == (Reason.THROTTLED, 7.0)


def test_unavailable_without_retry_after_is_an_error_of_the_origin():
    error = of_status(503)

    assert error is not None
    assert error.reason is Reason.ORIGIN_ERROR


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Tue, 24 Nov 2026 09:00:00 GMT", 3600.0),
        ("Tuesday, 24-Nov-26 09:00:00 GMT", 3600.0),
        ("Tue Nov 24 09:00:00 2026", 3600.0),
        ("Tue, 24 Nov 2026 07:00:00 GMT", 0.0),
        (str(7 * 86400), LONGEST_RETRY_AFTER),
        (str(7 * 86400 + 1), LONGEST_RETRY_AFTER),
        ("9" * 400, LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\N{ARABIC-INDIC DIGIT SEVEN}", None),
        ("Tue, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value, seconds):
    assert retry_after_seconds(value, None, NOW) == seconds


def test_retry_after_date_is_relative_to_the_date_of_the_response():
    assert retry_after_seconds("Tue, 24 Nov 2020 09:00:00 GMT", "Tue, 24 Nov 2020 08:59:30 GMT", NOW) == 30.0


def tree(kind):
    below = kind.__subclasses__()
    return [kind, *(kind for each in below for kind in tree(each))]


ABOUT_US = {errors.TooManyOpenFiles: OperatorError, errors.InvalidProxy: SettingsError}


@pytest.mark.parametrize("kind", tree(errors.HttpError)[1:])
def test_every_error_of_http_has_a_meaning(kind):
    meaning = of_error(kind("what was seen"))

    assert isinstance(meaning, ABOUT_US.get(kind, VisitError))
    assert "what was seen" in str(meaning)


@pytest.mark.parametrize(
    ("kind", "meaning", "reason"),
    [
        (errors.InvalidUrl, Permanent, Reason.NOT_A_URL),
        (errors.PortRefused, Permanent, Reason.PORT_REFUSED),
        (errors.AddressRefused, Permanent, Reason.ADDRESS_REFUSED),
        (errors.NameNotResolved, Transient, Reason.UNRESOLVED),
        (errors.NameNotFound, Permanent, Reason.UNRESOLVED),
        (errors.ConnectFailed, Transient, Reason.UNREACHABLE),
        (errors.TlsFailed, Permanent, Reason.TLS_FAILED),
        (errors.ConnectionClosed, Transient, Reason.UNREACHABLE),
        (errors.ProtocolError, Transient, Reason.MALFORMED),
        (errors.InvalidRedirect, Permanent, Reason.MALFORMED),
        (errors.IncompleteBody, Transient, Reason.TRUNCATED),
        (errors.BodyTooLarge, Permanent, Reason.TOO_LARGE),
        (errors.TooManyRedirects, Permanent, Reason.TOO_MANY_REDIRECTS),
    ],
)
def test_error_of_http_has_its_reason_and_keeps_its_text(kind, meaning, reason):
    error = of_error(kind("what was seen"))

    assert (type(error), error.reason, error.evidence) == (meaning, reason, "what was seen")


def test_too_many_open_files_says_what_to_do():
    error = errors.TooManyOpenFiles("text")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")

    assert "ulimit -n" in str(of_error(error))


def test_link_and_url_have_the_same_limit():
    assert MAX_URL_CHARACTERS == MAX_LINK_CHARACTERS


@pytest.mark.parametrize(
    ("link", "reason"), [("no link", Reason.NOT_A_URL), ("http://a.example:22/1.png", Reason.PORT_REFUSED)]
)
def test_link_that_is_no_url_has_a_permanent_reason(link, reason):
    with pytest.raises(Permanent) as caught:
        request_url(link)

    assert caught.value.reason is reason


def test_unusable_proxy_is_an_error_of_settings():
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        proxies_of({"HTTPS_PROXY": "socks5://proxy.example"})
