from random import Random

import pytest

from rehost.errors import Permanent, Transient
from rehost.model import Reason
from rehost.run.visitor import visit_wait


@pytest.mark.parametrize("visits", [1, 2, 5, 40, 10_000])
def test_causes_that_pass_come_back_within_minutes_to_a_day(visits):
    wait = visit_wait(visits, Transient(Reason.TIMED_OUT), Random(visits))

    assert 7 * 60 <= wait <= 1.25 * 86400


@pytest.mark.parametrize("visits", [1, 2, 5, 40, 10_000])
def test_causes_that_stay_come_back_after_weeks(visits):
    wait = visit_wait(visits, Permanent(Reason.GONE), Random(visits))

    assert 10 * 86400 <= wait <= 1.25 * 56 * 86400


def test_a_long_retry_after_is_carried_to_the_next_visit():
    wait = visit_wait(1, Transient(Reason.THROTTLED, retry_after=5 * 3600.0), Random(1))

    assert wait == 5 * 3600.0
