"""Waits between attempts and between visits."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.errors import Permanent, Transient
from rehost.model import Reason
from rehost.retry import FIRST_ATTEMPT_WAIT, LONGEST_ATTEMPT_WAIT, attempt_wait, visit_wait


@given(st.integers(1, 50), st.integers())
def test_attempt_waits_at_most_the_cap(attempt, seed):
    wait = attempt_wait(attempt, Transient(Reason.UNREACHABLE), Random(seed))

    assert wait is not None
    assert 0 <= wait <= min(LONGEST_ATTEMPT_WAIT, FIRST_ATTEMPT_WAIT * 2 ** (attempt - 1))


def test_attempt_waits_at_least_as_long_as_the_origin_asks():
    wait = attempt_wait(1, Transient(Reason.THROTTLED, retry_after=7.0), Random(1))

    assert wait == 7.0


def test_invariant_6_wait_longer_than_seconds_is_left_to_the_next_visit():
    wait = attempt_wait(1, Transient(Reason.THROTTLED, retry_after=3600.0), Random(1))

    assert wait is None


@pytest.mark.parametrize("visits", [1, 2, 5, 40, 10_000])
def test_passing_cause_comes_back_within_minutes_to_a_day(visits):
    wait = visit_wait(visits, Transient(Reason.TIMED_OUT), Random(visits))

    assert 7 * 60 <= wait <= 1.25 * 86400


@pytest.mark.parametrize("visits", [1, 2, 5, 40, 10_000])
def test_lasting_cause_comes_back_after_weeks(visits):
    wait = visit_wait(visits, Permanent(Reason.GONE), Random(visits))

    assert 10 * 86400 <= wait <= 1.25 * 56 * 86400


def test_long_retry_after_is_kept_until_the_next_visit():
    wait = visit_wait(1, Transient(Reason.THROTTLED, retry_after=5 * 3600.0), Random(1))

    assert wait == 5 * 3600.0
