import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.server.files.ranges import Span, spans


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
def test_ranges_of_the_rfc_are_understood(header, expected):
    assert spans(header, 10000) == tuple(Span(start, end) for start, end in expected)


@pytest.mark.parametrize("header", ["bytes=10000-", "bytes=10000-10001", "bytes=-0", "bytes=99999-,20000-30000"])
def test_what_lies_behind_the_end_is_nothing(header):
    assert spans(header, 10000) == ()


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
def test_what_is_no_range_is_ignored(header):
    assert spans(header, 10000) is None


def test_too_many_ranges_are_ignored():
    assert spans("bytes=" + ",".join(f"{number * 10}-{number * 10}" for number in range(9)), 10**6) is None


def test_ranges_that_cost_more_than_the_file_are_ignored():
    assert spans("bytes=0-0,2-2,4-4,6-6", 500) is None


@given(header=st.text("0123456789-, \t", max_size=40), size=st.integers(1, 1000))
def test_any_answer_lies_within_the_file_in_order(header, size):
    found = spans(f"bytes={header}", size) or ()

    ends = [-1] + [span.end for span in found]
    assert all(end < span.start < span.end <= size for end, span in zip(ends, found, strict=False))
