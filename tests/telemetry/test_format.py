import pytest

from rehost.telemetry import format as figures


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (400_869, "401 kB"),
        (2_464_000_000, "2.46 GB"),
        (10**16, "10000 TB"),
    ],
)
def test_a_size_has_three_digits_or_so(number, words):
    assert words == figures.size(number)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 ms"),
        (0.85, "850 ms"),
        (12.34, "12.3 s"),
        (99.96, "1 min 40 s"),
        (120, "2 min"),
        (3600 * 3 + 300, "3 h 5 min"),
        (86400 * 14, "14 d"),
        (86400 * 13 + 3600 * 22, "13 d 22 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, words):
    assert words == figures.duration(seconds)


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 0, "100%"), (0, 5, "0%"), (6140, 6141, "99.9%"), (6141, 6141, "100%"), (1, 2, "50%")],
)
def test_a_share_is_100_percent_only_for_all(part, whole, words):
    assert words == figures.share(part, whole)
