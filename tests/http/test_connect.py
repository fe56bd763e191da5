import pytest

from rehost.http.connect import Proxies, Proxy, connect_target
from rehost.http.errors import InvalidProxy

PROXY = "http://proxy.example:3128"


def test_empty_environment_has_no_proxy():
    assert Proxies.from_environment({}).proxy_for("https://a.example/") is None


@pytest.mark.parametrize(
    ("environment", "plain", "tls"),
    [
        ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"HTTPS_PROXY": PROXY}, None, PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.example"}, None, PROXY),
        ({"ALL_PROXY": PROXY}, PROXY, PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, None, PROXY),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, None, None),
    ],
)
def test_each_scheme_has_its_variable(environment, plain, tls):
    proxies = Proxies.from_environment(environment)

    assert proxies.proxy_for("http://a.example/") == plain
    assert proxies.proxy_for("https://a.example/") == tls


@pytest.mark.parametrize(
    "entry",
    [
        *("*", "a.example", ".example", "example", "*.example", "b.example,a.example", " a.example ", "A.EXAMPLE"),
        *("a.example:443", ".example:443"),
    ],
)
def test_host_in_no_proxy_is_reached_directly(entry):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("https://a.example/") is None


@pytest.mark.parametrize("entry", ["b.example", "xa.example", "ample", "a.example:8443", "10.0.0.0/8", ""])
def test_other_hosts_are_reached_through_the_proxy(entry):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("https://a.example/") == PROXY


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "10.1.2.3", "10.1.2.3:80", "10.1.2.3/32"])
def test_no_proxy_may_name_networks(entry):
    proxies = Proxies.from_environment({"HTTP_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("http://10.1.2.3/") is None


@pytest.mark.parametrize("entry", ["::1", "[::1]", "[::1]:80", "::/64"])
def test_no_proxy_may_name_ipv6_addresses(entry):
    proxies = Proxies.from_environment({"HTTP_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("http://[::1]/") is None


def test_proxy_of_another_protocol_is_refused():
    with pytest.raises(InvalidProxy, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": "socks5://proxy.example"})


@pytest.mark.parametrize("text", ["socks5://proxy.example", "http://", "http://proxy.example:port", "http://[::1"])
def test_invalid_proxy_is_refused_by_the_name_of_its_variable(text):
    with pytest.raises(InvalidProxy, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": text})


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example", Proxy("proxy.example", 80, is_tls=False)),
        ("https://[::1]:3129/", Proxy("::1", 3129, is_tls=True)),
        (
            "http://me:a%40b@proxy.example:3128",
            Proxy("proxy.example", 3128, is_tls=False, headers={"Proxy-Authorization": "Basic bWU6YUBi"}),
        ),
    ],
)
def test_url_of_a_proxy_has_its_address_and_credentials(url, proxy):
    assert Proxy.of(url) == proxy


@pytest.mark.parametrize(
    ("entry", "target"),
    [
        (("a.example", 443, "127.0.0.1", 8443), ("127.0.0.1", 8443)),
        (("*", 443, "127.0.0.1", 8443), ("127.0.0.1", 8443)),
        (("*", None, "127.0.0.1", None), ("127.0.0.1", 443)),
        (("a.example", None, "", 8443), ("a.example", 8443)),
        (("b.example", 443, "127.0.0.1", 8443), ("a.example", 443)),
        (("a.example", 80, "127.0.0.1", 8443), ("a.example", 443)),
    ],
)
def test_connect_to_entry_applies_where_it_matches(entry, target):
    assert connect_target([entry], "a.example", 443) == target


def test_first_matching_connect_to_entry_decides():
    entries = [("a.example", None, "127.0.0.1", None), ("*", None, "127.0.0.2", None)]

    assert connect_target(entries, "a.example", 80) == ("127.0.0.1", 80)
    assert connect_target(entries, "b.example", 80) == ("127.0.0.2", 80)
