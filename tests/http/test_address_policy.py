from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.http.address_policy import AddressPolicy, is_address
from rehost.http.errors import AddressRefused

PUBLIC = ["8.8.8.8", "1.1.1.1", "223.255.255.254", "2606:4700::1", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]

NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::8.8.8.8", "::127.0.0.1", "100::1", "fc00::1", "fd00::1", "fe80::1", "fe80::1%eth0", "fec0::1"),
    *("ff02::1", "ff0e::1", "5f00::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1"),
    *("2002:7f00:1::", "2002:808:808::1", "2620:4f:8000::1", "3fff::1", "4000::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
    *("2606:4700::5efe:7f00:1", "2606:4700::200:5efe:808:808"),
    *("", "localhost", "127.1", "0x7f000001"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address):
    assert AddressPolicy().refusal(address) is None


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_any_other_address_is_refused(address):
    with pytest.raises(AddressRefused):
        AddressPolicy().check(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "fd12::1"])
def test_address_in_an_allowed_network_is_allowed(address):
    policy = AddressPolicy((ip_network("127.0.0.0/8"), ip_network("fd12::/16")))

    assert policy.refusal(address) is None


def test_allowed_network_allows_no_other():
    policy = AddressPolicy((ip_network("127.0.0.0/8"),))

    assert policy.refusal("10.0.0.1") is not None
    assert policy.refusal("::1") is not None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_every_private_address_of_the_standard_library_is_refused(address):
    if not address.is_global or address.is_multicast:
        assert AddressPolicy().refusal(str(address)) is not None


@given(st.integers(0, 2**32 - 1).map(IPv4Address), st.sampled_from(["::ffff:{}", "64:ff9b::{}"]))
def test_embedded_ipv4_address_is_judged_like_itself(address, form):
    assert AddressPolicy().refusal(form.format(address)) == AddressPolicy().refusal(str(address))


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_allowed_ipv6_address_is_global(address):
    if AddressPolicy().refusal(str(address)) is None and address.ipv4_mapped is None:
        assert address.is_global


@pytest.mark.parametrize(
    ("host", "answer"), [("127.0.0.1", True), ("::1", True), ("a.example", False), ("a.1", False), ("", False)]
)
def test_addresses_are_distinguished_from_names(host, answer):
    assert is_address(host) is answer
    if answer:
        ip_address(host)
