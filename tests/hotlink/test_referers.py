import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.hotlink.referers import Referers, place_of
from rehost.http.url import registrable_domain

PICTURE = "https://oss.adquan.com/upload/20200628/159333611702b57de84188551c.png"
PAGE = "https://www.adquan.com/post-2-296041.html"


LEARNING = Referers()


def headers(url, page_url, referers=LEARNING):
    return [referers.header(rule, url, page_url) for rule in referers.chain(url, page_url)]


def test_chain_leads_from_no_referer_to_the_rows_own_page():
    assert LEARNING.chain(PICTURE, PAGE) == ("none", "origin", "site", "page")
    assert headers(PICTURE, PAGE) == [None, "https://oss.adquan.com/", "https://www.adquan.com/", PAGE]


@pytest.mark.parametrize(
    ("url", "page_url", "expected"),
    [
        ("https://www.a.com/1.png", "https://www.a.com/", ["none", "origin"]),
        ("https://www.a.com/1.png", "https://b.com/x", ["none", "origin", "page"]),
        ("https://127.0.0.1:8443/1.png", None, ["none", "origin"]),
        ("https://[2606:4700::1]/1.png", None, ["none", "origin"]),
        ("http://pictures/1.png", None, ["none", "origin"]),
        (PICTURE, "", ["none", "origin", "site"]),
        (PICTURE, "no URL at all", ["none", "origin", "site"]),
        (PICTURE, "javascript:alert(1)", ["none", "origin", "site"]),
        (PICTURE, "file:///etc/passwd", ["none", "origin", "site"]),
    ],
)
def test_no_two_rules_of_a_chain_send_the_same_header(url, page_url, expected):
    assert expected == list(LEARNING.chain(url, page_url))


@pytest.mark.parametrize(
    ("page_url", "sent"),
    [
        ("https://www.adquan.com/a?b=c#top", "https://www.adquan.com/a?b=c"),
        ("https://me:secret@www.adquan.com/a", None),
        ("https://www.adquan.com/广告 案例", "https://www.adquan.com/%E5%B9%BF%E5%91%8A%20%E6%A1%88%E4%BE%8B"),
        ("https://广告.com/", "https://xn--4rr70v.com/"),
        ("https://www.adquan.com/a\r\nX-Evil: 1", None),
        ("//www.adquan.com/a", "https://www.adquan.com/a"),
        ("www.adquan.com/a", None),
    ],
)
def test_page_is_sent_without_fragment_and_credentials(page_url, sent):
    assert sent == LEARNING.header("page", PICTURE, page_url)


def test_https_page_is_not_sent_over_http():
    assert LEARNING.header("page", "http://oss.adquan.com/1.png", PAGE) is None
    assert PAGE.replace("https", "http") == LEARNING.header(
        "page", "http://oss.adquan.com/1.png", PAGE.replace("https", "http")
    )


def test_fixed_value_holds_for_every_origin():
    fixed = Referers("https://www.adquan.com/#x")

    assert headers(PICTURE, PAGE, fixed) == ["https://www.adquan.com/"]
    assert headers(PICTURE, PAGE, Referers("none")) == [None]
    assert headers(PICTURE, PAGE, Referers("site")) == ["https://www.adquan.com/"]


@pytest.mark.parametrize(
    ("pattern", "url", "fits"),
    [
        ("oss.adquan.com", "https://oss.adquan.com/1.png", True),
        ("oss.adquan.com", "http://oss.adquan.com:8080/1.png", True),
        ("oss.adquan.com", "https://file.adquan.com/1.png", False),
        ("*.adquan.com", "https://file.adquan.com/1.png", True),
        ("*.adquan.com", "https://adquan.com/1.png", True),
        ("*.adquan.com", "https://notadquan.com/1.png", False),
        ("https://oss.adquan.com", "https://oss.adquan.com/1.png", True),
        ("https://oss.adquan.com", "http://oss.adquan.com/1.png", False),
        ("https://oss.adquan.com", "https://oss.adquan.com:8443/1.png", False),
        ("https://oss.adquan.com:443", "https://oss.adquan.com/1.png", True),
        ("OSS.adquan.com", "https://oss.adquan.com/1.png", True),
    ],
)
def test_pattern_names_hosts_or_one_origin(pattern, url, fits):
    assert ("page" if fits else None) == Referers(patterns=[(pattern, "page")]).forced(url)


def test_first_pattern_that_fits_wins_and_auto_overrides_the_default():
    referers = Referers("page", [("*.adquan.com", "auto"), ("oss.adquan.com", "none")])

    assert referers.forced(PICTURE) is None
    assert referers.forced("https://elsewhere.com/1.png") == "page"


@given(st.text("ab.1é广 \t\r\n:/@#?%[]\\\x00\x7f<>", max_size=40), st.sampled_from(["http://a.com/1.png", PICTURE]))
def test_header_is_clean_whatever_the_page_url(text, url):
    for page_url in (text, f"https://{text}", f"https://user:{text}@b.com/{text}#{text}"):
        for header in headers(url, page_url):
            if header is not None:
                parts = urlsplit(header)
                assert header.isascii()
                assert header.isprintable()
                assert " " not in header
                assert {"http", "https"} >= {parts.scheme}
                assert (parts.fragment, parts.username, parts.password) == ("", None, None)


def test_suffix_list_is_neither_loaded_early_nor_fetched(monkeypatch):
    loaded = (
        "import sys, rehost.http.url, rehost.hotlink.referers as r; r.Referers(); sys.exit('tldextract' in sys.modules)"
    )
    environment = {"PYTHONPATH": "src", "PATH": ""}
    assert subprocess.run([sys.executable, "-c", loaded], env=environment, check=False).returncode == 0

    monkeypatch.setattr(socket, "socket", None)
    assert registrable_domain("oss.adquan.com") == "adquan.com"


@pytest.mark.parametrize(
    ("final_url", "place"),
    [
        ("https://pics.example/b/c.jpg", "/a/b/"),
        ("http://pics.example:81/c.jpg", "/a/b/"),
        ("https://cdn.pics.example/c.jpg", "/a/b/"),
        ("https://cdn.evil.test/c.jpg", "/a/b/ evil.test"),
        ("https://192.0.2.1/c.jpg", "/a/b/ 192.0.2.1"),
    ],
)
def test_answer_belongs_to_the_folder_and_to_the_site_that_a_redirect_led_to(final_url, place):
    assert place_of("http://pics.example/a/b/c.jpg?d=/e/f", final_url) == place


def test_users_of_a_public_suffix_are_sites_of_their_own():
    assert place_of("https://alice.github.io/a.jpg", "https://bob.github.io/a.jpg") == "/ bob.github.io"
