import pytest

from rehost.hosts.pacing import FIRST_SECONDS, MAX_CREDIT, MAX_HOSTS, MIN_ANSWERS, MIN_SECONDS, LatencyTracker

HOST = "a.test"


def known(*seconds):
    tracker = LatencyTracker()
    for each in seconds:
        tracker.answered(HOST, each)
    return tracker


def test_host_with_few_answers_gets_three_seconds_and_after_a_timeout_no_limit():
    tracker = known(*[0.1] * (MIN_ANSWERS - 1))
    others = LatencyTracker()
    others.gave_up(HOST)

    assert LatencyTracker().seconds(HOST) == tracker.seconds(HOST) == FIRST_SECONDS
    assert others.seconds(HOST) is None


def test_quick_host_gets_half_a_second():
    assert known(*[0.01] * 20).seconds(HOST) == MIN_SECONDS


@pytest.mark.parametrize(("one", "other"), [(1.0, 3.0), (0.5, 5.0)])
def test_host_gets_more_time_than_its_answers_take(one, other):
    tracker = known(*[one, other] * 20)

    assert tracker.seconds(HOST) > other


def test_at_most_a_tenth_of_the_answers_is_given_up():
    tracker, given_up = known(*[0.1] * MIN_ANSWERS), 0
    for _ in range(1000):
        if tracker.seconds(HOST) is None:
            tracker.answered(HOST, 0.1)
        else:
            tracker.gave_up(HOST)
            given_up += 1

    assert 80 < given_up <= 100


def test_host_that_dies_soon_has_no_limit():
    tracker = known(*[0.1] * 1000)
    for _ in range(int(MAX_CREDIT)):
        tracker.gave_up(HOST)

    assert tracker.seconds(HOST) is None


def test_least_recently_used_hosts_are_dropped():
    tracker = known(*[0.1] * MIN_ANSWERS)
    for number in range(MAX_HOSTS):
        tracker.answered(f"{number}.test", 0.1)

    assert tracker.seconds(HOST) == FIRST_SECONDS
