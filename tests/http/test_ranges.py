from pathlib import Path

import pytest

from rehost.http.ranges import fields_for, is_strong, media_type, validator_of, whole_size
from rehost.model import Partial, Request, Validator

SPOOL = Path("spool")
REST = {"Content-Range": "bytes 100-299/300", "ETag": '"a"', "Content-Length": "200"}


@pytest.mark.parametrize("etag", ['"a"', '""', '"a-b:c!"'])
def test_a_strong_etag_lets_ranges_be_joined(etag):
    assert is_strong(Validator(etag))


@pytest.mark.parametrize("etag", [None, 'W/"a"', "a", '"a', '"a b"', '"a""', "w/"])
def test_anything_else_does_not(etag):
    assert not is_strong(Validator(etag, "Sun, 28 Jun 2020 08:00:00 GMT"))


def test_a_validator_that_no_database_would_take_is_left_out():
    assert validator_of({"ETag": '"\udcff"', "Last-Modified": "x" * 2000}) == Validator(None, None)


def test_a_plain_request_has_no_conditions():
    assert fields_for(Request("https://a.example/", SPOOL)) == {}


def test_a_known_validator_makes_a_request_conditional():
    request = Request("https://a.example/", SPOOL, validator=Validator('W/"a"', "Sun, 28 Jun 2020 08:00:00 GMT"))

    assert fields_for(request) == {
        "If-None-Match": 'W/"a"',
        "If-Modified-Since": "Sun, 28 Jun 2020 08:00:00 GMT",
    }


def test_a_partial_asks_for_the_rest_of_the_same_bytes_only():
    partial = Partial(SPOOL, 100, Validator('"a"', "Sun, 28 Jun 2020 08:00:00 GMT"))

    fields = fields_for(Request("https://a.example/", SPOOL, validator=Validator('"old"'), partial=partial))

    assert fields == {"Range": "bytes=100-", "If-Range": '"a"'}


@pytest.mark.parametrize("without", [None, "ETag", "Content-Length"])
def test_a_rest_that_fits_says_how_large_the_whole_is(without):
    headers = {name: value for name, value in REST.items() if name != without}

    assert whole_size(headers, 100, '"a"') == 300


@pytest.mark.parametrize(
    "change",
    [
        {"Content-Range": "bytes 0-299/300"},
        {"Content-Range": "bytes 101-299/300"},
        {"Content-Range": "bytes 100-298/300"},
        {"Content-Range": "bytes 100-299/301"},
        {"Content-Range": "bytes 100-299/*"},
        {"Content-Range": "bytes */300"},
        {"Content-Range": "octets 100-299/300"},
        {"Content-Range": "bytes 100-299/300" + "0" * 50},
        {"Content-Range": ""},
        {"ETag": '"b"'},
        {"ETag": 'W/"a"'},
        {"Content-Length": "199"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_what_does_not_fit_is_not_joined(change):
    assert whole_size(REST | change, 100, '"a"') is None


@pytest.mark.parametrize(
    ("value", "announced"),
    [
        ("image/png", "image/png"),
        ("Image/JPEG; charset=utf-8", "image/jpeg"),
        ("image/png%;text/html", None),
        ("<script>", None),
        ("", None),
        ("图/图", None),
    ],
)
def test_a_media_type_is_kept_where_it_is_one(value, announced):
    assert media_type({"Content-Type": value}) == announced
