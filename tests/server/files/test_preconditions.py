from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.server.files.preconditions import parse_range, precondition, range_applies

MODIFIED = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"
ETAGS = frozenset({'"here"', '"now"'})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"if-none-match": '"here"'}, 304),
        ({"if-none-match": '"now"'}, 304),
        ({"if-none-match": 'W/"here"'}, 304),
        ({"if-none-match": '"a,b", "here"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"gone"'}, None),
        ({"if-none-match": "here"}, None),
        ({"if-modified-since": SAME}, 304),
        ({"if-modified-since": AFTER}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 304),
        ({"if-modified-since": "Sun Nov  6 08:49:37 1994"}, 304),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-modified-since": "Sun, 06 Nov 99999999999 08:49:37 GMT"}, None),
        ({"if-none-match": '"gone"', "if-modified-since": SAME}, None),  # the tag decides
        ({"if-match": '"here"'}, None),
        ({"if-match": 'W/"here"'}, 412),
        ({"if-match": '"gone"'}, 412),
        ({"if-match": "*"}, None),
        ({"if-unmodified-since": SAME}, None),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-match": '"here"', "if-unmodified-since": BEFORE}, None),
        ({"if-match": '"here"', "if-none-match": '"here"'}, 304),
    ],
)
def test_preconditions_are_evaluated_in_the_order_of_the_rfc(headers, expected):
    assert precondition(headers, ETAGS, MODIFIED) == expected


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (None, True),
        ('"here"', True),
        ('W/"here"', False),
        ('"gone"', False),
        (SAME, True),
        (AFTER, False),
        ("x", False),
    ],
)
def test_range_applies_only_if_if_range_names_the_current_bytes(validator, expected):
    headers = {} if validator is None else {"if-range": validator}

    assert range_applies(headers, ETAGS, MODIFIED) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10000)]),
        ("bytes=9500-", [(9500, 10000)]),
        ("bytes=0-0", [(0, 1)]),
        ("Bytes=0-0", [(0, 1)]),  # range units are case-insensitive
        ("bytes=0-0,-1", [(0, 1), (9999, 10000)]),
        ("bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10000)]),
        ("bytes=500-600,601-999", [(500, 1000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        ("bytes=5000-5009,0-9", [(0, 10), (5000, 5010)]),
        ("bytes=0-99999", [(0, 10000)]),
        ("bytes=-99999", [(0, 10000)]),
        ("bytes=,0-0,", [(0, 1)]),
        ("bytes=99999-,0-0", [(0, 1)]),
    ],
)
def test_ranges_are_parsed_as_in_the_rfc(header, expected):
    assert parse_range(header, 10000) == tuple(range(start, end) for start, end in expected)


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999-,20000-30000"])
def test_ranges_after_the_end_are_empty(header):
    assert parse_range(header, 10000) == ()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=5-4",
        "items=0-1",
        "bytes=0-1;2-3",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=٣-٤",
        "bytes=0-" + "9" * 40,
    ],
)
def test_invalid_range_header_is_ignored(header):
    assert parse_range(header, 10000) is None


def test_too_many_ranges_are_ignored():
    assert parse_range("bytes=" + ",".join(f"{number * 10}-{number * 10}" for number in range(9)), 10**6) is None


def test_ranges_that_cost_more_than_the_file_are_ignored():
    assert parse_range("bytes=0-0,2-2,4-4,6-6", 500) is None


@given(header=st.text("0123456789-, \t", max_size=40), size=st.integers(1, 1000))
def test_parsed_ranges_lie_within_the_file_in_order(header, size):
    found = parse_range(f"bytes={header}", size) or ()

    ends = [-1] + [span.stop for span in found]
    assert all(end < span.start < span.stop <= size for end, span in zip(ends, found, strict=False))
