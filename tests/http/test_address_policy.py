import shutil
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehost.http.address_policy import AddressPolicy, is_address, is_own_address, nat64_prefixes, one_per_family
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


def test_own_address_is_refused_unless_its_network_is_allowed():
    own = {"8.8.4.4", "2606:4700::1"}

    def refusals(*allowed):
        policy = AddressPolicy(tuple(map(ip_network, allowed)), is_own=own.__contains__)
        return [policy.refusal(address) for address in ("8.8.4.4", "::ffff:8.8.4.4", "2606:4700::1", "8.8.8.8")]

    assert refusals() == ["this machine's own address"] * 3 + [None]
    assert refusals("8.8.4.4/32", "2606:4700::/64") == [None] * 4


def test_own_addresses_are_known():
    assert [is_own_address(address) for address in ("127.0.0.1", "192.0.2.77", "2606:4700::1", "fe80::1%none", "")] == [
        *(True, False, False, False, False)
    ]


OWN_ADDRESS = """
import subprocess
from ipaddress import ip_network
from rehost.http.address_policy import AddressPolicy
for command in ("link set lo up", "addr add 8.8.4.4/32 dev lo", "addr add 2606:4700::1/128 dev lo nodad"):
    subprocess.run(["ip", *command.split()], check=True)
addresses = "8.8.4.4", "2606:4700::1", "::ffff:8.8.4.4", "64:ff9b::8.8.4.4", "8.8.8.8", "2606:4700::2"
for policy in AddressPolicy(), AddressPolicy((ip_network("8.8.4.4/32"),)):
    print(*[address for address in addresses if policy.refusal(address) is not None])
"""


def test_public_address_of_an_interface_is_refused():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs unshare (util-linux) and ip (iproute2)")
    apart = next(
        (flags for flags in ("-n", "-rn") if not subprocess.run(["unshare", flags, "true"], check=False).returncode),
        None,
    )
    if apart is None:
        pytest.skip("this user may not make a network namespace")

    done = subprocess.run(
        ["unshare", apart, sys.executable, "-c", OWN_ADDRESS], check=True, text=True, timeout=60, capture_output=True
    )

    assert done.stdout.splitlines() == ["8.8.4.4 2606:4700::1 ::ffff:8.8.4.4 64:ff9b::8.8.4.4", "2606:4700::1"]


def test_first_four_permitted_addresses_of_each_family_are_tried():
    ipv4, ipv6 = [f"8.8.8.{n}" for n in range(1, 9)], [f"2606:4700::{n}" for n in range(1, 9)]

    assert AddressPolicy().permitted(["10.0.0.1", *ipv4, "::1", *ipv6]) == ipv4[:4] + ipv6[:4]
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1 \(private use, RFC 1918\), ::1 \(not global"):
        AddressPolicy().permitted(["10.0.0.1", "::1"])


@pytest.mark.parametrize(
    ("addresses", "first"),
    [([], []), (["a", "b"], ["a"]), (["::1", "a", "::2", "b"], ["::1", "a"]), (["a", "::1"], ["a", "::1"])],
)
def test_first_address_of_each_family_keeps_its_place(addresses, first):
    assert one_per_family(addresses) == first


# RFC 6052, section 2.4, table 1, with the address of RFC 7050 in place of 192.0.2.33.
PREFIXES = {
    "2001:db8:c000:aa::": "2001:db8::/32",
    "2001:db8:1c0:0:aa::": "2001:db8:100::/40",
    "2001:db8:122:c000:0:aa00::": "2001:db8:122::/48",
    "2001:db8:122:3c0:0:aa::": "2001:db8:122:300::/56",
    "2001:db8:122:344:c0:0:aa00::": "2001:db8:122:344::/64",
    "2001:db8:122:344::192.0.0.170": "2001:db8:122:344::/96",
    "64:ff9b::c000:ab": "64:ff9b::/96",
}
# The same table: the address 192.0.2.33 behind these prefixes.
EMBEDDED = {
    "2001:db8:c000:221::": "2001:db8::/32",
    "2001:db8:1c0:2:21::": "2001:db8:100::/40",
    "2001:db8:122:c000:2:2100::": "2001:db8:122::/48",
    "2001:db8:122:3c0:0:221::": "2001:db8:122:300::/56",
    "2001:db8:122:344:c0:2:2100::": "2001:db8:122:344::/64",
    "2001:db8:122:344::192.0.2.33": "2001:db8:122:344::/96",
}


@pytest.mark.parametrize(("answer", "prefix"), PREFIXES.items())
def test_nat64_prefix_is_found_in_an_answer(answer, prefix):
    assert nat64_prefixes(["192.0.0.170", answer]) == [IPv6Network(prefix)]


@pytest.mark.parametrize("answer", ["192.0.0.170", "2001:db8::c000:ac", "2001:db8:122:344::192.0.2.33", "::"])
def test_answer_without_the_well_known_address_has_no_prefix(answer):
    assert nat64_prefixes([answer]) == []


@pytest.mark.parametrize(("address", "prefix"), EMBEDDED.items())
def test_address_behind_a_prefix_is_judged_by_the_one_that_it_stands_for(address, prefix):
    refusal = AddressPolicy().refusal(address, [IPv6Network(prefix)])

    assert refusal == "documentation, RFC 5737"
    assert AddressPolicy((ip_network("192.0.2.33/32"),)).refusal(address, [IPv6Network(prefix)]) is None


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
