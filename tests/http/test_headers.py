import pytest

from rehost.http.headers import (
    Headers,
    condition,
    encode_request,
    is_strong,
    media_type,
    rest_range,
    size_of_whole,
    validators,
)

REST = {"Content-Range": "bytes 100-299/300", "ETag": '"a"', "Content-Length": "200"}


def headers(*pairs):
    made = Headers()
    for name, value in pairs:
        made.add(name, value)
    return made


def test_field_is_found_in_any_case_of_its_name():
    assert headers((b"ETag", b'"1"'))["etag"] == '"1"'
    assert "CONTENT-type" in headers((b"Content-Type", b"image/png"))


def test_repeated_field_has_its_first_value_and_all_values():
    received = headers((b"X-Robots-Tag", b"noindex"), (b"Date", b""), (b"x-robots-tag", b"noai"))

    assert received.get("X-Robots-Tag") == "noindex"
    assert received.all("X-Robots-Tag") == ["noindex", "noai"]
    assert received.all("Location") == []
    assert list(received) == ["x-robots-tag", "date"]


def test_lines_of_a_list_field_are_joined():
    received = headers((b"Transfer-Encoding", b"identity"), (b"transfer-encoding", b" chunked"))

    assert received.joined("Transfer-Encoding") == "identity, chunked"
    assert received.joined("Content-Encoding") == ""


def test_white_space_around_a_value_is_dropped_and_stray_bytes_are_kept():
    received = headers((b"Location", b" /\xcd\xbc \t"))

    assert received["Location"].encode("utf-8", "surrogateescape") == b"/\xcd\xbc"


def test_request_is_encoded_as_it_is_sent():
    assert encode_request("GET", "/a?b", {"Host": "a.example", "Cookie": "é=1"}) == (
        "GET /a?b HTTP/1.1\r\nHost: a.example\r\nCookie: é=1\r\n\r\n".encode()
    )


@pytest.mark.parametrize("text", ["a\r\nX: b", "a\nX: b", "a\rX: b", "a\r\n"])
def test_line_break_in_a_part_of_a_request_is_refused(text):
    with pytest.raises(ValueError, match="line break"):
        encode_request("GET", "/", {"Cookie": text})
    with pytest.raises(ValueError, match="line break"):
        encode_request("GET", f"/{text}", {})


@pytest.mark.parametrize("etag", ['"a"', '""', '"a-b:c!"'])
def test_strong_etag_allows_joined_ranges(etag):
    assert is_strong(etag)


@pytest.mark.parametrize("etag", [None, 'W/"a"', "a", '"a', '"a b"', '"a""', "w/"])
def test_any_other_etag_does_not(etag):
    assert not is_strong(etag)


def test_validator_that_is_not_printable_is_left_out():
    assert validators({"ETag": '"\udcff"', "Last-Modified": "x" * 2000}) == (None, None)


def test_validators_of_a_response_are_etag_and_last_modified():
    assert validators({"ETag": 'W/"a"', "Last-Modified": "now"}) == ('W/"a"', "now")
    assert validators({}) == (None, None)


def test_request_without_validators_has_no_condition():
    assert condition(None, None) == {}


def test_validators_make_a_request_conditional():
    assert condition('W/"a"', "Sun, 28 Jun 2020 08:00:00 GMT") == {
        "If-None-Match": 'W/"a"',
        "If-Modified-Since": "Sun, 28 Jun 2020 08:00:00 GMT",
    }


def test_rest_is_requested_of_the_same_body_only():
    assert rest_range(100, '"a"') == {"Range": "bytes=100-", "If-Range": '"a"'}


@pytest.mark.parametrize("without", [None, "ETag", "Content-Length"])
def test_rest_that_fits_has_the_size_of_the_whole(without):
    headers = {name: value for name, value in REST.items() if name != without}

    assert size_of_whole(headers, 100, '"a"') == 300


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
def test_rest_that_does_not_fit_has_none(change):
    assert size_of_whole(REST | change, 100, '"a"') is None


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
def test_media_type_is_read_if_it_is_well_formed(value, announced):
    assert media_type({"Content-Type": value}) == announced
