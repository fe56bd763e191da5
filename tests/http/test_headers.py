import pytest

from rehost.http.headers import Fields, request


def fields(*pairs):
    made = Fields()
    for name, value in pairs:
        made.add(name, value)
    return made


def test_a_field_is_found_whatever_the_case_of_its_name():
    assert fields((b"ETag", b'"1"'))["etag"] == '"1"'
    assert "CONTENT-type" in fields((b"Content-Type", b"image/png"))


def test_of_a_name_that_came_twice_the_first_value_counts_and_all_are_known():
    came = fields((b"X-Robots-Tag", b"noindex"), (b"Date", b""), (b"x-robots-tag", b"noai"))

    assert came.get("X-Robots-Tag") == "noindex"
    assert came.all("X-Robots-Tag") == ["noindex", "noai"]
    assert came.all("Location") == []
    assert list(came) == ["x-robots-tag", "date"]


def test_a_list_may_come_in_several_lines():
    came = fields((b"Transfer-Encoding", b"identity"), (b"transfer-encoding", b" chunked"))

    assert came.listed("Transfer-Encoding") == "identity, chunked"
    assert came.listed("Content-Encoding") == ""


def test_white_space_around_a_value_is_none_of_it_and_stray_bytes_are_kept():
    came = fields((b"Location", b" /\xcd\xbc \t"))

    assert came["Location"].encode("utf-8", "surrogateescape") == b"/\xcd\xbc"


def test_a_request_is_what_goes_over_the_wire():
    assert request("GET", "/a?b", {"Host": "a.example", "Cookie": "é=1"}) == (
        "GET /a?b HTTP/1.1\r\nHost: a.example\r\nCookie: é=1\r\n\r\n".encode()
    )


@pytest.mark.parametrize("text", ["a\r\nX: b", "a\nX: b", "a\rX: b", "a\r\n"])
def test_no_part_of_a_request_can_say_more_than_it_is(text):
    with pytest.raises(ValueError, match="line break"):
        request("GET", "/", {"Cookie": text})
    with pytest.raises(ValueError, match="line break"):
        request("GET", f"/{text}", {})
