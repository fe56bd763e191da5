from datetime import UTC, datetime

import pytest

from rehost.server.files.conditions import precondition, range_holds

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
def test_precondition_is_judged_as_the_rfc_orders(headers, expected):
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
def test_range_holds_only_for_the_very_bytes(validator, expected):
    headers = {} if validator is None else {"if-range": validator}

    assert range_holds(headers, ETAGS, MODIFIED) is expected
