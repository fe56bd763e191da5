import json

import pytest

from rehost.telemetry import format as figures
from rehost.telemetry.format import field, plain, plain_json


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
def test_a_size_has_about_three_digits(number, words):
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
def test_a_share_is_100_percent_only_for_the_whole(part, whole, words):
    assert words == figures.share(part, whole)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("oss.adquan.com", "oss.adquan.com"),
        ("广告门 · façade", "广告门 · façade"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("one\nvisit stored row=1", r"one\nvisit stored row=1"),
        ("a\tb\r", r"a\tb\r"),
        ("\x9b31m", r"\x9b31m"),
        ("left\u202eright", r"left\u202eright"),
        ("line\u2028separator", r"line\u2028separator"),
        ("lone \udc80", r"lone \udc80"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("👩🏽\u200d🚀 🏳\ufe0f\u200d🌈 ❤\ufe0f\u200d🔥", "👩🏽\u200d🚀 🏳\ufe0f\u200d🌈 ❤\ufe0f\u200d🔥"),
        ("pay\u200dpal 👨\u200dx x\u200d👨 \u200d", r"pay\u200dpal 👨\u200dx x\u200d👨 \u200d"),
    ],
)
def test_characters_that_act_on_a_terminal_are_escaped(text, harmless):
    assert harmless == plain(text)


def test_json_has_such_characters_as_escapes_with_the_same_value():
    value = {"row": "a\x1b\x85\x9b\x7f\u202e\u2066\u2028\u200e\U000e0001\udc80 广告门 👨\u200d👩"}

    written = plain_json(json.dumps(value, ensure_ascii=False))

    assert written.isprintable()
    assert "广告门" in written
    assert json.loads(written) == value


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("404", "404"),
        ("", '""'),
        ("403 at /a b", '"403 at /a b"'),
        ('say "no"', r'"say \"no\""'),
        ("row=1", '"row=1"'),
    ],
)
def test_a_field_is_quoted_if_it_could_be_read_as_two(text, written):
    assert written == field(text)
