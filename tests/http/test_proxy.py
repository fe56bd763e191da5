import pytest

from rehost.errors import SettingsError
from rehost.http.proxy import Proxies, Proxy

PROXY = "http://proxy.example:3128"


def test_without_a_word_there_is_no_proxy():
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
def test_no_proxy_names_hosts_that_are_reached_directly(entry):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("https://a.example/") is None


@pytest.mark.parametrize("entry", ["b.example", "xa.example", "ample", "a.example:8443", "10.0.0.0/8", ""])
def test_no_proxy_names_no_other_hosts(entry):
    proxies = Proxies.from_environment({"HTTPS_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("https://a.example/") == PROXY


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "10.1.2.3", "10.1.2.3:80", "10.1.2.3/32"])
def test_no_proxy_names_networks(entry):
    proxies = Proxies.from_environment({"HTTP_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("http://10.1.2.3/") is None


@pytest.mark.parametrize("entry", ["::1", "[::1]", "[::1]:80", "::/64"])
def test_no_proxy_names_ipv6_addresses(entry):
    proxies = Proxies.from_environment({"HTTP_PROXY": PROXY, "NO_PROXY": entry})

    assert proxies.proxy_for("http://[::1]/") is None


def test_a_proxy_that_we_cannot_speak_to_is_named():
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": "socks5://proxy.example"})


@pytest.mark.parametrize("text", ["socks5://proxy.example", "http://", "http://proxy.example:port", "http://[::1"])
def test_what_cannot_be_a_proxy_is_refused_by_its_name(text):
    with pytest.raises(SettingsError, match="HTTPS_PROXY"):
        Proxies.from_environment({"HTTPS_PROXY": text})


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example", Proxy("proxy.example", 80, is_tls=False)),
        ("https://[::1]:3129/", Proxy("::1", 3129, is_tls=True)),
        (
            "http://me:a%40b@proxy.example:3128",
            Proxy("proxy.example", 3128, is_tls=False, fields={"Proxy-Authorization": "Basic bWU6YUBi"}),
        ),
    ],
)
def test_a_proxys_url_says_where_it_is_and_who_we_are(url, proxy):
    assert Proxy.of(url) == proxy
