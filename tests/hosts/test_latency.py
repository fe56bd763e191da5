import pytest

from rehost.hosts.latency import ENOUGH, FIRST_SECONDS, LEAST_SECONDS, MOST_EARNED, LatencyTracker

HOST = "a.test"


def known(*seconds):
    habits = LatencyTracker()
    for each in seconds:
        habits.answered(HOST, each)
    return habits


def test_a_host_that_has_shown_little_is_given_long_and_then_all_the_time():
    habits = known(*[0.1] * (ENOUGH - 1))
    others = LatencyTracker()
    others.gave_up(HOST)

    assert LatencyTracker().seconds(HOST) == habits.seconds(HOST) == FIRST_SECONDS
    assert others.seconds(HOST) is None


def test_a_quick_host_is_given_half_a_second():
    assert known(*[0.01] * 20).seconds(HOST) == LEAST_SECONDS


@pytest.mark.parametrize(("one", "other"), [(1.0, 3.0), (0.5, 5.0)])
def test_a_host_is_given_more_than_its_answers_take(one, other):
    habits = known(*[one, other] * 20)

    assert habits.seconds(HOST) > other


def test_no_more_than_a_tenth_of_the_answers_is_not_waited_for():
    habits, given_up = known(*[0.1] * ENOUGH), 0
    for _ in range(1000):
        if habits.seconds(HOST) is None:
            habits.answered(HOST, 0.1)
        else:
            habits.gave_up(HOST)
            given_up += 1

    assert 80 < given_up <= 100


def test_a_host_that_dies_is_soon_given_all_the_time():
    habits = known(*[0.1] * 1000)
    for _ in range(int(MOST_EARNED)):
        habits.gave_up(HOST)

    assert habits.seconds(HOST) is None
