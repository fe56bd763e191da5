from datetime import UTC, datetime

import pytest

from rehost.errors import Permanent, Transient
from rehost.fetch.status import LONGEST_RETRY_AFTER, of_status, retry_after_seconds
from rehost.model import Reason

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)
WORTH_A_SECOND_TRY = {408, 425, 429, 500, 502, 503, 504}


@pytest.mark.parametrize("status", [200, 203])
def test_a_body_may_be_the_picture(status):
    assert of_status(status) is None


def test_only_what_a_second_try_can_cure_is_transient():
    errors = {status: of_status(status) for status in range(100, 1000) if status not in {200, 203}}

    assert {status for status, error in errors.items() if isinstance(error, Transient)} == WORTH_A_SECOND_TRY
    assert {status for status, error in errors.items() if not isinstance(error, Permanent)} == WORTH_A_SECOND_TRY


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (204, Reason.EMPTY),
        (206, Reason.UNEXPECTED_STATUS),
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
def test_a_status_has_its_reason(status, reason):
    error = of_status(status)

    assert error is not None
    assert error.reason is reason


def test_unavailable_with_a_time_to_come_back_is_throttling():
    error = of_status(503, 7.0)

    assert isinstance(error, Transient)
    assert (error.reason, error.retry_after) == (Reason.THROTTLED, 7.0)


def test_unavailable_without_one_is_the_origins_error():
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


def test_a_date_is_read_by_the_origins_own_clock():
    assert retry_after_seconds("Tue, 24 Nov 2020 09:00:00 GMT", "Tue, 24 Nov 2020 08:59:30 GMT", NOW) == 30.0
