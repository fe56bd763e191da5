import ada_url
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehost.errors import Permanent, VisitError
from rehost.http.url import _PLAIN, BAD_PORTS, _normalise, host_of, next_hop, normalise, origin_of, port_of
from rehost.model import MAX_LINK_CHARACTERS, Reason

AS_BROWSERS_READ_THEM = {
    "https://oss.adquan.com/upload/a.png": "https://oss.adquan.com/upload/a.png",
    "  https://a.example/b.png\n": "https://a.example/b.png",
    "\u3000https://a.example/b.png\xa0": "https://a.example/b.png",
    "HTTPS://A.EXAMPLE/B.PNG": "https://a.example/B.PNG",
    "//a.example/b.png": "https://a.example/b.png",
    "https://a.example": "https://a.example/",
    "https://a.example:443/b.png": "https://a.example/b.png",
    "http://a.example:443/b.png": "http://a.example:443/b.png",
    "https://a.example/a b.png": "https://a.example/a%20b.png",
    "https://a.example/图片.png": "https://a.example/%E5%9B%BE%E7%89%87.png",
    "https://a.example/b.png?名=值": "https://a.example/b.png?%E5%90%8D=%E5%80%BC",
    "https://a.example/b.png#part": "https://a.example/b.png",
    "https://a.example/b.png#": "https://a.example/b.png",
    "https://a.example/b.png?x=%2f%zz": "https://a.example/b.png?x=%2f%zz",
    "https://a.example/x/../b.png": "https://a.example/b.png",
    "https://a.example\\b.png": "https://a.example/b.png",
    "https:a.example/b.png": "https://a.example/b.png",
    "https://例子.测试/b.png": "https://xn--fsqu00a.xn--0zwm56d/b.png",
    "https://faß.example/b.png": "https://xn--fa-hia.example/b.png",  # UTS #46, not transitional
    "https://☺.example/b.png": "https://xn--74h.example/b.png",
    "https://some_thing.example/b.png": "https://some_thing.example/b.png",
    "https://a.example./b.png": "https://a.example./b.png",
    "http://0x7f.1/": "http://127.0.0.1/",
    "http://①②⑦.0.0.1/": "http://127.0.0.1/",
    "http://[2001:DB8:0:0::1]/": "http://[2001:db8::1]/",
}

NO_URLS = [
    "",
    "   ",
    "no picture",
    "a.example/b.png",
    "/b.png",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "data:image/png;base64,AAAA",
    "ftp://a.example/b.png",
    "http://",
    "http://[::1",
    "http://a b.example/",
    "http://a.example:99999/",
    "http://1.2.3.4.5/",
    "http://a..example/",
    f"http://{'a' * 64}.example/",
    "http://xn--pokxncvks/",
    "http://a.exa\nmple/b.png",
    "http://a.example/b\tc.png",
    "http://a.example\0.b.example/",
    "http://user:word@a.example/b.png",
    "http://user@a.example/b.png",
    f"{' ' * 100}http://a.example/{'b' * MAX_LINK_CHARACTERS}"[: MAX_LINK_CHARACTERS + 1],
    "http://a.example\\@b.example/",
    "https://a.example/" + "x" * 40_000,
    "https://a.example/" + "图" * 20_000,
    "https://\ud800.example/",
]


@pytest.mark.parametrize(("link", "url"), AS_BROWSERS_READ_THEM.items())
def test_a_link_is_read_as_browsers_read_it(link, url):
    assert normalise(link) == url


@pytest.mark.parametrize("link", NO_URLS)
def test_what_is_no_url_is_refused_as_such(link):
    with pytest.raises(Permanent) as caught:
        normalise(link)

    assert caught.value.reason is Reason.NOT_A_URL


def test_three_thousand_characters_are_a_link():
    link = "https://a.example/" + "x" * 3_000

    assert normalise(link) == link


def test_a_relative_link_starts_from_the_base():
    assert normalise("../b.png", "https://a.example/x/y/z.html") == "https://a.example/x/b.png"


def test_without_a_scheme_the_bases_own_is_meant():
    assert normalise("//b.example/b.png", "http://a.example/") == "http://b.example/b.png"


@pytest.mark.parametrize("port", sorted(BAD_PORTS))
def test_a_port_that_browsers_refuse_is_refused(port):
    with pytest.raises(Permanent) as caught:
        normalise(f"http://a.example:{port}/b.png")

    assert caught.value.reason is Reason.PORT_REFUSED


def test_evidence_holds_no_query():
    with pytest.raises(Permanent) as caught:
        normalise("gopher://a.example/?signature=secret")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin", "host", "port"),
    [
        ("https://a.example/b", "https://a.example", "a.example", 443),
        ("http://a.example:8080/b", "http://a.example:8080", "a.example", 8080),
        ("http://[2001:db8::1]/b", "http://[2001:db8::1]", "2001:db8::1", 80),
    ],
)
def test_a_url_has_an_origin_a_host_and_a_port(url, origin, host, port):
    assert (origin_of(url), host_of(url), port_of(url)) == (origin, host, port)


def test_raw_bytes_of_a_redirect_are_sent_back_as_they_came():
    location = "/图.png".encode("gbk").decode("utf-8", "surrogateescape")

    assert next_hop("https://a.example/", location) == "https://a.example/%CD%BC.png"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[::", "http://u:p@a.example/", "a\nb"])
def test_a_redirect_to_no_web_address_breaks_http(location):
    with pytest.raises(Permanent) as caught:
        next_hop("https://a.example/", location)

    assert caught.value.reason is Reason.MALFORMED


any_link = st.one_of(
    st.text(),
    st.builds("http{}://{}/{}".format, st.sampled_from(["", "s"]), st.text(max_size=20), st.text(max_size=20)),
    st.builds("https://a.example{}".format, st.text(max_size=40)),
)


@given(any_link)
@example("http://a/%")
@example("https://a.example:0443?#")
def test_whatever_a_cell_holds_it_is_a_plain_url_or_refused(link):
    try:
        url = normalise(link)
    except VisitError:
        return

    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert url.startswith(("http://", "https://"))
    assert "#" not in url
    assert normalise(url) == url


@given(any_link, any_link)
def test_wherever_a_redirect_leads_it_is_a_plain_url_or_refused(first, second):
    try:
        url = next_hop(normalise(first), second)
    except VisitError:
        return

    assert normalise(url) == url


almost_plain = st.builds(
    "{}://{}/{}{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["a.example", "a.example:8080", "a.example:22", "a.example:443", "127.0.0.1:80", "127.1", "a..b"]),
    st.lists(st.sampled_from([*"ab9.-_~'=:@/", "./", "..", "%2e", "%41", "//"]), max_size=8).map("".join),
    st.lists(st.sampled_from([*"?a=&%/'.", "é", " ", "#"]), max_size=5).map("".join),
)


@given(almost_plain)
@example("https://a.example/upload/20200628/1.png?x=1")
@example("https://a.example/..")
@example("https://a.example/a?b'c")
def test_what_is_plain_already_reads_as_the_parser_reads_it(link):
    def outcome(read):
        try:
            return read()
        except Permanent as error:
            return error.reason, error.evidence

    read = outcome(lambda: normalise(link))

    assert read == outcome(lambda: _normalise(link, None))
    if isinstance(read, str):
        parsed = ada_url.URL(read)
        assert origin_of(read) == str(parsed.origin)
        assert host_of(read) == str(parsed.hostname)


def test_the_links_of_the_wild_are_plain():
    assert _PLAIN.fullmatch("https://oss.adquan.com/upload/20200628/159333611702b57de84188551c.png")
