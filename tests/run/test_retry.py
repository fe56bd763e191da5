from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.errors import Permanent, Transient
from rehost.model import Reason
from rehost.run import retry as backoff


@given(st.integers(1, 50), st.integers())
def test_attempts_wait_no_longer_than_their_cap(attempt, seed):
    wait = backoff.attempt_wait(attempt, Transient(Reason.UNREACHABLE), Random(seed))

    assert wait is not None
    assert 0 <= wait <= min(backoff.LONGEST_ATTEMPT_WAIT, backoff.FIRST_ATTEMPT_WAIT * 2 ** (attempt - 1))


def test_an_attempt_waits_at_least_as_long_as_the_origin_asks():
    wait = backoff.attempt_wait(1, Transient(Reason.THROTTLED, retry_after=7.0), Random(1))

    assert wait == 7.0


def test_invariant_6_what_takes_longer_than_seconds_is_another_visits_business():
    wait = backoff.attempt_wait(1, Transient(Reason.THROTTLED, retry_after=3600.0), Random(1))

    assert wait is None


@pytest.mark.parametrize("visits", [1, 2, 5, 40, 10_000])
def test_causes_that_pass_come_back_within_minutes_to_a_day(visits):
    wait = backoff.visit_wait(visits, Transient(Reason.TIMED_OUT), Random(visits))

    assert 7 * 60 <= wait <= 1.25 * 86400


@pytest.mark.parametrize("visits", [1, 2, 5, 40, 10_000])
def test_causes_that_stay_come_back_after_weeks(visits):
    wait = backoff.visit_wait(visits, Permanent(Reason.GONE), Random(visits))

    assert 10 * 86400 <= wait <= 1.25 * 56 * 86400


def test_a_long_retry_after_is_carried_to_the_next_visit():
    wait = backoff.visit_wait(1, Transient(Reason.THROTTLED, retry_after=5 * 3600.0), Random(1))

    assert wait == 5 * 3600.0
