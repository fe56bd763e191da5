import ada_url
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rehost.http.errors import HttpError, InvalidRedirect, InvalidUrl, PortRefused, TooManyRedirects
from rehost.http.url import (
    BAD_PORTS,
    MAX_URL_CHARACTERS,
    Cookies,
    FirstMatch,
    OriginPattern,
    RedirectChain,
    domain_of,
    host_of,
    normalise,
    origin_of,
    parse_host,
    port_of,
    read_origin,
    registrable_domain,
    with_scheme_of,
)

AS_BROWSERS_READ_THEM = {
    "https://oss.adquan.com/upload/a.png": "https://oss.adquan.com/upload/a.png",
    "  https://a.example/b.png\n": "https://a.example/b.png",
    "\u3000https://a.example/b.png\xa0": "https://a.example/b.png",
    "HTTPS://A.EXAMPLE/B.PNG": "https://a.example/B.PNG",
    "//a.example/b.png": "https://a.example/b.png",
    "http://a.example/\nb\n.png": "http://a.example/b.png",
    "http://a.example/\r\n\t\tb\tc.png": "http://a.example/bc.png",
    "ht\ttp:/\t\n/a.example/b.png": "http://a.example/b.png",
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
    "http://a.exa\rmple/b.png",
    "http://a.example/te\r\nst.png",
    "http://a.example/b.png\nhttp://a.example/c.png",
    "http://a.exa\vmple/b.png",
    "http://a.example/b\x1fc.png",
    "http://a.example/b\x7f.png",
    "http://a.example\0.b.example/",
    "http://user:word@a.example/b.png",
    "http://user@a.example/b.png",
    f"{' ' * 100}http://a.example/{'b' * MAX_URL_CHARACTERS}"[: MAX_URL_CHARACTERS + 1],
    "http://a.example\\@b.example/",
    "https://a.example/" + "x" * 40_000,
    "https://a.example/" + "图" * 20_000,
    "https://\ud800.example/",
]


@pytest.mark.parametrize(("link", "url"), AS_BROWSERS_READ_THEM.items())
def test_url_is_read_as_browsers_read_it(link, url):
    assert normalise(link) == url


@pytest.mark.parametrize("link", NO_URLS)
def test_text_that_is_no_url_is_refused(link):
    with pytest.raises(InvalidUrl) as caught:
        normalise(link)

    assert not isinstance(caught.value, PortRefused)


def test_url_of_three_thousand_characters_is_accepted():
    link = "https://a.example/" + "x" * 3_000

    assert normalise(link) == link


def test_relative_url_starts_from_the_base():
    assert normalise("../b.png", "https://a.example/x/y/z.html") == "https://a.example/x/b.png"


def test_url_without_a_scheme_has_the_scheme_of_the_base():
    assert normalise("//b.example/b.png", "http://a.example/") == "http://b.example/b.png"


@pytest.mark.parametrize("port", sorted(BAD_PORTS))
def test_port_that_browsers_refuse_is_refused(port):
    with pytest.raises(PortRefused):
        normalise(f"http://a.example:{port}/b.png")


def test_error_does_not_quote_the_query():
    with pytest.raises(InvalidUrl) as caught:
        normalise("gopher://a.example/?signature=secret")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin", "host", "port"),
    [
        ("https://a.example/b", "https://a.example", "a.example", 443),
        ("http://a.example:8080/b", "http://a.example:8080", "a.example", 8080),
        ("http://[2001:db8::1]/b", "http://[2001:db8::1]", "2001:db8::1", 80),
        ("http://a.example.:8080/b", "http://a.example.:8080", "a.example", 8080),
    ],
)
def test_url_has_an_origin_a_host_and_a_port(url, origin, host, port):
    assert (origin_of(url), host_of(url), port_of(url)) == (origin, host, port)


@pytest.mark.parametrize(
    ("text", "page", "url"),
    [
        ("//a.example/b", "https://b.example/", "https://a.example/b"),
        ("//a.example/b", "http://b.example/", "http://a.example/b"),
        ("  //a.example/b", " HTTP://b.example/", "http://a.example/b"),
        ("\\\\a.example/b", "http://b.example/", "http://a.example/b"),
        ("//a.example/b", None, "https://a.example/b"),
        ("//a.example/b", "no page", "https://a.example/b"),
        ("https://a.example/b", "http://b.example/", "https://a.example/b"),
    ],
)
def test_url_without_a_scheme_has_that_of_its_page(text, page, url):
    assert normalise(with_scheme_of(text, page)) == url
    assert read_origin(text, page) == origin_of(url)


def followed(url, location):
    chain = RedirectChain(url, 1)
    chain.follow(location)
    return chain.url


def test_raw_bytes_of_a_location_are_sent_back_unchanged():
    location = "/图.png".encode("gbk").decode("utf-8", "surrogateescape")

    assert followed("https://a.example/", location) == "https://a.example/%CD%BC.png"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[::", "http://u:p@a.example/", "a\nb", "a\vb"])
def test_location_that_is_no_web_address_is_invalid(location):
    with pytest.raises(InvalidRedirect):
        followed("https://a.example/", location)


any_link = st.one_of(
    st.text(),
    st.builds("http{}://{}/{}".format, st.sampled_from(["", "s"]), st.text(max_size=20), st.text(max_size=20)),
    st.builds("https://a.example{}".format, st.text(max_size=40)),
)


@given(any_link)
@example("http://a/%")
@example("https://a.example:0443?#")
def test_any_text_is_a_plain_url_or_refused(link):
    try:
        url = normalise(link)
    except HttpError:
        return

    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert url.startswith(("http://", "https://"))
    assert "#" not in url
    assert normalise(url) == url


@given(any_link, any_link)
def test_any_redirect_leads_to_a_plain_url_or_is_refused(first, second):
    try:
        url = followed(normalise(first), second)
    except HttpError:
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
def test_fast_path_reads_urls_as_the_parser_does(link):
    def outcome(read):
        try:
            return read()
        except InvalidUrl as error:
            return type(error), str(error)

    read = outcome(lambda: normalise(link))

    assert read == outcome(lambda: normalise(link, "https://base.example/"))  # a base leaves no way but the parser
    if isinstance(read, str):
        parsed = ada_url.URL(read)
        assert origin_of(read) == str(parsed.origin)
        assert host_of(read) == str(parsed.hostname).removesuffix(".")


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("a.example", "https://a.example./x", True),
        ("a.example.", "https://a.example/x", True),
        ("*.example", "https://a.example./x", True),
        ("https://a.example:8443", "https://a.example.:8443/x", True),
        ("https://a.example.", "https://a.example/x", True),
        ("a.example", "https://a.example/", True),
        ("A.example", "http://a.example:8080/", True),
        ("a.example", "https://b.a.example/", False),
        ("*.a.example", "https://b.a.example/", True),
        ("*.a.example", "https://a.example/", True),
        ("*.a.example", "https://xa.example/", False),
        ("https://a.example", "https://a.example/", True),
        ("https://a.example", "http://a.example/", False),
        ("http://a.example:8080", "http://a.example:8080/", True),
    ],
)
def test_pattern_matches_hosts_and_origins(pattern, url, matches):
    assert OriginPattern(pattern).matches(url) is matches


def test_pattern_of_an_origin_matches_its_host():
    assert OriginPattern("https://a.example:8443").matches_host("a.example")
    assert not OriginPattern("https://a.example:8443").matches_host("b.example")


def chain(*locations, url="https://a.example/1", limit=5):
    made = RedirectChain(url, limit)
    for location in locations:
        made.follow(location)
    return made


def test_chain_follows_locations_from_url_to_url():
    assert chain("2", "//b.example/3").url == "https://b.example/3"


@pytest.mark.parametrize("locations", [("/1",), ("/2", "/1"), ("/2", "/3", "/2")])
def test_chain_that_leads_back_is_a_circle(locations):
    with pytest.raises(TooManyRedirects, match="a circle"):
        chain(*locations)


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_chain_ends_after_the_allowed_redirects(limit):
    allowed = [f"/{number}" for number in range(2, limit + 2)]

    assert chain(*allowed, limit=limit).url == f"https://a.example/{limit + 1}"
    with pytest.raises(TooManyRedirects, match=f"more than {limit}"):
        chain(*allowed, "/end", limit=limit)


def test_chain_that_leads_back_with_another_cookie_is_no_circle():
    made = RedirectChain("https://a.example/1", 9)
    made.follow("/1", ["seen=1"])
    assert (made.url, made.fit({"Accept": "*/*"})) == ("https://a.example/1", {"Accept": "*/*", "Cookie": "seen=1"})

    made.follow("/1", ["seen=2", "more=1"])
    assert made.fit({}) == {"Cookie": "seen=2; more=1"}
    with pytest.raises(TooManyRedirects, match="a circle"):
        made.follow("/1", ["seen=1", "more=; Max-Age=0"])


@pytest.mark.parametrize("limit", [0, 3])
def test_new_cookies_for_ever_end_after_the_allowed_redirects(limit):
    made = RedirectChain("https://a.example/1", limit)
    for number in range(limit):
        made.follow("/1", [f"n={number}"])

    with pytest.raises(TooManyRedirects, match=f"more than {limit}"):
        made.follow("/1", ["n=end"])


@pytest.mark.parametrize(
    ("field", "url", "sent"),
    [
        ("n=v", "https://img.a.example/x", "n=v"),
        ("n=v", "https://img.a.example/", "n=v"),
        ("n=v", "http://img.a.example/x", "n=v"),
        ("n=v", "https://a.example/x", ""),
        ("n=v", "https://b.img.a.example/x", ""),
        ("n=v; Domain=a.example", "https://a.example/x", "n=v"),
        ("n=v; domain=.A.example", "https://other.a.example/x", "n=v"),
        ("n=v; domain=img.a.example", "https://b.img.a.example/x", "n=v"),
        ("n=v; domain=a.example", "https://xa.example/x", ""),
        ("n=v; domain=example", "https://img.a.example/x", ""),
        ("n=v; domain=other.a.example", "https://other.a.example/x", ""),
        ("n=v; domain=b.example", "https://b.example/x", ""),
        ("n=v; path=/p", "https://img.a.example/p", "n=v"),
        ("n=v; path=/p", "https://img.a.example/p/1", "n=v"),
        ("n=v; path=/p", "https://img.a.example/p?q=/p", "n=v"),
        ("n=v; path=/p", "https://img.a.example/pp", ""),
        ("n=v; path=p", "https://img.a.example/x", "n=v"),
        ("n=v; Secure", "https://img.a.example/x", "n=v"),
        ("n=v; Secure", "http://img.a.example/x", ""),
        ("n=a=b; HttpOnly; SameSite=Lax; Priority=High", "https://img.a.example/x", "n=a=b"),
        (' n = "v" ;Path=/', "https://img.a.example/x", 'n="v"'),
        ("n=", "https://img.a.example/x", "n="),
        ("n", "https://img.a.example/x", ""),
        ("=v", "https://img.a.example/x", ""),
        ("", "https://img.a.example/x", ""),
        ("n=v\rX: y", "https://img.a.example/x", ""),
        ("n=v; max-age=0", "https://img.a.example/x", ""),
        ("n=v; Max-Age=-1", "https://img.a.example/x", ""),
        ("n=v; expires=Thu, 01-Jan-1970 00:00:00 GMT", "https://img.a.example/x", ""),
        ("n=" + "v" * 5000, "https://img.a.example/x", ""),
    ],
)
def test_cookie_reaches_only_what_it_was_set_for(field, url, sent):
    cookies = Cookies()
    cookies.take("https://img.a.example/set", [field])

    assert cookies.of(url) == sent


@pytest.mark.parametrize(
    ("url", "field", "other"),
    [
        ("https://x.github.io/", "n=v; domain=github.io", "https://y.github.io/"),
        ("https://x.co.uk/", "n=v; domain=co.uk", "https://y.co.uk/"),
        ("https://co.uk/", "n=v; domain=co.uk", "https://y.co.uk/"),
        ("https://1.2.3.4/", "n=v; domain=3.4", "https://9.9.3.4/"),
    ],
)
def test_no_cookie_is_set_for_a_whole_suffix(url, field, other):
    cookies = Cookies()
    cookies.take(url, [field])

    assert cookies.of(other) == ""


def test_cookies_are_bounded_and_the_longest_path_comes_first():
    cookies = Cookies()
    cookies.take("https://a.example/p/", ["n=root; path=/", "n=p", "m=1"])
    cookies.take("https://a.example/p/", [f"x{number}=1; path=/other" for number in range(10_000)])

    assert cookies.of("https://a.example/p/1") == "n=p; m=1; n=root"
    assert len(cookies.of("https://a.example/other").split("; ")) < 50


def test_chain_refuses_bad_ports_as_such():
    with pytest.raises(PortRefused):
        chain("http://a.example:25/")


@pytest.mark.parametrize(
    ("url", "locations", "referer", "sent"),
    [
        ("https://a.example/1", ["http://b.example/"], "https://www.a.example/", False),
        ("https://a.example/1", ["http://b.example/"], "http://www.a.example/", True),
        ("https://a.example/1", ["https://b.example/"], "https://www.a.example/", True),
        ("https://a.example/1", ["http://b.example/", "https://c.example/"], "https://www.a.example/", True),
        ("http://a.example/1", ["http://b.example/"], "https://www.a.example/", True),
    ],
)
def test_referer_of_https_is_dropped_on_a_downgrade_to_http(url, locations, referer, sent):
    headers = chain(*locations, url=url).fit({"Referer": referer, "Accept": "*/*"})

    assert headers == ({"Referer": referer, "Accept": "*/*"} if sent else {"Accept": "*/*"})


@pytest.mark.parametrize(
    ("origin", "value"), [("http://a.example", 1), ("http://b.a.example", 2), ("https://c.example", 0)]
)
def test_the_first_pattern_that_matches_gives_the_value(origin, value):
    patterns = [("a.example", 1), ("*.a.example", 2), ("*.b.a.example", 3)]
    table = FirstMatch([(OriginPattern(text), number) for text, number in patterns], 0)

    assert table.of_origin(origin) == value
    assert table.of_host(host_of(origin)) == value


SPELLINGS = {
    "xn--fsqu00a.xn--fiqs8s": ["例子.中国", "XN--FSQU00A.xn--fiqs8s.", "%E4%BE%8B子.中国"],
    "example.com": ["EXAMPLE.com", "ex%61mple.com", "example.com.", "ｅｘａｍｐｌｅ.com"],  # noqa: RUF001 - full width
    "::1": ["[::1]", "::0001", "[0:0:0:0:0:0:0:1]"],
    "127.0.0.1": ["127.1", "0x7f.0.0.1", "2130706433"],
}
EACH = [(host, spelling) for host, spellings in SPELLINGS.items() for spelling in [host, *spellings]]


@pytest.mark.parametrize(("host", "spelling"), EACH)
def test_a_host_that_a_person_names_is_the_one_of_its_links(host, spelling):
    assert parse_host(spelling) == parse_host(f"https://{host if ':' not in host else f'[{host}]'}/a.jpg") == host


@pytest.mark.parametrize(("host", "spelling"), EACH)
def test_a_pattern_matches_its_host_however_it_is_spelled(host, spelling):
    pattern = OriginPattern(spelling)

    assert pattern.matches_host(host)
    assert pattern.matches(f"http://[{host}]:8080" if ":" in host else f"http://{host}:8080")
    assert not pattern.matches_host("other.example")


def test_a_pattern_for_a_host_and_all_below_it_is_read_in_any_spelling():
    pattern = OriginPattern("*.例子.中国")

    assert pattern.matches_host("img.xn--fsqu00a.xn--fiqs8s")


@pytest.mark.parametrize("text", ["", "*", "a b", "a.example:8080", "ftp://a.example", "[::1]:8080", "user@a.example"])
def test_a_text_that_names_no_host_is_refused(text):
    with pytest.raises(InvalidUrl):
        parse_host(text)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("oss.adquan.com", "adquan.com"),
        ("adquan.com", "adquan.com"),
        ("a.b.example.co.uk", "example.co.uk"),
        ("co.uk", None),
        ("someone.github.io", "someone.github.io"),  # the list's private section: other people's sites
        ("d111.cloudfront.net", "d111.cloudfront.net"),
        ("pics.host.invalid-tld", "host.invalid-tld"),  # no rule: the rule is `*`
        ("www.ck", "www.ck"),  # an exception to *.ck
        ("a.b.ck", "a.b.ck"),
        ("oss.adquan.com.", "adquan.com"),
        ("xn--fiqs8s", None),
        ("a.xn--fiqs8s", "a.xn--fiqs8s"),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
        ("localhost", None),
    ],
)
def test_registrable_domain_is_by_the_public_suffix_list(host, domain):
    assert domain == registrable_domain(host)
    assert domain_of(host) == (domain or host)
